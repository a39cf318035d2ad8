"""Dotted keys: a config as the flags of a command line."""

from __future__ import annotations

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
