"""Quantities in words: bytes, durations and rates, each in the unit that suits it."""

from __future__ import annotations


def in_bytes(count: float) -> str:
    """Bytes in the unit that suits them, of 1,000 each."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 999.5 * size else f"{count / size:,.0f} {unit}"
    return f"{count:.0f} B"


def per_second(seconds: float) -> str:
    """The rate of what takes ``seconds``, to three digits."""
    return f"{1 / seconds:,.0f}" if seconds < 0.01 else f"{1 / seconds:.3g}"


def in_hours(seconds: float) -> str:
    """A duration in hours, or in minutes below one."""
    hours = seconds / 3600
    return f"{seconds / 60:.2g} min" if hours < 1 else f"{hours:,.1f} h" if hours < 100 else f"{hours:,.0f} h"
