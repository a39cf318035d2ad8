"""Error messages of the command line: one sentence with the key, its file and its line."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import io
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from numbers import Integral
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from eclipse_pl.class_help import classes_of, name_classes
from eclipse_pl.path_or_class import take_paths

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

MOST_BYTES = 1 << 20
"""Larger files are data, such as MSCOCO's captions, which take minutes as YAML."""
LOOP = "Config file loop detected"
NOISE = (
    re.compile(r"Does not validate against any of the Union subtypes"),
    re.compile(r"Subtypes: .*"),
    re.compile(r"Errors:"),
    re.compile(r"Given value( type)?: .*"),
    re.compile(r"(- )?Expected a <class 'NoneType'>(\. Got value: .*)?"),
    re.compile(r"tip: .*"),
)
KEY = re.compile(r'Parser key "([^"]+)"( element \d+)?:')
CLASS = re.compile(r"Problem with given class_path '([^']+)':")
UNKNOWN = re.compile(
    r"(?:Option|Key) '([^']+)' is not (?:accepted|expected)|does not accept option '([^']+)'"
    r"|Unrecognized arguments?: *--([^\s=]+)"
)
FILLING = re.compile(
    r"Type \S+\[.*\] expects a function or a callable class: |\. Got value: Namespace\(.*\)|in \"<unicode string>\", "
)
NO_CONFIG = re.compile(r"(?:config: )?File does not exist: '([^']+)'")
NO_FILE = re.compile(r"Expected a path but (.*) either not accessible or invalid")
NO_PATH = re.compile(r"Expected a dot import path string: (\S+)")
NO_NAME = re.compile(r"([\w.]+): there is no class (\w+); write")
NO_CLASS = re.compile(r"(?:has no attribute|Unexpected import path format:?|No module named) '?([^'\s]+)'?")


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


def near(word: str, choices: Iterable[str], count: int = 1) -> str:
    """A sentence with the choices that are spelt like ``word``; empty where none is."""
    found = difflib.get_close_matches(word, list(choices), n=count)
    return f" Near it: {', '.join(found)}." if found else ""


def no_command(word: str, commands: Iterable[str]) -> str:
    """The answer to an unknown command."""
    return f"there is no command {word!r}.{near(word, commands)} The commands are {', '.join(commands)}."


def near_file(path: str) -> str:
    """A sentence with the files of the same folder whose names are spelt like that of ``path``."""
    folder = Path(path).parent
    if not folder.is_dir():
        return near(str(folder), (str(one) for one in folder.parent.glob("*/")))
    return near(Path(path).name, (one.name for one in folder.iterdir()), count=3)


def near_option(parser: Any, message: str) -> str:
    """A sentence with the option of the parser that is spelt like an unknown one."""
    unknown = re.search(r"[Uu]nrecognized arguments?: (--[^\s=]+)", message)
    return near(unknown[1], parser._option_string_actions) if unknown else ""


def near_class(parser: Any, answer: str) -> str:
    """A sentence with the class of the option that is spelt like an unknown one."""
    unknown = NO_NAME.match(answer)
    helps = (one for one in parser._actions if unknown and f"--{unknown[1]}.help" in one.option_strings)
    bases = [base for one in helps for base in getattr(one, "_help_types", ())]
    choices = {path.rpartition(".")[2]: path for base in bases for path, _ in classes_of(base)}
    found = difflib.get_close_matches(unknown[2], choices, n=1) if unknown else []
    return f" Near it: {choices[found[0]]}." if found else ""


class SeveralProblems(ValueError):
    """Problems that were found together. ``found`` holds the sentence of each."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(as_list(found))
        self.found = found


class Problems:
    """All that is wrong with a request, found before the work begins and reported at once."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.reported = False

    @contextlib.contextmanager
    def noted(self, remedy: str = "") -> Iterator[None]:
        """Keep the message of a ValueError in the block, followed by ``remedy``."""
        try:
            yield
        except ValueError as error:
            reason = reason_of(error)
            found = reason.found if isinstance(reason, SeveralProblems) else [str(reason)]
            self.found += [f"{one}{remedy}" for one in found]

    def report(self) -> None:
        """Raise one ValueError with all problems, one a line; do nothing where there are none."""
        found = list(dict.fromkeys(self.found))
        self.reported = bool(found)
        if found:
            raise SeveralProblems(found)


def as_list(problems: Sequence[str]) -> str:
    """One problem unchanged; several as a list, one a line."""
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} problems:", *(f"  - {problem}" for problem in problems)])


def reason_of(error: ValueError) -> ValueError:
    """The error of a part's constructor, where jsonargparse wrapped it into the list of all types that it tried."""
    cause: BaseException | None = error
    while isinstance(cause, ValueError) and _raised_in(cause, "jsonargparse"):
        cause = cause.__cause__
    return cause if isinstance(cause, ValueError) else error


def _raised_in(error: BaseException, library: str) -> bool:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and f"/{library}/" in place.tb_frame.f_code.co_filename.replace("\\", "/")


