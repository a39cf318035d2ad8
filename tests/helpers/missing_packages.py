"""``python -m tests.helpers.missing_packages``: what setup.cfg requires and this Python lacks, all of it at once.

For machines without a virtual environment, where no pip has seen to it. Needs nothing but the standard library; versions are
compared where ``packaging`` is there.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from tests.helpers.requirements import CONFIG, extras, name_of, required

FOR_TESTS = ("pytest", "beartype", "hypothesis")
"""Of the extra ``dev``, what the tests themselves need."""


def needed(config: Path = CONFIG) -> list[str]:
    """What the package and its tests require."""
    return required(config) + [line for line in extras(config)["dev"] if name_of(line) in FOR_TESTS]


def missing(requirements: list[str]) -> list[str]:
    """Those that are not installed, or in another version."""
    found = []
    for requirement in requirements:
        try:
            version = metadata.version(name_of(requirement))
        except metadata.PackageNotFoundError:
            found.append(requirement)
            continue
        if not satisfies(version, requirement):
            found.append(f"{requirement} (there is {version})")
    return found


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
