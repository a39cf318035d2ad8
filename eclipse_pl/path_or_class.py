"""Options that take paths or a class: ``--source pairs.csv``, also with options of the class that reads this path."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any, get_args

SETTINGS = (".yaml", ".yml")
"""Files that hold the class of an option with its settings, or a list of paths."""


def take_paths(parser: Any) -> None:
    """Make a parser keep the path of a file where an option takes paths (``str`` and ``list[str]``) beside a class.

    jsonargparse reads the file, and takes its content for the value. It still does so for YAML. Options of a class may follow
    a path: ``--source pairs.csv --source.caption alt``. The base class of such an option has a function ``at``, which finds
    the class that reads a path.
    """
    for action in parser._actions:
        kinds = get_args(action._typehint) if hasattr(action, "_enable_path") else ()
        base = next((kind for kind in kinds if hasattr(kind, "at")), None)
        if base is not None and not hasattr(action._check_type, "__wrapped__"):
            action._check_type = _with_paths(action, base)


def _with_paths(action: Any, base: Any) -> Callable[..., Any]:
    from jsonargparse._util import NestedArg

    check = action._check_type

    @wraps(check)
    def check_type(value: Any, append: bool = False, cfg: Any = None, mode: Any = None) -> Any:
        if isinstance(value, NestedArg) and cfg is not None:
            before = cfg.get(action.dest)
            paths = [before] if isinstance(before, str) else before
            if isinstance(paths, list) and paths and _are_paths(paths):
                cfg.update(check(_class_at(paths, base, f"--{action.dest}", value.key)), action.dest)
        if not isinstance(value, str) or Path(value).suffix.lower() in SETTINGS:
            return check(value, append, cfg, mode)
        enabled, action._enable_path = action._enable_path, False
        try:
            # jsonargparse would import the module `pairs` to look for a class `pairs.csv`
            return check([value] if os.path.isfile(os.path.expanduser(value)) else value, append, cfg, mode)
        finally:
            action._enable_path = enabled

    return check_type


def _are_paths(words: list[str]) -> bool:
    """Whether words are paths, URLs or patterns, and not a misspelt name of a class."""
    return len(words) > 1 or not words[0].isidentifier() or os.path.exists(words[0])


def _class_at(paths: list[str], base: Any, option: str, name: str) -> dict[str, Any]:
    if len(paths) > 1:
        raise ValueError(
            f"{option}.{name} is an option of one path, and {option} names {len(paths)}: {', '.join(paths)}. Give one: "
            "`data_prep embed` makes a set of each, and `data_prep merge` one set of these."
        )
    found = base.at(paths[0])
    return {"class_path": f"{type(found).__module__}.{type(found).__qualname__}", "init_args": asdict(found)}
