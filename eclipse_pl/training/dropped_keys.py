"""Keys of config files that a parser drops without a word, and so runs another experiment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from eclipse_pl.training.unknown_keys import config_files, read_yaml


def require_no_dropped_keys(words: Sequence[str]) -> None:
    """Check the files of a command line, and the files that they name.

    Raises:
        ValueError: A key occurs twice in a group (YAML keeps the last), a dotted key stands beside its own group (the group
            would be dropped), or a file names another config (only the command line can).
    """
    waiting = [(path, not prefix) for path, prefix in config_files(words)]
    opened: set[Path] = set()
    for path, is_whole in waiting:  # it grows
        if path.resolve() in opened:
            continue
        opened.add(path.resolve())
        root = read_yaml(path)
        for node in nodes_of(root):
            if isinstance(node, yaml.MappingNode):
                _require_kept(node, path, is_config=is_whole and node is root)
            elif isinstance(node, yaml.ScalarNode) and node.value.endswith((".yaml", ".yml")):
                part = path.parent / node.value
                waiting += [(part, False)] if part.is_file() else []


def nodes_of(node: Any) -> Iterator[Any]:
    """A node and all nodes in it. Keys are left out."""
    yield node
    children: list[Any] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [value for _, value in node.value]
    for child in children:
        yield from nodes_of(child)


def _require_kept(group: Any, path: Path, is_config: bool) -> None:
    lines: dict[str, int] = {}
    for key, value in group.value:
        name, line = str(key.value), key.start_mark.line + 1
        if is_config and name == "config":
            raise ValueError(
                f"{path}, line {line}: a file cannot name another config ({value.value} would be ignored). Give both on the "
                "command line: --config FILE --config FILE."
            )
        if name in lines:
            raise ValueError(
                f"{path}, line {line}: the key '{name}' stands in line {lines[name]} too, and only the last one would count. "
                "Remove one of them."
            )
        lines[name] = line
    for name, line in lines.items():
        for other, its_line in lines.items():
            if name.startswith(f"{other}."):
                raise ValueError(
                    f"{path}, line {line}: '{name}' beside '{other}' (line {its_line}) would drop the rest of '{other}'. "
                    "Write it into that group, or into a second file."
                )
