"""Build a class that a file names, after a check of its base class.

A run's folder may come from somebody else, and its ``config.yaml`` names classes by ``class_path``. Importing a module runs
it, so the source is read first. Only a module that defines the class as a subclass of the right base class is imported.
A file can therefore not call a function, build a class of another kind, or import a module without such a class.

One risk remains. A module on the local path that defines such a class runs when it is imported, with its packages and its
imports, and the class is built with the file's arguments. Do not put folders from somebody else on that path. ``python -m``
adds the current folder to it.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PLAIN_TYPES = (object, type, str, bytes, int, float, complex, bool, list, dict, tuple, set, frozenset, type(None), Any)
"""Annotations that do not name a base class."""
OF_YAML: dict[Any, tuple[type, ...]] = {
    int: (int,), float: (float, int), bool: (bool, int), str: (str,), type(None): (type(None),)
}  # fmt: skip
"""What may stand for each. Python takes an integer for a float, and 0 and 1 for a boolean."""


def build_named(part: dict[str, Any], bases: tuple[type[T], ...], where: str, **arguments: Any) -> T:
    """Build the class that ``part`` (``class_path`` and ``init_args``) names, with ``arguments``.

    Classes inside ``init_args``, at any depth, are checked against the annotations of their arguments. What is annotated as
    ``dict[str, Any]`` is data, of which nothing is built here.

    Args:
        part: The ``class_path`` and ``init_args``.
        bases: The allowed base classes.
        where: The file that holds ``part``, for errors.
        **arguments: Further arguments of the class; they replace those of ``part``.

    Raises:
        ValueError: A class has none of its base classes, or does not take these arguments.
    """
    cls = named_class(part["class_path"], bases, where)
    annotations = parameter_annotations(cls)
    given = {**(part.get("init_args") or {}), **(part.get("dict_kwargs") or {})}
    built = {name: _built(value, name, annotations.get(name), where) for name, value in given.items()}
    require_types(given, annotations, f"{where} does not fit {part['class_path']}")
    try:
        return cls(**{**built, **arguments})
    except TypeError as error:
        reason = str(error).partition("\n")[0]
        unknown = [name for name in given if name not in annotations]
        near = [close for name in unknown for close in difflib.get_close_matches(name, annotations, n=1)]
        meant = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(
            f"{where} does not fit {part['class_path']} ({reason}): an option is misspelt or missing, or it was written for "
            f"another version of that class.{meant}"
        ) from error


def require_types(given: dict[str, Any], annotations: dict[str, Any], where: str) -> None:
    """Raise ValueError for a value of YAML that has another type than the option of the class."""
    for name, value in given.items():
        if name in annotations and not may_be(value, kind := annotations[name]):
            wanted = kind.__name__ if isinstance(kind, type) else kind
            raise ValueError(f"{where}: {name} is {value!r}, and must be {wanted}.")


def may_be(value: Any, annotation: Any) -> bool:
    """Whether a value of YAML can be what an annotation says. Of other values and annotations the class itself decides."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(may_be(value, one) for one in typing.get_args(annotation))
    if not isinstance(value, str | int | float | list | dict | None):
        return True
    return annotation not in OF_YAML or isinstance(value, OF_YAML[annotation])


def _built(value: Any, name: str, annotation: Any, where: str) -> Any:
    if isinstance(value, list):
        return [_built(one, name, annotation, where) for one in value]
    # data stays data: `LoraPrior` and `BestOfPrior` check what they build of theirs
    if not isinstance(value, dict) or annotation == dict[str, Any]:
        return value
    if "class_path" not in value:
        return {key: _built(one, name, annotation, where) for key, one in value.items()}
    if not (bases := classes_in(annotation)):
        raise ValueError(
            f"{where} names the class {value['class_path']} for {name}, whose annotation names no class. It could be "
            "any class, so it is not built."
        )
    return build_named(value, bases, where)


def named_class(class_path: object, bases: tuple[type[T], ...], where: str) -> type[T]:
    """The subclass of one of ``bases`` that ``class_path`` names, imported only if its source defines it as one.

    Raises:
        ValueError: It is not such a subclass. Nothing was imported then.
    """
    wanted = " or ".join(base.__name__ for base in bases)
    module, _, name = class_path.rpartition(".") if isinstance(class_path, str) else ("", "", "")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ValueError(f"{where} names {class_path!r} where the class_path of a {wanted} is expected.")
    place = written_at(module, name, bases)
    if place is None:
        if module in sys.modules or source_of(module) is not None:
            raise ValueError(
                f"{where} names {class_path}, which its module does not define as a {wanted}, so it is not imported. Your "
                f"own class must begin with `class {name}(BASE):` at the top level of {module}, and BASE leads to {wanted}."
            )
        raise ValueError(
            f"{where} names {class_path}, and this module was not found. Install its package, run this in the folder that "
            "holds it, or add that folder to PYTHONPATH."
        )
    found = getattr(importlib.import_module(place[0]), place[1], None)
    if not (isinstance(found, type) and issubclass(found, bases)) or inspect.isabstract(found):
        raise ValueError(f"{where} names {class_path}, which is not a concrete {wanted}.")
    return found


