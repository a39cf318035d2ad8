"""`make release-check`: the checkout names one release, and what names another is one sentence with the remedy."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.helpers.changelog import read_changelog
from tests.helpers.make import dry_run
from tests.helpers.release import main, problems_of_archives, problems_of_files, version_of

ROOT = Path(__file__).parent.parent
NAMES = ("eclipse_pl/__init__.py", "CHANGELOG.md", "CITATION.cff", "setup.cfg", "LICENSE")
GOOD = """# Changelog

## 1.2.0 (2026-01-31)

### Added

- One.
- Two.

### Fixed

- Three.

## 1.1.0 (2025-12-01)

### Added

- Old.
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that name the release, which is 0.1.0 there whatever it is here."""
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / NAMES[0]).write_text('"""A package."""\n\n__version__ = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.1.0 (unreleased)\n\n### Added\n\n- All of it.\n")
    citation = re.sub(r"^version: .*", "version: 0.1.0", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    (tmp_path / "CITATION.cff").write_text(re.sub(r"^date-released: .*\n", "", citation, flags=re.MULTILINE))
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_this_checkout_names_one_release() -> None:
    assert problems_of_files() == []


@pytest.mark.processes
def test_the_notes_are_the_newest_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notes"]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed.startswith("### Added") and f"\n\n{printed}" in (ROOT / "CHANGELOG.md").read_text()
    assert main(["everything"]) == 2


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            NAMES[0], '__version__ = "', '__version__ = "1',
            r"CHANGELOG\.md begins with 0\.1\.0, and eclipse_pl/__init__\.py has 10\.1\.0\. Begin a section of 10\.1\.0, or",
        ),
        (NAMES[0], '__version__ = "', '__version__ = "v', r'has __version__ = "v0\.1\.0"\. Write a version such as 1\.2\.3'),
        (NAMES[0], "__version__ = ", "__release__ = ", r'has no version\. Write __version__ = "1\.2\.3"'),
        ("CITATION.cff", "version: 0.1.0", "version: 0.0.9", r"CITATION\.cff has version 0\.0\.9, .* Write version: 0\.1\.0"),
        ("CITATION.cff", "license: MIT", "license: BSD-3-Clause", r"BSD-3-Clause, and setup\.cfg has MIT\. Write the same"),
        (
            "CITATION.cff", "license: MIT", "license: MIT\ndate-released: 2026-01-31",
            r"date-released 2026-01-31, and CHANGELOG\.md has no date: remove date-released",
        ),
        ("setup.cfg", "attr: eclipse_pl.__version__", "0.1.0", r"version = 0\.1\.0: write `version = attr: "),
    ],
)  # fmt: skip
def test_a_file_of_another_release_is_named(checkout: Path, name: str, old: str, new: str, said: str) -> None:
    assert problems_of_files(checkout) == []
    change(checkout / name, old, new)
    problems = problems_of_files(checkout)
    assert [problem for problem in problems if re.search(said, problem)], problems
    assert len(problems) <= 2, "the citation of another version is named as well"


def test_the_citation_has_the_day_of_the_changelog(checkout: Path) -> None:
    change(checkout / "CHANGELOG.md", "## 0.1.0 (unreleased)", "## 0.1.0 (2026-01-31)")
    change(checkout / "CITATION.cff", "license: MIT", "license: MIT\ndate-released: 2026-01-31")
    assert problems_of_files(checkout) == []
    change(checkout / "CITATION.cff", "2026-01-31", "2026-01-30")
    (problem,) = problems_of_files(checkout)
    assert "date-released 2026-01-30, and CHANGELOG.md has 2026-01-31: write the same in both" in problem


@pytest.mark.parametrize(
    ("dated", "every", "here", "said"),
    [
        (False, [], [], None),
        (False, ["v0.0.9"], [], None),
        (True, ["v0.0.9", "v0.1.0"], ["v0.1.0"], None),
        (False, ["v0.1.0"], ["v0.1.0"], "calls 0.1.0 unreleased, and this commit has its tag. Write the date"),
        (True, ["v0.1.0"], [], "Another commit has the tag v0.1.0, so 0.1.0 is released. Raise __version__"),
        (True, ["v0.2.0"], ["v0.2.0"], "has the tag v0.2.0, and eclipse_pl/__init__.py has 0.1.0. Move the tag, or change"),
    ],
)
def test_a_tag_of_another_release_is_named(
    checkout: Path, dated: bool, every: list[str], here: list[str], said: str | None
) -> None:
    if dated:
        change(checkout / "CHANGELOG.md", "## 0.1.0 (unreleased)", "## 0.1.0 (2026-01-31)")
    problems = problems_of_files(checkout, (every, here))
    assert len(problems) == (said is not None)
    assert said is None or said in problems[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "## 1.2.0 (2026-01-31)",
            "## 1.2.0, 2026-01-31",
            "has the heading '1.2.0, 2026-01-31': write `## 1.2.3 (unreleased)`",
        ),
        ("## 1.2.0 (2026-01-31)", "## [Unreleased]", "has the heading '[Unreleased]': write"),
        ("2026-01-31", "2026-02-30", "1.2.0: there is no day 2026-02-30"),
        ("## 1.1.0 (2025-12-01)", "## 1.1.0 (unreleased)", "calls 1.1.0 unreleased, and 1.2.0 is newer: write its date"),
        ("## 1.1.0", "## 1.2.0", "has 1.2.0 above 1.2.0: the newest version comes first"),
        ("## 1.1.0", "## 1.10.0", "has 1.2.0 above 1.10.0: the newest version comes first"),
        ("### Fixed", "### Bugs", "'Bugs' is no kind of change; choose one of Added, Changed,"),
        ("### Fixed", "### Added", "### Added stands there twice"),
        ("- Three.", "Three.", "### Fixed has no entry"),
        ("### Added\n\n- One.", "- One.", "'- One.' stands under no kind of change"),
        ("### Added\n\n- One.\n- Two.\n\n### Fixed\n\n- Three.\n", "", "there is no ### Added, ### Changed or ### Fixed"),
        (GOOD, "# Changelog\n", "has no section of a version"),
    ],
)
def test_a_changelog_of_another_form_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "CHANGELOG.md"
    path.write_text(GOOD)
    sections, problems = read_changelog(path)
    assert not problems and (sections[0].version, sections[0].date) == ("1.2.0", "2026-01-31")
    assert sections[0].kinds == {"Added": ["One.", "Two."], "Fixed": ["Three."]}
    change(path, old, new)
    problems = read_changelog(path)[1]
    assert [problem for problem in problems if said in problem], problems


def write_archives(
    dist: Path, version: str, license: bytes = (ROOT / "LICENSE").read_bytes(), stated: str | None = None
) -> None:
    """What `python -m build` writes, without the code."""
    dist.mkdir(exist_ok=True)
    metadata = f"Name: eclipse_pl\nVersion: {stated or version}\nLicense: MIT\nRequires-Python: >=3.10\n\ntext\n".encode()
    stem = f"eclipse_pl-{version}"
    with zipfile.ZipFile(dist / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
        wheel.writestr(f"{stem}.dist-info/licenses/LICENSE", license)
    with tarfile.open(dist / f"{stem}.tar.gz", "w:gz") as tar:
        for name, content in {"PKG-INFO": metadata, "LICENSE": license}.items():
            member = tarfile.TarInfo(f"{stem}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_archives_of_another_release_are_named(tmp_path: Path) -> None:
    version = version_of()
    dist = tmp_path / "dist"
    write_archives(dist, version)
    assert problems_of_archives(dist) == []
    write_archives(dist, "0.0.1")
    assert [problem.split(", ")[1] for problem in problems_of_archives(dist)] == [f"which is not of {version}. Remove it."] * 2
    shutil.rmtree(dist)
    assert [problem.endswith("Build it by `make package`.") for problem in problems_of_archives(dist)] == [True, True]
    write_archives(dist, version, license=b"")
    assert ["does not carry LICENSE" in problem for problem in problems_of_archives(dist)] == [True, True]
    write_archives(dist, version, stated="0.0.1")
    assert [f"states Version 0.0.1, and the checkout {version}" in problem for problem in problems_of_archives(dist)] == [
        True,
        True,
    ]


@pytest.mark.processes
def test_one_target_calls_the_others_once() -> None:
    commands = dry_run("release-check")
    for line in (*dry_run("package").splitlines(), *dry_run("docs").splitlines(), *dry_run("release-files").splitlines()):
        assert line in commands, line
    for words in ("-m build", "twine check --strict", "release files", "release archives", "-m slow", "mkdocs build"):
        assert commands.count(words) == 1, words
    assert "ECLIPSE_PL_QUICKSTART=whole" in commands and "QUICKSTART=short" in dry_run("package", "QUICKSTART=short")