def sentence(message: str, error: BaseException | None, words: Sequence[str]) -> str:
    """The error, its key and its file, from the nested list of all types that were tried."""
    if missing := NO_CONFIG.search(message):
        absolute = Path(missing[1])
        path = str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)
        return f"there is no file {path}.{near_file(path)}"
    message = without_loop(message, error)
    files = config_files(words)
    keys: list[str] = []
    reasons: list[str] = []
    kind = ""
    for line in message.splitlines():
        text = line.strip().removeprefix("- ").strip()
        if not text or any(noise.fullmatch(text) for noise in NOISE):
            continue
        text = NO_PATH.sub(r"there is no class \1; write its import path, such as package.module.Class", FILLING.sub("", text))
        if key := KEY.match(text):
            keys.append(key[1] + (key[2] or ""))
            text = text[key.end() :].strip()
        elif found := CLASS.match(text):
            kind, text = found[1], text[found.end() :].strip()
        if text and text not in reasons:
            reasons.append(text)
    reasons = useful_reasons(reasons)
    if keys and not kind and any(map(UNKNOWN.search, reasons)):
        kind = class_of(keys[-1], words, files)
    of = f" of {kind.rpartition('.')[2]}" if kind else ""
    head = f"{'.'.join(keys)}{of}: " if keys or of else ""
    reason = "; ".join(reasons)
    return f"{head}{reason.rstrip('.')}{hint(reason, kind)}{place(reason, keys, kind, files)}."


def useful_reasons(reasons: list[str]) -> list[str]:
    """Drop reasons of no use: a word was tried as a path, as the content of that file, and as a class."""
    for path in [found[1] for found in map(NO_FILE.fullmatch, reasons) if found]:
        if Path(path).suffix in (".yaml", ".yml", ".json") and not Path(path).is_file():
            return [f"there is no file {path}.{near_file(path)}".rstrip(".")]
    no_use = [text for text in reasons if NO_FILE.fullmatch(text) or text == "Expected a <class 'str'>"]
    return [text for text in reasons if text not in no_use] or reasons


def without_loop(message: str, error: BaseException | None) -> str:
    """jsonargparse reads a part that it refuses once more, as a path, and calls that a loop; the reason comes before."""
    if LOOP not in message:
        return message
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    before = [each for each in chain if LOOP not in str(each) and isinstance(each, ValueError | TypeError)]
    head = message.partition(LOOP)[0]
    return f"{head}{before[0]}" if before else message


def hint(reason: str, kind: str) -> str:
    """The options of the class that are near to an unknown one, or the classes of the module that are near to the class."""
    module, _, name = kind.rpartition(".")
    if "has no attribute" in reason and module in sys.modules:
        classes = [one for one, found in vars(sys.modules[module]).items() if isinstance(found, type)]
        return near(name, classes).replace(" Near it", "; near it").rstrip(".")
    unknown = UNKNOWN.search(reason)
    if unknown is None or not kind:
        return ""
    known = options_of(kind) or set()
    found = difflib.get_close_matches(unknown_name(unknown, kind), sorted(known), n=1)
    return f"; near it: {found[0]}" if found else ""


def options_of(kind: str) -> set[str] | None:
    """The options of a class and of its bases; None where they cannot be found."""
    try:
        module, _, name = kind.rpartition(".")
        bases = inspect.getmro(getattr(importlib.import_module(module), name))
        return {option for base in bases for option in inspect.signature(base).parameters}
    except (ImportError, AttributeError, ValueError, TypeError):
        return None


def class_of(key: str, words: Sequence[str], files: list[Path]) -> str:
    """The ``class_path`` that a command line or its files give for a key; empty where there is none."""
    import yaml

    for word in reversed([str(word) for word in words]):
        option, _, value = word.partition("=")
        if option in (f"--{key}", f"--{key}.class_path"):
            return value
    for path in reversed(files):
        with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):
            for name, value in entries(yaml.compose(path.read_text(encoding="utf-8"))):
                if name.value == key.rpartition(".")[2] and isinstance(value, yaml.MappingNode):
                    stated = {one.value: other.value for one, other in value.value}
                    if "class_path" in stated:
                        return str(stated["class_path"])
    return ""


def unknown_name(unknown: re.Match[str], kind: str) -> str:
    """The unknown part of a dotted key: the first part if a class is known, else the last."""
    path = next(filter(None, unknown.groups())).split(".")
    return path[0] if kind else path[-1]


def config_files(words: Sequence[str]) -> list[Path]:
    """The YAML files that a command line names, and those that they name."""
    import yaml

    waiting = [Path(word.partition("=")[2] if word.startswith("--") and "=" in word else word) for word in map(str, words)]
    found: list[Path] = []
    while waiting:
        path = waiting.pop(0)
        if path.suffix not in (".yaml", ".yml", ".json") or not path.is_file() or path in found:
            continue
        if path.stat().st_size > MOST_BYTES:
            continue
        found.append(path)
        with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):
            values = [value for _, value in entries(yaml.compose(path.read_text(encoding="utf-8")))]
            waiting += [path.parent / value.value for value in values if isinstance(value, yaml.ScalarNode)]
    return found


def entries(node: Any) -> Iterator[tuple[Any, Any]]:
    """All keys of a YAML with their values, at whatever depth."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key, value
            yield from entries(value)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from entries(child)


def place(reason: str, keys: list[str], kind: str, files: list[Path]) -> str:
    """The file and line of a key, or the file that is no YAML."""
    import yaml

    unknown, no_class = UNKNOWN.search(reason), NO_CLASS.search(reason)
    name = unknown_name(unknown, kind) if unknown else None
    leaf = re.sub(r" element \d+$", "", keys[-1]).rpartition(".")[2] if keys else None
    for path in reversed(files):  # the later one counts
        try:
            found = list(entries(yaml.compose(path.read_text(encoding="utf-8"))))
        except (yaml.YAMLError, UnicodeDecodeError):
            return "" if path.name in reason else f" ({path})"
        for key, value in found:
            written = value.value if isinstance(value, yaml.ScalarNode) else None
            if (
                (name is not None and key.value == name)
                or (name is None and key.value == leaf and written is not None and written in reason)
                or (no_class and written is not None and written in (kind, no_class[1]))
            ):
                return f" ({path}, line {key.start_mark.line + 1})"
    return ""


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


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError with the choices unless ``value`` is among them."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}.")
