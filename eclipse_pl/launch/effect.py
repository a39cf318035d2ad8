"""Which options of an engine have an effect, and their ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OF_LOCAL, OF_RAY = ("jobs",), ("ray_address", "cpus", "gpus")
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "tasks": (lambda number: number >= 1, "1 or more"),
    "jobs": (lambda number: number >= 1, "1 or more"),
    "cpus": (lambda number: number > 0, "more than 0"),
    "gpus": (lambda number: number >= 0, "0 or more"),
}


def require_effect(engine: str | None, **options: object) -> None:
    """Check that no option is ignored, and that something can run.

    Args:
        engine: "local", "ray", or None for a command that makes no tasks.
        options: Options of the engines by name; None where they are not given.

    Raises:
        ValueError: An option has no effect with this engine, or is out of its range.
    """
    effective = {"local": ("tasks", *OF_LOCAL), "ray": ("tasks", *OF_RAY)}.get(engine or "", ())
    given = next((name for name, value in options.items() if value is not None and name not in effective), None)
    if given is not None:
        where = f"with --engine {engine}" if engine else "without --engine local or --engine ray"
        raise ValueError(f"--{given.replace('_', '-')} has no effect {where}: leave it out.")
    for name, value in options.items():
        possible, what = RANGES.get(name, (lambda number: True, ""))
        if value is not None and not possible(value):
            raise ValueError(f"--{name} is {value}; it must be {what}.")
