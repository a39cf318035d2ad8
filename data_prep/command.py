"""How a function becomes a command: its signature is the command line, its docstring the help."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_type_hints

from eclipse_pl.files import require_utf8


def run(function: Callable[..., Any], args: list[str], **defaults: Any) -> Any:
    """Call ``function`` with the options in ``args``.

    ``--batch-size`` may be written for ``--batch_size``. Several words after an option are a list: a shell expands
    ``--source raw/*.tar`` to such words. An option that is true or false is true where it has no value. ``defaults`` are
    values that the signature cannot know, such as the command line itself.
    """
    from eclipse_pl.command_line import call

    flags = {name for name, kind in get_type_hints(function).items() if kind is bool}
    return call(function, _options(args, flags), f"data_prep {command_name(function)}", set_defaults=defaults)


def command_line(function: Callable[..., Any], args: list[str]) -> str:
    """The command line that runs this again.

    Raises:
        ValueError: A word is not UTF-8. The manifest, which is written last, could not keep it.
    """
    for word in args:
        require_utf8(word, "The name")
    return shlex.join(["python", "-m", "data_prep", command_name(function), *args])


def command_name(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", "-")


def _options(args: list[str], flags: set[str]) -> list[str]:
    written: list[str] = []
    starts = [place for place, word in enumerate(args) if word.startswith("--")]
    written += args[: starts[0]] if starts else args
    for start, end in pairwise([*starts, len(args)]):
        name, equals, value = args[start].partition("=")
        name = name[2:].replace("-", "_")
        words = ([value] if equals else []) + args[start + 1 : end] or ["true"] * (name in flags)
        written.append(f"--{name}")
        written += words if len(words) < 2 else [json.dumps(words, ensure_ascii=False)]
    return written
