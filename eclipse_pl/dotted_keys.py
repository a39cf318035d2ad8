"""Dotted keys, such as ``model.prior.init_args.lr``: the flags of the command line, and the settings of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested groups as dotted keys, which are the flags of the command line. Lists are values."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {
        key: value
        for name, child in tree.items()
        for key, value in flat(child, f"{prefix}.{name}" if prefix else name).items()
    }


def within(key: str, groups: Iterable[str]) -> bool:
    """Whether a dotted key is one of the groups, or lies in one."""
    return any(key == name or key.startswith(f"{name}.") for name in groups)


def ending_in(words: str, keys: Iterable[str]) -> list[str]:
    """Keys with these last words; ``init_args`` is no word of its own."""
    return [key for key in keys if f".{'.'.join(words_of(key))}".endswith(f".{words}")]


def words_of(key: str) -> list[str]:
    return [word for word in key.split(".") if word != "init_args"]


def shortest(keys: Iterable[str]) -> dict[str, str]:
    """The shortest ending of each dotted key that no other key has; ``init_args`` is no word of its own."""
    words = {key: words_of(key) for key in keys}

    def short(key: str) -> str:
        for count in range(1, len(words[key]) + 1):
            ending = words[key][-count:]
            if sum(other[-count:] == ending for other in words.values()) == 1:
                return ".".join(ending)
        return key

    return {key: short(key) for key in words}
