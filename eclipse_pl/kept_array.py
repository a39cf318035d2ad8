"""An array that is computed once, and kept in a file for all later runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock

from eclipse_pl.files import atomic_path


def kept_array(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in ``path``, or else that of ``compute``, which is then kept there.

    Only one of several processes computes it; the others wait. A file that cannot be read is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        with suppress(FileNotFoundError, EOFError, ValueError):
            kept: np.ndarray = np.load(path, allow_pickle=False)
            return kept
        array = compute()
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, array)
        return array
