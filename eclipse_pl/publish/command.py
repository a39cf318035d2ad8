"""python -m eclipse_pl publish: a trained prior with its model card, as a folder, a repository of the hub, or an artifact."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from eclipse_pl.command_line import call
from eclipse_pl.commands.export import export, require_empty
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.publish.artifact import Artifact
from eclipse_pl.publish.card import ModelCard
from eclipse_pl.publish.hub import upload
from eclipse_pl.publish.space import require_space, write_space

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def publish(
    prior: str,
    to: str,
    license: str,
    data_license: str | None = None,
    beside: Sequence[str] = (),
    base: str | None = None,
    encoder: Encoder | None = None,
    private: bool = False,
    demo: bool = False,
) -> None:
    """Give a trained prior to other people: weights for diffusers, and a model card from the run's own files.

    The card says what the prior is, its data, recipe, tables, scorecards, images, time, how to load it, and what may not be
    concluded from its numbers. The same command after a dropped connection sends what is missing. A repository changes in one
    commit, when all files have arrived.

    Args:
        prior: Folder of a run that has finished.
        to: A repository of the hub (USER/NAME), an artifact of Weights & Biases (wandb:ENTITY/PROJECT/NAME), or a new folder
            (./NAME, or any path that begins with ``/``, ``.`` or ``~``).
        license: Licence of the weights, as the hub names it: ``mit``, ``apache-2.0``, ``cc-by-4.0``, ``other``.
        data_license: What you know about the licence of the training pairs, in words.
        beside: Runs of other seeds, baselines, and folders of ``benchmark``, whose rows stand in the card's tables too. Those
            that cannot be compared fairly are marked, and the card says why.
        base: As in ``export``.
        encoder: As in ``export``.
        private: Create a private repository; one that exists and is public is refused.
        demo: Write the live demo beside it: the folder runs as a hosted Space, and by ``python app.py``.
    """
    artifact = Artifact.named(to)
    repository = None if artifact else repository_of(to)
    target = None if artifact or repository else Path(to).expanduser()
    if private and repository is None:
        raise ValueError(f"--private is for a repository of the hub, and --to {to} is none. Leave it out.")
    if artifact is not None:
        artifact.mode()  # before the export, which takes longer
    if target is not None:
        require_empty(target, f"--to {to}")
    card = ModelCard.of(prior, license, data_license, beside, repository or Path(to).name)
    if demo:
        require_space(card, to, repository)
    parent = Path(tempfile.gettempdir()) if target is None else target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".publish.", dir=parent) as temporary:
        folder = Path(temporary) / "prior"
        with contextlib.redirect_stdout(io.StringIO()):  # what it says of this folder is said below of the target
            export(prior, str(folder), base, encoder)
        card.write(folder)
        if demo:
            write_space(card, folder)
        if repository is not None:
            print(upload(folder, repository, private))
            return
        if artifact is not None:
            metadata = {"prior": card.class_name, "space": card.space["name"], "license": license}
            print(artifact.log(folder, card.run.folder, card.run.config, metadata))
            return
        assert target is not None
        if target.is_dir():
            target.rmdir()
        shutil.move(folder, target)
        print(f"{target}: {card.title}. Read README.md before you give it to others.")


def repository_of(to: str) -> str | None:
    """USER/NAME where ``to`` names a repository of the hub, None where it names a folder.

    Raises:
        ValueError: It may be either.
    """
    if to.startswith(("/", ".", "~")):
        return None
    if not HUB_ID.fullmatch(to):
        raise ValueError(f"--to {to} is no repository (USER/NAME). Write a folder as ./{to}.")
    if Path(to).parent.is_dir():
        raise ValueError(
            f"--to {to} may be a repository of the hub, or a folder in {Path(to).parent}/. Write a folder as ./{to}."
        )
    return to


def main(args: list[str] | None = None) -> None:
    call(publish, args, "eclipse_pl publish")
