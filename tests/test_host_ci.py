"""The workflow of the public host, which cannot run here: that it calls what does run here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.make import dry_run

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def jobs() -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]


def commands_of(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_a_version(path):
    uses = re.findall(r"uses: (.*)", path.read_text())
    assert uses
    for line in uses:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_every_job_calls_targets_of_the_makefile():
    called = set()
    for job in jobs().values():
        rows = job.get("strategy", {}).get("matrix", {}).get("include", [{}])
        for command in commands_of(job):
            make, target, *_ = command.split()
            assert make == "make"
            called |= {row["target"] for row in rows} if target.startswith("${{") else {target}
    assert called == {"lint", "types", "layers", "tests", "oldest", "newest", "docs", "package"}
    assert called <= TARGETS


@pytest.mark.processes
def test_the_local_command_runs_what_the_jobs_run():
    words = (ROOT / ".ci/run").read_text().splitlines()[-1].split()
    local = dry_run(*words[1:])
    for target in ("lint", "types", "layers", "tests"):
        for line in dry_run(target).splitlines():
            assert line in local, f"`{' '.join(words)}` leaves out what `make {target}` runs"


@pytest.mark.processes
def test_the_parts_are_all_tests_once():
    matrix = jobs()["tests"]["strategy"]["matrix"]
    (command,) = commands_of(jobs()["tests"])
    parts = int(re.search(r"PARTS=(\d+)", command)[1])
    assert matrix["part"] == list(range(1, parts + 1))
    files = [re.findall(r"tests/\S+\.py", dry_run("tests", f"PART={part}", f"PARTS={parts}")) for part in matrix["part"]]
    assert max(map(len, files)) - min(map(len, files)) <= 1
    assert sorted(file for part in files for file in part) == sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")
    )


def test_the_oldest_and_the_newest_python_are_tested():
    declared = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.cfg").read_text())
    oldest, newest = declared[0], declared[-1]
    assert f"python_requires = >={oldest}" in (ROOT / "setup.cfg").read_text()
    assert jobs()["tests"]["strategy"]["matrix"]["python"] == [oldest, newest]
    rows = jobs()["dependencies"]["strategy"]["matrix"]["include"]
    assert rows == [{"target": "oldest", "python": oldest}, {"target": "newest", "python": newest}]
