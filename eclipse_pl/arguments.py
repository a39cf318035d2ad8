"""Checks of arguments, and the choices that a wrong one is near to."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError with the choices unless ``value`` is among them."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}.")


def require_seeds(first: int, count: int) -> None:
    """Check the seeds of ``--seed`` and those after it, ``count`` in all.

    Raises:
        ValueError: torch's generators do not take one of them.
    """
    least, most = -(2**63), 2**64 - count
    if not least <= first <= most:
        raise ValueError(f"--seed is {first}; it must be from {least} to {most}, the seeds of torch.")


def require_whole(name: str, value: int, least: int, hint: str = "") -> None:
    """Raise ValueError with the ``hint`` unless ``value`` is whole and ``least`` or more. In Python 2.5 may be given, too."""
    if not isinstance(value, Integral) or value < least:
        kind = "" if isinstance(value, Integral) else "a whole number, "
        raise ValueError(f"{name} is {value}; it must be {kind}{least} or more{hint}.")


def require_finite(name: str, value: float) -> None:
    """Raise ValueError where ``value`` is nan or infinite, as YAML's ``.nan`` and ``.inf`` are."""
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be a finite number.")


def near(word: str, choices: Iterable[str], count: int = 1) -> str:
    """A sentence with the choices that are spelt like ``word``; empty where none is."""
    found = difflib.get_close_matches(word, list(choices), n=count)
    return f" Near it: {', '.join(found)}." if found else ""


def near_file(path: str) -> str:
    """A sentence with the files of the same folder whose names are spelt like that of ``path``."""
    folder = Path(path).parent
    if not folder.is_dir():
        return near(str(folder), (str(one) for one in folder.parent.glob("*/")))
    return near(Path(path).name, (one.name for one in folder.iterdir()), count=3)