def written_at(
    module: str, name: str, bases: tuple[type, ...], seen: frozenset[tuple[str, str]] = frozenset()
) -> tuple[str, str] | None:
    """The module that defines ``name`` and the name there, if it is a subclass of one of ``bases``. No code runs.

    A module that only imports the class from another does not count. For a loaded module the object itself is checked.
    """
    loaded = vars(sys.modules[module]).get(name) if sys.modules.get(module) is not None else None
    if loaded is not None:
        return (module, name) if isinstance(loaded, type) and issubclass(loaded, bases) else None
    if (module, name) in seen or (source := source_of(module)) is None:
        return None
    text, package = source
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    classes: dict[str, ast.ClassDef] = {}
    imported: dict[str, str] = {}  # from a name in this module to the full dotted name
    aliases: dict[str, str] = {}  # the same for names of this module
    stars = []
    for statement in top_level(tree.body):
        if isinstance(statement, ast.ClassDef):
            classes[statement.name] = statement
        elif isinstance(statement, ast.Assign) and (value := dotted_name(statement.value)):
            aliases |= {target.id: value for target in statement.targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                imported[alias.asname or whole] = whole
        elif isinstance(statement, ast.ImportFrom):
            origin = absolute(statement, package)
            stars += [origin for alias in statement.names if alias.name == "*"]
            imported |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in statement.names}

    def found(dotted: str) -> tuple[str, str] | None:
        first, _, rest = dotted.partition(".")
        if (first in classes or first in aliases) and first != name and not rest:
            places = [f"{module}.{first}"]
        elif first in imported:
            places = [f"{imported[first]}.{rest}" if rest else imported[first]]
        else:
            places = [f"{star}.{dotted}" for star in stars]
        parts = (place.rpartition(".") for place in places)
        origins = (written_at(origin, last, bases, seen | {(module, name)}) for origin, _, last in parts)
        return next((origin for origin in origins if origin is not None), None)

    if name in classes:
        return (module, name) if any(found(dotted) for node in classes[name].bases if (dotted := dotted_name(node))) else None
    return found(aliases.get(name, name))


def source_of(module: str) -> tuple[str, str] | None:
    """Source and package of a module, read without running it or its packages; None if there is none."""
    folders: list[str] | None = None  # of the enclosing package; None searches the path
    parts = module.split(".")
    for depth, part in enumerate(parts):
        name = ".".join(parts[: depth + 1])
        spec: ModuleSpec | None = None
        try:
            specs = (finder.find_spec(name, folders) for finder in sys.meta_path if hasattr(finder, "find_spec"))
            spec = next((found for found in specs if found is not None), None)
        except KeyError:  # for a folder without __init__.py the finder looks up its package in the loaded modules
            folders = [place for place in (f"{folder}/{part}" for folder in folders or ()) if Path(place).is_dir()]
        else:
            if spec is None:
                return None
            found_in = spec.submodule_search_locations
            folders = None if found_in is None else list(found_in)
        if folders is None and depth < len(parts) - 1:
            return None
    if spec is None or not isinstance(spec.loader, InspectLoader):
        return None
    try:
        text = spec.loader.get_source(module)
    except (ImportError, UnicodeDecodeError):
        return None
    return None if text is None else (text, module.rpartition(".")[0] if folders is None else module)


def top_level(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported, those under ``if`` and ``try`` included."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            inner = [*statement.body, *statement.orelse]
            inner += [one for handler in getattr(statement, "handlers", []) for one in handler.body]
            yield from top_level(inner)


def absolute(statement: ast.ImportFrom, package: str) -> str:
    """The module that a ``from`` statement in ``package`` takes from."""
    if not statement.level:
        return statement.module or ""
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - statement.level + 1], *([statement.module] if statement.module else [])])


def dotted_name(node: ast.expr) -> str | None:
    """The dotted name ``a.b.C`` of a base class, without its brackets; None for any other expression."""
    if isinstance(node, ast.Subscript):
        return dotted_name(node.value)
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted_name(node.value)):
        return f"{before}.{node.attr}"
    return None


def parameter_annotations(cls: type) -> dict[str, Any]:
    """Annotations of the arguments of a class and of its base classes."""
    annotations: dict[str, Any] = {}
    for one in cls.__mro__:
        if "__init__" in vars(one):
            with suppress(NameError, TypeError):  # a name that exists for type checkers only
                annotations = typing.get_type_hints(one.__init__) | annotations  # type: ignore[misc]
    return annotations


def classes_in(annotation: Any) -> tuple[type, ...]:
    """The classes that an annotation allows. For ``list[nn.Module] | None`` this is nn.Module."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return () if annotation in PLAIN_TYPES else (annotation,)
    if typing.get_origin(annotation) in (typing.Literal, type, Callable):
        return ()
    return tuple(cls for argument in typing.get_args(annotation) for cls in classes_in(argument))
