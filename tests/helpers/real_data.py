"""Files of other people that are too large or not ours to keep here; CONTRIBUTING.md says where they come from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

RealData = Callable[[str], Path]
"""What the fixture ``real_data`` is: the path of a file or folder by its name."""
VARIABLE = "ECLIPSE_PL_TEST_DATA"
"""Names the folder of these files; without it, `shared/data` beside the checkout."""


def find_real_data(name: str) -> Path:
    """A file or folder of the real data; the test is skipped where it is absent."""
    path = Path(os.environ.get(VARIABLE) or Path(__file__).parents[3] / "shared" / "data") / name
    if not path.exists():
        pytest.skip(f"{name} is not at {path}: CONTRIBUTING.md says where it comes from; {VARIABLE} names the folder")
    return path
