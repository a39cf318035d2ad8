"""``python -m tests.helpers.missing_packages``: what setup.cfg requires and this Python lacks, all of it at once.

The list is whole: tests/test_missing_packages.py compares it with what the tests marked `gpu` and `speed` import.

For machines without a virtual environment, where no pip has seen to it. Needs nothing but the standard library; versions are
compared where ``packaging`` is there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from tests.helpers.requirements import CONFIG, extras, name_of, required

FOR_TESTS = ("pytest", "beartype", "hypothesis")
"""Of the extra ``dev``, what the tests themselves need."""


def needed(config: Path = CONFIG) -> list[str]:
    """What the package and its tests require."""
    return required(config) + [line for line in extras(config)["dev"] if name_of(line) in FOR_TESTS]


def missing(requirements: list[str]) -> list[str]:
    """Those that are not installed, or in another version, and what their extras require (``jsonargparse[signatures]``)."""
    found = []
    for requirement in [*requirements, *of_extras(requirements)]:
        try:
            version = metadata.version(name_of(requirement))
        except metadata.PackageNotFoundError:
            found.append(requirement)
            continue
        if not satisfies(version, requirement):
            found.append(f"{requirement} (there is {version})")
    return found


def of_extras(requirements: list[str]) -> Iterator[str]:
    """What installed packages require for those of their extras that ``requirements`` name."""
    for requirement in requirements:
        asked = re.match(r"[\w.-]+\[([^]]+)\]", requirement)
        try:
            lines = (metadata.requires(name_of(requirement)) or []) if asked else []
        except metadata.PackageNotFoundError:  # then the package itself is missing
            continue
        for extra in asked[1].split(",") if asked else []:
            for line in lines:
                needed_by, _, marker = line.partition(";")
                if re.search(rf"extra\s*==\s*[\"']{re.escape(extra.strip())}[\"']", marker) and applies(line):
                    yield needed_by.strip()


def applies(line: str) -> bool:
    """Whether a requirement's marker lets it stand in this Python; its extra is given."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return "python_version" not in line
    marker = Requirement(line).marker
    extra = re.search(r"extra\s*==\s*[\"']([^\"']+)", line)
    return marker is None or marker.evaluate({"extra": extra[1] if extra else ""})


def satisfies(version: str, requirement: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return True
    return Requirement(requirement).specifier.contains(version, prereleases=True)


def main(config: Path = CONFIG) -> None:
    if lacking := missing(needed(config)):
        sys.exit(f"error: this Python ({sys.executable}) lacks {len(lacking)} packages: {', '.join(lacking)}")


if __name__ == "__main__":
    main()
