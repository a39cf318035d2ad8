"""The part of a sweep's command that eclipse_pl runs. Reading it imports nothing of torch."""

from __future__ import annotations

from collections.abc import Sequence

MODULES = {
    "fit": "eclipse_pl.cli",
    "validate": "eclipse_pl.cli",
    "test": "eclipse_pl.cli",
    "benchmark": "eclipse_pl.commands.benchmark",
}
"""What a sweep can run, and the module of that command, which takes seconds to import."""


def swept_words(command: Sequence[str]) -> list[str]:
    """``fit`` and everything after it.

    Raises:
        ValueError: The command runs another program.
    """
    for place in range(2, len(command)):
        if list(command[place - 2 : place]) == ["-m", "eclipse_pl"] and command[place] in MODULES:
            return list(command[place:])
    raise ValueError(f"the command must run `-m eclipse_pl {'|'.join(MODULES)} ...`, and is {' '.join(command)}")
