"""``python -m tests.helpers.missing_packages``: what setup.cfg requires and this Python lacks, all of it at once.

For machines without a virtual environment, where no pip has seen to it. Needs nothing but the standard library; versions are
compared where ``packaging`` is there.
"""

from __future__ import annotations

import configparser
import re
import sys
from importlib import metadata
from pathlib import Path

CONFIG = Path(__file__).parent.parent / "setup.cfg"
NAME = re.compile(r"[A-Za-z0-9._-]+")
FOR_TESTS = ("pytest", "beartype", "hypothesis")
"""Of the extra ``dev``, what the tests themselves need."""


def required(config: Path = CONFIG) -> list[str]:
    parser = configparser.ConfigParser()
    parser.read(config, encoding="utf-8")
    run = parser["options"]["install_requires"].split("\n")
    tests = [line for line in parser["options.extras_require"]["dev"].split("\n") if name_of(line.strip()) in FOR_TESTS]
    return [line.strip() for line in run + tests if line.strip() and not line.strip().startswith("#")]


def name_of(requirement: str) -> str:
    found = NAME.match(requirement)
    return found[0] if found else ""


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
    if lacking := missing(required(config)):
        sys.exit(f"error: this Python ({sys.executable}) lacks {len(lacking)} packages: {', '.join(lacking)}")


if __name__ == "__main__":
    main()
