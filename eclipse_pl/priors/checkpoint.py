"""SavedRun: the prior of a run of ours, in a checkpoint and the config.yaml of the run's folder."""

from __future__ import annotations

import pickle
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.priors.prior import Prior, TrainingData, without_weights
from eclipse_pl.priors.saved import SavedPrior, require_numbers, require_same_weights


class SavedRun(SavedPrior):
    """The prior of a run. Its checkpoint holds weights and space. Only to build it, the config in the run's folder is needed.

    Args:
        checkpoint: The file.
        source: How the user called it; by default the file.
    """

    space: ClipSpace

    def __init__(self, checkpoint: Path, source: str | None = None) -> None:
        self.source = source or str(checkpoint)
        self.checkpoint = checkpoint
        self.content = read_checkpoint(checkpoint)
        self.space = checkpoint_space(self.content, self.source)
        self.dim = self.space.dim
        self.trained_for = self.content.get("trained_for", {})
        self.training_data = training_data_of(self.content)

    @property
    def stated_in(self) -> str:
        config = self.checkpoint.parent.parent / "config.yaml"
        return str(config if config.is_file() or "prior" not in self.content else self.checkpoint)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What ran.

        Raises:
            ValueError: There is no such file, or it is no config of a run.
        """
        path = Path(self.stated_in)
        if not path.is_file():
            raise ValueError(f"There is no {path}, which names the class of the prior in {self.checkpoint}.")
        return read_config(path)

    @property
    def part(self) -> dict[str, Any]:
        if self.stated_in == str(self.checkpoint):  # trained without the command line
            part = _without_collected(self.content["prior"])
        else:
            model = self.config.get("model")
            part = model.get("prior") if isinstance(model, dict) else None
        if not isinstance(part, dict) or not isinstance(part.get("init_args") or {}, dict) or "class_path" not in part:
            raise ValueError(f"{self.stated_in} names no prior (model.prior.class_path).")
        arguments = part.get("init_args") or {}
        return {**part, "init_args": without_weights(arguments)}

    @property
    def data_folder(self) -> str:
        """The set of shards that it trained on."""
        if self.stated_in == str(self.checkpoint):
            raise ValueError(
                f"{self.source} was trained without the command line, so there is no config.yaml that names its set of shards."
            )
        data = self.config.get("data")
        arguments = data.get("init_args") if isinstance(data, dict) else None
        folder = arguments.get("folder") if isinstance(arguments, dict) else None
        if not isinstance(folder, str):
            raise ValueError(f"{self.stated_in} names no set of shards (data.init_args.folder).")
        return folder

    def load_into(self, prior: Prior) -> None:
        tensors = {key.removeprefix("prior."): value for key, value in self.content["state_dict"].items()}
        tensors = self._completed(prior, tensors)
        name = f"The weights {self.source}"
        require_same_weights(prior.state_dict(), tensors, name)
        # a buffer, such as a mask, may well hold infinity
        require_numbers(tensors, name, frozenset(key for key, _ in prior.named_buffers()))
        prior.load_state_dict(tensors)


def _without_collected(part: Any) -> Any:
    """Without what an earlier checkpoint of a plain Trainer states twice: each option by its name, and all as ``options``."""
    arguments = part.get("init_args") if isinstance(part, dict) else None
    if not isinstance(arguments, dict) or not isinstance(options := arguments.get("options"), dict):
        return part
    named = {name: value for name, value in arguments.items() if name != "options"}
    return {**part, "init_args": named} if options.keys() <= named.keys() else part


def read_config(path: Path) -> dict[str, Any]:
    """The groups of a run's config.yaml.

    Raises:
        ValueError: The file is no YAML, or holds no groups.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no config of a run: it holds no groups.")
    return config


def find_checkpoint(source: str) -> Path | None:
    """The checkpoint that ``source`` names; None where it is neither a checkpoint nor the folder of a run.

    The folder of a run stands for its ``last.ckpt``, that of a plain Trainer (``lightning_logs/version_0``) for its only
    checkpoint.

    Raises:
        ValueError: The run has no checkpoint yet, a plain Trainer wrote several, or ``source`` holds runs and is none.
    """
    path = Path(source).expanduser()
    if path.suffix == ".ckpt" and path.is_file():
        return path
    last = path / "checkpoints" / "last.ckpt"
    if last.is_file():
        return last
    if (path / "config.yaml").is_file():
        raise ValueError(f"The run {source} has no checkpoint: there is no {last}. Train it further, or name a checkpoint.")
    written = sorted(last.parent.glob("*.ckpt"))
    if len(written) > 1:
        raise ValueError(f"{source} holds {len(written)} checkpoints. Name one of them: {', '.join(map(str, written))}.")
    require_one_run(path, source)
    return written[0] if written else None


def require_one_run(folder: Path, source: str) -> None:
    """Raise ValueError for the folder of an experiment, which holds the folders of its runs."""
    if runs := sorted(str(config.parent) for config in folder.glob("*/config.yaml")):
        more = f", and {len(runs) - 3} more" if len(runs) > 3 else ""
        raise ValueError(f"{source} holds runs, and is none itself. Name one of them: {', '.join(runs[:3])}{more}.")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, tensors left in the file until they are used; nothing is ever unpickled."""
    try:
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except (FileNotFoundError, PermissionError):
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:  # OSError is torch's for a file that was cut
        raise ValueError(
            f"{path} cannot be read safely: it is damaged, or holds pickled objects, which are never loaded."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict) or "space" not in content:
        raise ValueError(f"{path} was not written by eclipse_pl: it holds no weights of a prior, or names no CLIP space.")
    return content


def checkpoint_space(content: dict[str, Any], name: str | Path) -> ClipSpace:
    """The space that a checkpoint of ours names."""
    try:
        return ClipSpace.from_state(content["space"]["tensors"], content["space"]["identity"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name} was not written by eclipse_pl: its CLIP space is no such thing ({error}).") from error


def training_data_of(content: dict[str, Any]) -> TrainingData:
    """What the weights of a checkpoint were trained on; nothing where it does not say so."""
    return list(content.get("training_data", []))
