"""The command line: a function's call from words, with each mistake in one sentence."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from eclipse_pl.arguments import near
from eclipse_pl.class_help import name_classes
from eclipse_pl.path_or_class import take_paths
from eclipse_pl.problems import as_list
from eclipse_pl.usage_error import UNKNOWN, near_class, near_option, sentence

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


@cache
def sentence_parser() -> type[ArgumentParser]:
    """A class of parsers that answer a mistake in one sentence, without the list of all options."""
    from jsonargparse import ArgumentParser

    class SentenceParser(ArgumentParser):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{"allow_abbrev": False, **options})  # otherwise a typo can pass as an abbreviation

        def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
            answer_in_one_sentence(self, sys.argv[1:] if args is None else args)
            name_classes(self)
            take_paths(self)
            return super().parse_args(args, *more, **options)

    return SentenceParser


def call(function: Callable[..., Any], words: Sequence[str] | None, prog: str, **options: Any) -> Any:
    """Call a function with a command line, by default this process's. Its signature is the options, its docstring the help.

    ``options`` are those of jsonargparse's ``auto_cli``.
    """
    from jsonargparse import auto_cli

    words = sys.argv[1:] if words is None else words
    options = {"as_positional": False, **options}
    return auto_cli(function, args=list(words), prog=f"python -m {prog}", parser_class=sentence_parser(), **options)


def answer_in_one_sentence(parser: Any, words: Any, others: Callable[[], list[str]] = list) -> None:
    """Make a parser report a mistake in one sentence. A wrong key is looked up in the files that ``words`` name."""

    def error(self: Any, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            type(self).error(self, message, ex)
        answer = sentence(message, ex, words if isinstance(words, Sequence) else [])
        first, more = f"{answer}{near_option(self, message)}{near_class(self, answer)}", others()
        unknown = UNKNOWN.search(answer)
        keys = next(filter(None, unknown.groups())).split(".") if unknown else []
        if any(f"Key '{key}'" in one for key in keys for one in more):
            first, *more = more  # the first mistake is one of them
        sys.stderr.write(f"error: {as_list([first, *more])}\n")
        raise SystemExit(2)

    parser.error = MethodType(error, parser)


def no_command(word: str, commands: Iterable[str]) -> str:
    """The answer to an unknown command."""
    return f"there is no command {word!r}.{near(word, commands)} The commands are {', '.join(commands)}."


@contextlib.contextmanager
def exit_as_error() -> Iterator[None]:
    """Turn an exit in the block into a ValueError. Nothing is printed in the block.

    Raises:
        ValueError: The error that would have been printed.
    """
    reasons = io.StringIO()
    try:
        with contextlib.redirect_stderr(reasons), contextlib.redirect_stdout(reasons):
            yield
    except SystemExit as stop:
        raise ValueError(" ".join(reasons.getvalue().rpartition("error: ")[2].split())) from stop
