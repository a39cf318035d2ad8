"""How a function becomes a command: its signature is the command line, its docstring the help."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any


def run(function: Callable[..., Any], args: list[str], **defaults: Any) -> Any:
    """Call ``function`` with the options in ``args``; ``--batch-size`` may be written for ``--batch_size``.

    ``defaults`` are those that the signature cannot know, such as the command line itself.
    """
    from jsonargparse import auto_cli

    written = [_underscored(word) if word.startswith("--") else word for word in args]
    prog = f"python -m data_prep {command_name(function)}"
    return auto_cli(function, args=written, as_positional=False, set_defaults=defaults, prog=prog)


def command_line(function: Callable[..., Any], args: list[str]) -> str:
    """What to type to run this again."""
    return shlex.join(["python", "-m", "data_prep", command_name(function), *args])


def command_name(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", "-")


def _underscored(word: str) -> str:
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value
