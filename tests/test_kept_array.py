"""Arrays that are computed once: kept, and computed again where the file is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eclipse_pl.kept_array import kept_array


class Counted:
    """Compute an array, and count how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> np.ndarray:
        self.calls += 1
        return np.arange(6, dtype=np.float16).reshape(2, 3)


def test_the_second_time_reads_the_file(tmp_path: Path) -> None:
    compute = Counted()
    first, second = (kept_array(tmp_path / "cache" / "a.npy", compute) for _ in range(2))
    assert compute.calls == 1 and first.dtype == second.dtype == np.float16
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("left", [0, 5, 60, -2])
def test_a_damaged_file_is_computed_again(tmp_path: Path, left: int) -> None:
    path, compute = tmp_path / "a.npy", Counted()
    whole = kept_array(path, compute)
    path.write_bytes(path.read_bytes()[:left])
    np.testing.assert_array_equal(kept_array(path, compute), whole)
    kept_array(path, compute)
    assert compute.calls == 2


def test_nothing_is_kept_of_an_error(tmp_path: Path) -> None:
    def fails() -> np.ndarray:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        kept_array(tmp_path / "a.npy", fails)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
