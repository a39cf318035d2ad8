"""Options that take paths or a class, such as ``--source pairs.csv`` and ``--source Table``."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, get_args

SETTINGS = (".yaml", ".yml")
"""Files that hold the class of an option with its settings, or a list of paths."""


def take_paths(parser: Any) -> None:
    """Make a parser keep the path of a file where an option takes paths (``str`` and ``list[str]``) beside a class.

    jsonargparse reads the file, and takes its content for the value. It still does so for YAML. The base class of such an
    option has a function ``at``, which finds what lies at a path.
    """
    for action in parser._actions:
        kinds = get_args(action._typehint) if hasattr(action, "_enable_path") else ()
        if any(hasattr(kind, "at") for kind in kinds) and not hasattr(action._check_type, "__wrapped__"):
            action._check_type = _with_paths(action)


def _with_paths(action: Any) -> Callable[..., Any]:
    check = action._check_type

    @wraps(check)
    def check_type(value: Any, append: bool = False, cfg: Any = None, mode: Any = None) -> Any:
        if not isinstance(value, str) or Path(value).suffix.lower() in SETTINGS:
            return check(value, append, cfg, mode)
        enabled, action._enable_path = action._enable_path, False
        try:
            # jsonargparse would import the module `pairs` to look for a class `pairs.csv`
            return check([value] if os.path.isfile(os.path.expanduser(value)) else value, append, cfg, mode)
        finally:
            action._enable_path = enabled

    return check_type
