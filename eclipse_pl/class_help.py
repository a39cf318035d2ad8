"""The answer to an option such as ``--decoder.help`` without a class: the classes that can be chosen."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

OURS = ("eclipse_pl", "data_prep")
NOT_CHOSEN = ("eclipse_pl.speed.", "eclipse_pl.callbacks.", "eclipse_pl.run.", "eclipse_pl.training.opening.")
"""Classes that are measured and never used, and those that every run has without being asked."""
CLASS = re.compile(r"^class (\w+)\(([^)]*)\):", re.MULTILINE)


def name_classes(parser: Any) -> None:
    """Make a parser of jsonargparse name the classes of an option where it would show the help of their empty base class."""
    for action in parser._actions:
        if hasattr(action, "print_help") and any(option.endswith(".help") for option in action.option_strings):
            action.nargs = "?"  # a class, or nothing; jsonargparse wants a class where the option has several base classes
            action.print_help = partial(print_classes, action, action.print_help)


def print_classes(action: Any, print_help: Callable[[Any], None], called: tuple[Any, ...]) -> None:
    """Stand in for ``print_help`` of jsonargparse, which is called with parser, namespace, value and option."""
    parser, _, value, option = called
    bases = dict.fromkeys(action._help_types) if value is None else ()
    choices = sorted({path: purpose for base in bases for path, purpose in classes_of(base)}.items())
    if not choices:
        return print_help(called)
    print(f"{option.removesuffix('.help')} is one of these classes, or one of your own by its import path:\n")
    for path, purpose in choices:
        print(f"  {path}{f': {purpose}' if purpose else ''}")
    print(f"\nThe options of one: {parser.prog.replace(' [options]', '')} {option} {choices[0][0]}")
    return parser.exit()


def classes_of(base: type) -> list[tuple[str, str]]:
    """Import path and first sentence of every class that can be built in place of ``base``; none where it has no subclass."""
    is_ours = base.__module__.partition(".")[0] in OURS
    found = dict.fromkeys([*(ours_below(base) if is_ours else ()), *loaded_below(base)])
    if not found:
        return []
    kinds = [base, *found] if is_ours else list(found)  # torch's Optimizer is a base class and not marked as one
    chosen = {path_of(kind): purpose_of(kind) for kind in kinds if can_be_named(kind)}
    return sorted((path, purpose) for path, purpose in chosen.items() if not path.startswith(NOT_CHOSEN))


def ours_below(base: type) -> Iterator[type]:
    """The subclasses in our packages. Their sources are searched, so that only modules with one are imported."""
    below: dict[tuple[str, str], list[str]] = {}
    for package in OURS:
        root = Path(importlib.import_module(package).__path__[0])
        for path in sorted(root.rglob("*.py")):
            module = ".".join((package, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
            for name, bases in CLASS.findall(path.read_text(encoding="utf-8")):
                below[module, name] = [one.strip().rpartition(".")[2] for one in bases.split(",")]
    names = {base.__name__}
    while more := {name for (_, name), bases in below.items() if names.intersection(bases)} - names:
        names |= more
    for module, name in below:
        if name in names:
            with contextlib.suppress(ImportError):  # an extra that is not installed
                kind = getattr(importlib.import_module(module), name)
                if issubclass(kind, base) and kind is not base:
                    yield kind


def loaded_below(base: type) -> Iterator[type]:
    """The subclasses of modules that are imported already, such as the optimizers of torch."""
    kind: type
    for kind in base.__subclasses__():
        yield kind
        yield from loaded_below(kind)


def can_be_named(kind: type) -> bool:
    """Whether a config can name the class, and it can be built."""
    module = sys.modules.get(kind.__module__)  # a notebook may have removed it to read its file again
    there = getattr(module, kind.__qualname__, None)
    return there is kind and not inspect.isabstract(kind) and not kind.__name__.startswith("_")


def path_of(kind: type) -> str:
    """The shortest import path: that of the outermost package that offers the class."""
    words = kind.__module__.split(".")
    for count in range(2 if words[0] in OURS else 1, len(words)):  # our root has a name only when it was used
        package = sys.modules.get(".".join(words[:count]))
        if vars(package).get(kind.__qualname__) is kind:
            return ".".join((*words[:count], kind.__qualname__))
    return f"{kind.__module__}.{kind.__qualname__}"


def purpose_of(kind: type) -> str:
    text = inspect.getdoc(kind) if "__doc__" in vars(kind) else None
    first = (text or "").partition("\n\n")[0].replace("\n", " ")
    if first.startswith(f"{kind.__name__}("):  # what a dataclass writes where there is no docstring
        return ""
    return textwrap.shorten(re.split(r"(?<!et al)\. ", first)[0].rstrip("."), 110, placeholder=" ...")
