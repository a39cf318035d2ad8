"""What setup.cfg requires, read with nothing but the standard library.

``python -m tests.helpers.requirements docs`` prints the requirements of the extra ``docs``, for pip.
"""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path

CONFIG = Path(__file__).parents[2] / "setup.cfg"
NAME = re.compile(r"[A-Za-z0-9._-]+")


def required(config: Path = CONFIG) -> list[str]:
    """The requirements of the package itself."""
    return lines_of(read(config)["options"]["install_requires"])


def extras(config: Path = CONFIG) -> dict[str, list[str]]:
    """The requirements of every extra, those that one extra takes from another included."""
    parser = read(config)
    if not parser.has_section("options.extras_require"):
        return {}
    return {name: lines_of(text) for name, text in parser["options.extras_require"].items()}


def read(config: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(config, encoding="utf-8")
    return parser


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def name_of(requirement: str) -> str:
    found = NAME.match(requirement)
    return found[0] if found else ""


if __name__ == "__main__":
    for extra in sys.argv[1:]:
        print(*extras()[extra], sep="\n")
