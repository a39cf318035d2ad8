"""``python -m tests.helpers.release files|archives|notes`` (`make release-check`): does everything name the same release?

``files`` compares the version with CHANGELOG.md, CITATION.cff and the tags of git; ``archives`` reads what lies in dist/;
``notes`` prints the section of the version, for the page of the release. Nothing here needs a network or builds anything.
Exit code 0: all agree; 1: each line of the standard error is one problem with its remedy.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.changelog import VERSION, Section, read_changelog
from tests.helpers.requirements import read

ROOT = Path(__file__).parent.parent.parent
SOURCE = "eclipse_pl/__init__.py"
"""The one place of the version."""
ATTRIBUTE = "attr: eclipse_pl.__version__"


def version_of(root: Path = ROOT) -> str:
    """The version of a checkout, read without an import.

    Raises:
        ValueError: There is none, or it is no version.
    """
    for node in ast.parse((root / SOURCE).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            version = str(ast.literal_eval(node.value))
            if VERSION.fullmatch(version):
                return version
            raise ValueError(f'{SOURCE} has __version__ = "{version}". Write a version such as 1.2.3 or 1.2.3rc1.')
    raise ValueError(f'{SOURCE} has no version. Write __version__ = "1.2.3".')


def problems_of_files(root: Path = ROOT, tags: tuple[list[str], list[str]] | None = None) -> list[str]:
    """A sentence for everything in a checkout that names another release than its version.

    Args:
        root: The checkout.
        tags: As `tags_of` returns them; None where there is no git.
    """
    try:
        version = version_of(root)
    except ValueError as error:
        return [str(error)]
    config = read(root / "setup.cfg")["metadata"]
    sections, problems = read_changelog(root / "CHANGELOG.md")
    if config.get("version") != ATTRIBUTE:
        problems.append(f"setup.cfg has version = {config.get('version')}: write `version = {ATTRIBUTE}`, its one source.")
    newest = sections[0] if sections else None
    if newest is not None and newest.version != version:
        problems.append(
            f"CHANGELOG.md begins with {newest.version}, and {SOURCE} has {version}. Begin a section of {version}, or change "
            "__version__."
        )
        newest = None
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    return problems + list(problems_of_citation(citation, version, config.get("license"), newest)) + list(
        problems_of_tags(tags, version, newest)
    )  # fmt: skip


def problems_of_citation(citation: dict[str, Any], version: str, license: str | None, newest: Section | None) -> Iterator[str]:
    if str(citation.get("version")) != version:
        yield f"CITATION.cff has version {citation.get('version')}, and {SOURCE} has {version}. Write version: {version}."
    if citation.get("license") != license:
        yield f"CITATION.cff has license {citation.get('license')}, and setup.cfg has {license}. Write the same in both."
    stated = citation.get("date-released")
    if newest is not None and stated is not None and str(stated) != newest.date:
        day = "no date: remove date-released" if newest.date is None else f"{newest.date}: write the same in both"
        yield f"CITATION.cff has date-released {stated}, and CHANGELOG.md has {day}."


def problems_of_tags(tags: tuple[list[str], list[str]] | None, version: str, newest: Section | None) -> Iterator[str]:
    every, here = tags or ([], [])
    for tag in here:
        if tag != f"v{version}":
            yield f"This commit has the tag {tag}, and {SOURCE} has {version}. Move the tag, or change __version__."
    if f"v{version}" in every and f"v{version}" not in here:
        yield f"Another commit has the tag v{version}, so {version} is released. Raise __version__, and begin its section."
    if f"v{version}" in here and newest is not None and newest.date is None:
        yield f"CHANGELOG.md calls {version} unreleased, and this commit has its tag. Write the date of the release."


def tags_of(root: Path = ROOT) -> tuple[list[str], list[str]] | None:
    """Tags of versions: all, and those of this commit. None where there is no git."""
    found = []
    for words in (["--list"], ["--points-at", "HEAD"]):
        try:
            done = subprocess.run(["git", "tag", *words], cwd=root, capture_output=True, text=True)
        except FileNotFoundError:
            return None
        if done.returncode:
            return None
        found.append([tag for tag in done.stdout.split() if re.fullmatch(r"v\d.*", tag)])
    return found[0], found[1]


def problems_of_archives(dist: Path, root: Path = ROOT) -> list[str]:
    """A sentence for everything in ``dist`` that is not the wheel and the source archive of the version."""
    version = version_of(root)
    config = read(root / "setup.cfg")
    stem = f"eclipse_pl-{version}"
    wanted = {f"{stem}-py3-none-any.whl": f"{stem}.dist-info/METADATA", f"{stem}.tar.gz": f"{stem}/PKG-INFO"}
    there = {path.name for path in dist.glob("*")}
    problems = [f"{dist} has no {name}. Build it by `make package`." for name in sorted(set(wanted) - there)]
    problems += [f"{dist} has {name}, which is not of {version}. Remove it." for name in sorted(there - set(wanted))]
    for name in sorted(set(wanted) & there):
        members = members_of(dist / name)
        # the folder of a wheel's licences has had two names
        licences = [text for member, text in members.items() if member.count("/") < 3 and Path(member).name == "LICENSE"]
        if licences != [(root / "LICENSE").read_bytes()]:
            problems.append(f"{name} does not carry LICENSE as it is here. Keep that file at the root, and build again.")
        metadata = message_from_string(members.get(wanted[name], b"").decode())
        for field, value in {
            "Name": "eclipse_pl",
            "Version": version,
            "License": config["metadata"]["license"],
            "Requires-Python": config["options"]["python_requires"],
        }.items():
            stated = metadata["License-Expression"] or metadata["License"] if field == "License" else metadata[field]
            if stated != value:
                problems.append(f"{name} states {field} {stated}, and the checkout {value}. Build it again.")
    return problems


def members_of(archive: Path) -> dict[str, bytes]:
    """The files of an archive that say what it is."""
    named = re.compile(r"(?:.*/)?(?:LICENSE|METADATA|PKG-INFO)")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist() if named.fullmatch(name)}
    with tarfile.open(archive) as tar:
        files = [member for member in tar if member.isfile() and named.fullmatch(member.name)]
        return {member.name: handle.read() for member in files if (handle := tar.extractfile(member)) is not None}


def main(args: list[str] | None = None) -> int:
    words = sys.argv[1:] if args is None else args
    if words not in (["files"], ["archives"], ["notes"]):
        print("usage: python -m tests.helpers.release files|archives|notes", file=sys.stderr)
        return 2
    tags = tags_of()
    problems = problems_of_archives(ROOT / "dist") if words == ["archives"] else problems_of_files(tags=tags)
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    if problems:
        return 1
    newest = read_changelog(ROOT / "CHANGELOG.md")[0][0]
    if words == ["notes"]:
        print(newest.text)
    elif words == ["archives"]:
        print(f"dist/ holds wheel and source archive of {newest.version}, each with its licence.")
    else:
        tag = "no git here, so no tag was read" if tags is None else "tagged" if f"v{newest.version}" in tags[1] else "no tag"
        entries = ", ".join(f"{len(lines)} {kind}" for kind, lines in newest.kinds.items())
        print(f"{newest.version}, {newest.date or 'unreleased'}, {tag}; CHANGELOG.md: {entries}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
