from __future__ import annotations

from eclipse_pl.priors.checkpoint import SavedRun, find_checkpoint
from eclipse_pl.priors.released import read_released
from eclipse_pl.priors.saved import SavedPrior


def open_saved(source: str) -> SavedPrior:
    """Open the prior that ``source`` names.

    Args:
        source: The folder of a run or one of its checkpoints (any prior), or the folder or hub id of a released prior: one
            that `export` wrote, diffusers' ``PriorTransformer``, or one by ECLIPSE's authors (see `released`).

    Raises:
        ValueError: No such prior was found.
    """
    checkpoint = find_checkpoint(source)
    return read_released(source) if checkpoint is None else SavedRun(checkpoint, source)
