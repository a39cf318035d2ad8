"""A folder as an artifact of Weights & Biases."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PREFIX = "wandb:"
PLACE = re.compile(r"(?:([\w.-]+)/)?([^/\\#?%:\s]{1,128})/([\w.-]{1,128})", re.ASCII)


@dataclass(frozen=True)
class Artifact:
    """Where on Weights & Biases a prior is logged, as an artifact of the type ``model``.

    `publish` logs it, and `fit` does not: a prior is worth a version of an artifact when its scorecards are there, and they
    come after training. Without an account at that time nothing of the training is lost, and any finished run can be logged,
    whatever its ``run.wandb`` was. The job that logs it is a run of its own: the history of the training stays as it is.
    """

    entity: str | None
    """A user or a team; None is the account's own."""
    project: str
    name: str

    @classmethod
    def named(cls, to: str) -> Artifact | None:
        """The artifact that ``wandb:ENTITY/PROJECT/NAME`` names; None for a text that does not begin with ``wandb:``.

        Raises:
            ValueError: The rest is no such name.
        """
        if not to.startswith(PREFIX):
            return None
        found = PLACE.fullmatch(to.removeprefix(PREFIX))
        if found is None:
            raise ValueError(
                f"--to {to} names no artifact. Write wandb:PROJECT/NAME or wandb:ENTITY/PROJECT/NAME; NAME has letters, "
                "digits, '-', '_' and '.'."
            )
        return cls(*found.groups())

    @property
    def path(self) -> str:
        return "/".join(filter(None, (self.entity, self.project, self.name)))

    def mode(self) -> Literal["online", "offline"]:
        """``online``, or ``offline`` where WANDB_MODE says so.

        Raises:
            ValueError: There is no account, or its server does not answer, or WANDB_MODE turns Weights & Biases off.
        """
        from eclipse_pl.training.wandb_account import answers, has_wandb_account, server

        mode = os.environ.get("WANDB_MODE", "online")
        later = "WANDB_MODE=offline keeps the artifact on this machine for `wandb sync`"
        if mode not in ("online", "offline"):
            raise ValueError(f"WANDB_MODE is {mode}, so nothing can be published on Weights & Biases. Unset it; {later}.")
        if mode == "online" and not has_wandb_account():
            raise ValueError(f"There is no account of Weights & Biases on this machine. Run `wandb login`; {later}.")
        if mode == "online" and not answers(server()):
            raise ValueError(f"Weights & Biases ({server()}) does not answer. Nothing was published. {later}.")
        return "online" if mode == "online" else "offline"

    def log(self, folder: Path, run: Path, config: dict[str, Any], metadata: dict[str, Any]) -> str:
        """Log all files of a folder; return what a reader types next.

        Args:
            folder: What the artifact holds.
            run: Folder of the prior's run. The artifact has its name as an alias, beside ``latest``.
            config: The run's config, for the table of runs.
            metadata: Facts that stand beside the artifact.

        Raises:
            ValueError: Weights & Biases does not take it. Then it has no such version.
        """
        mode = self.mode()
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        run = run.resolve()
        training = run / "wandb.id"
        facts = {**metadata, "training_run": training.read_text() if training.is_file() else None}
        artifact = wandb.Artifact(
            self.name, type="model", metadata={key: one for key, one in facts.items() if one is not None}
        )
        artifact.add_dir(str(folder))
        job = None
        try:
            job = wandb.init(
                entity=self.entity,
                project=self.project,
                job_type="publish",
                name=f"{run.parent.name}/{run.name}",
                config=config,
                dir=str(run),
                mode=mode,
                settings=wandb.Settings(silent=True, console="off"),
            )
            logged = job.log_artifact(artifact, aliases=["latest", alias_of(run)])
            if mode == "online":
                logged.wait()
        except (wandb.Error, ValueError, OSError) as error:
            reason = " ".join(re.sub(r"<[^>]*>", " ", str(error)).split())[:200]  # a server may answer with a page
            raise ValueError(
                f"Weights & Biases does not take {self.path} ({reason}). Nothing was published; the same command tries again."
            ) from error
        finally:
            if job is not None:
                job.finish()
        if mode == "offline":
            return f"wandb sync {Path(job.settings.sync_dir)}"
        return f"wandb artifact get {self.path}:{alias_of(run)} --root {self.name}"


def alias_of(run: Path) -> str:
    """``EXPERIMENT-VERSION``, by which a version of the artifact is found among those of other runs."""
    return re.sub(r"[^\w.-]", "-", f"{run.parent.name}-{run.name}")
