"""A parser's error in one sentence, with the key, its file and its line."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from eclipse_pl.arguments import near, near_file
from eclipse_pl.class_help import classes_of

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


def near_option(parser: Any, message: str) -> str:
    """A sentence with the option of the parser that is spelt like an unknown one, or on a value without its option."""
    unknown = re.search(r"[Uu]nrecognized arguments?: ([^\s=]+)", message)
    if unknown and not unknown[1].startswith("-"):
        return f" A value follows the name of its option; {parser.prog.replace('[options] ', '')} --help lists the options."
    return near(unknown[1], parser._option_string_actions) if unknown else ""


def near_class(parser: Any, answer: str) -> str:
    """A sentence with the class of the option that is spelt like an unknown one."""
    unknown = NO_NAME.match(answer)
    if unknown is None:
        return ""
    helps = [one for one in parser._actions if f"--{unknown[1]}.help" in one.option_strings]
    bases = [base for one in helps for base in getattr(one, "_help_types", ())]
    choices = {path.rpartition(".")[2]: path for base in bases for path, _ in classes_of(base)}
    found = difflib.get_close_matches(unknown[2], choices, n=1)
    return f" Near it: {choices[found[0]]}." if found else ""


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
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key, value
            yield from entries(value)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from entries(child)


def place(reason: str, keys: list[str], kind: str, files: list[Path]) -> str:
    """The file and line of a key, or the file that is no YAML."""
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
