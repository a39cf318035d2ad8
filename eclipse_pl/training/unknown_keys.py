"""All unknown keys in the files of a command line; a parser stops at the first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from eclipse_pl.arguments import near
from eclipse_pl.usage_error import options_of


def unknown_keys(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """A sentence for each unknown key, with its file and line.

    Args:
        words: Of the command line: ``--config FILE``, ``--trainer FILE``, ``--data=FILE``.
        options: All options of the parser, such as ``--trainer.max_steps``.
    """
    known = {option.removeprefix("--").removesuffix("+") for option in options if not option.endswith((".help", "-h"))}
    found: list[str] = []
    for path, prefix in config_files(words):
        found += _in_file(path, prefix, known)
    return list(dict.fromkeys(found))


def config_files(words: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """The YAML files of a command line, each with the key whose value it holds; "" for a whole config."""
    for option, value in _with_values(words):
        path = Path(value)
        if path.suffix in (".yaml", ".yml") and path.is_file():
            yield path, "" if option in ("--config", "-c") else option.removeprefix("--")


def read_yaml(path: Path) -> Any:
    """The nodes of a file, with their lines; None where it is no YAML, which the parser says."""
    try:
        return yaml.compose(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None


def _with_values(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, word in enumerate(words):
        if word.startswith("-"):
            option, equals, value = word.partition("=")
            yield option, value if equals else (words[place + 1] if place + 1 < len(words) else "")


def _in_file(path: Path, prefix: str, known: set[str]) -> Iterator[str]:
    yield from _in_value(read_yaml(path), prefix, path, known)


def _in_value(node: Any, prefix: str, path: Path, known: set[str]) -> Iterator[str]:
    """``node`` is the value of the dotted key ``prefix``: a group, a class, a list, or the name of a file that holds one."""
    if isinstance(node, yaml.ScalarNode):
        part = path.parent / node.value
        if part.suffix in (".yaml", ".yml") and part.is_file():
            yield from _in_file(part, prefix, known)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _in_value(child, prefix, path, known)
    elif isinstance(node, yaml.MappingNode):
        keys = {key.value: value for key, value in node.value}
        if "class_path" in keys:
            yield from _in_class(keys["class_path"].value, keys.get("init_args"), path, known)
        elif not prefix or any(option.startswith(f"{prefix}.") for option in known):
            yield from _in_group(node, prefix, path, known)


def _in_class(kind: str, options: Any, path: Path, known: set[str]) -> Iterator[str]:
    accepted = options_of(kind)
    for key, value in options.value if isinstance(options, yaml.MappingNode) else []:
        if accepted is not None and key.value not in accepted:
            yield _sentence(key, f" of {kind.rpartition('.')[2]}", accepted, path)
        else:
            yield from _in_value(value, kind, path, known)


def _in_group(node: Any, prefix: str, path: Path, known: set[str]) -> Iterator[str]:
    start = f"{prefix}." if prefix else ""
    accepted = {option.removeprefix(start).partition(".")[0] for option in known if option.startswith(start)}
    for key, value in node.value:
        if key.value in accepted:
            yield from _in_value(value, start + key.value, path, known)
        else:
            yield _sentence(key, f" of {prefix}" if prefix else "", accepted, path)


def _sentence(key: Any, of: str, accepted: set[str], path: Path) -> str:
    return (
        f"Key '{key.value}'{of} is not accepted ({path}, line {key.start_mark.line + 1}).{near(key.value, sorted(accepted))}"
    )
