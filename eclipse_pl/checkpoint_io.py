from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from eclipse_pl.priors.checkpoint import checkpoint_space


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is whole or not there: written beside its place, then renamed.

    Lightning's own writes to the temporary folder, and where that lies on another disk copies over the old checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f"{place.name}.part")
        try:
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


TRAINING_STATE = ("loops", "callbacks", "optimizer_states", "lr_schedulers", "validation_owed", "metrics_rows")


def require_own(content: dict[str, Any], path: Path, resumes: bool) -> None:
    """Raise ValueError where ``content`` was not written by a fit of ours, or ``resumes`` and it holds weights alone."""
    checkpoint_space(content, path)
    lacks = [name for name in ("global_step", "pytorch-lightning_version") if name not in content]
    if lacks:
        raise ValueError(f"{path} was not written by eclipse_pl: it lacks {' and '.join(lacks)}.")
    if resumes and any(name not in content for name in TRAINING_STATE):
        raise ValueError(
            f"{path} holds weights, and not the state of a training that could be resumed. Begin a new one with them: leave "
            f"--ckpt_path out, and set model.prior.init_args.weights to {path}."
        )
