"""CHANGELOG.md, read in the form of Keep a Changelog: a section a version, its lines under the kinds of change."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from packaging.version import Version

KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""Of keepachangelog.com, 1.1.0."""
VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
HEADING = re.compile(rf"({VERSION.pattern}) \((unreleased|\d{{4}}-\d{{2}}-\d{{2}})\)")
FORM = "write `## 1.2.3 (unreleased)` or `## 1.2.3 (2026-01-31)`"


@dataclass
class Section:
    """What one version brings."""

    version: str
    date: str | None
    """Day of the release, or None before it."""
    kinds: dict[str, list[str]] = field(default_factory=dict)
    """Entries by the kind of change."""
    text: str = ""
    """All lines under the heading."""
    problems: list[str] = field(default_factory=list)


def read_changelog(path: Path) -> tuple[list[Section], list[str]]:
    """The sections that have a version, newest first, and a sentence for everything that is wrong in the file."""
    sections, problems = [], []
    for part in re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        found = HEADING.fullmatch(heading.strip())
        if found is None:
            problems.append(f"{path.name} has the heading {heading.strip()!r}: {FORM}.")
            continue
        sections.append(read_section(found[1], found[2], text))
        problems += [f"{path.name}, {found[1]}: {problem}" for problem in sections[-1].problems]
    if not sections and not problems:
        problems.append(f"{path.name} has no section of a version: {FORM}.")
    for newer, older in pairwise(sections):
        if Version(newer.version) <= Version(older.version):
            problems.append(f"{path.name} has {newer.version} above {older.version}: the newest version comes first.")
        if older.date is None:
            problems.append(f"{path.name} calls {older.version} unreleased, and {newer.version} is newer: write its date.")
    return sections, problems


def read_section(version: str, date: str, text: str) -> Section:
    section = Section(version, None if date == "unreleased" else date, text=text.strip())
    if section.date is not None and not is_day(section.date):
        section.problems.append(f"there is no day {section.date}.")
    before, *parts = re.split(r"^### ", text, flags=re.MULTILINE)
    if before.strip():
        section.problems.append(f"{before.strip().splitlines()[0]!r} stands under no kind of change; use ### {KINDS[0]}.")
    if not parts:
        section.problems.append(f"there is no ### {', ### '.join(KINDS[:2])} or ### Fixed under its heading.")
    for part in parts:
        kind, _, entries = part.partition("\n")
        if kind.strip() not in KINDS:
            section.problems.append(f"{kind.strip()!r} is no kind of change; choose one of {', '.join(KINDS)}.")
        elif kind.strip() in section.kinds:
            section.problems.append(f"### {kind.strip()} stands there twice; join the two.")
        elif not (found := re.findall(r"^- (.+)", entries, re.MULTILINE)):
            section.problems.append(f"### {kind.strip()} has no entry; write `- ...` or remove it.")
        else:
            section.kinds[kind.strip()] = found
    return section


def is_day(text: str) -> bool:
    try:
        return bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False
