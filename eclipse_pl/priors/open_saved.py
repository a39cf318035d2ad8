from __future__ import annotations

from eclipse_pl.priors.checkpoint import SavedRun, find_checkpoint
from eclipse_pl.priors.released import read_released
from eclipse_pl.priors.saved import SavedPrior


def open_saved(source: str) -> SavedPrior:
    """A prior by name.

    Args:
        source: the folder of a run or one of its checkpoints (any prior), or a folder or hub id that `export`, diffusers'
            ``PriorTransformer`` or ECLIPSE's authors published (see `released`).

    Raises:
        ValueError: there is no such prior.
    """
    checkpoint = find_checkpoint(source)
    return read_released(source) if checkpoint is None else SavedRun(checkpoint, source)
