"""Which options of an engine have an effect."""

from __future__ import annotations

OF_LOCAL, OF_RAY = ("jobs",), ("ray_address", "cpus", "gpus")


def require_effect(engine: str | None, **options: object) -> None:
    """Check that no option is ignored.

    Args:
        engine: "local", "ray", or None for a command that makes no tasks.
        options: Options of the engines by name; None where they are not given.

    Raises:
        ValueError: An option has no effect with this engine.
    """
    effective = {"local": ("tasks", *OF_LOCAL), "ray": ("tasks", *OF_RAY)}.get(engine or "", ())
    given = next((name for name, value in options.items() if value is not None and name not in effective), None)
    if given is not None:
        where = f"with --engine {engine}" if engine else "without --engine local or --engine ray"
        raise ValueError(f"--{given.replace('_', '-')} has no effect {where}: leave it out.")
