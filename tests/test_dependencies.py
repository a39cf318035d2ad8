"""setup.cfg has a lower bound for every dependency, with its reason, and `make oldest` installs just these."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.helpers.lower_bounds import lower_bounds
from tests.helpers.make import dry_run
from tests.helpers.requirements import CONFIG, extras, name_of, required

ROOT = Path(__file__).parent.parent
NO_TESTS = {"docs", "gcs"}
"""Extras that no test uses; that of gs:// has a file system of its own."""


def all_requirements() -> list[str]:
    return [*required(), *(line for lines in extras().values() for line in lines)]


def test_the_constraints_are_the_lower_bounds():
    bounds = lower_bounds()
    assert set(bounds) == {name_of(line) for line in all_requirements()}
    for line in all_requirements():
        requirement = Requirement(line)
        assert requirement.specifier.contains(bounds[requirement.name]), f"{line} does not allow its own lower bound"
        assert f">={bounds[requirement.name]}" in line


def test_a_dependency_without_a_bound_is_named(tmp_path):
    config = tmp_path / "setup.cfg"
    config.write_text("[options]\ninstall_requires =\n    torch>=2.11\n    rich\n")
    with pytest.raises(ValueError, match=r"'rich' has no lower bound. Write rich>=VERSION"):
        lower_bounds(config)


def test_every_dependency_has_its_reason_above_it():
    lines = CONFIG.read_text(encoding="utf-8").splitlines()
    for line in all_requirements():
        before = lines[lines.index(f"    {line}") - 1]
        assert before.startswith("    # "), f"setup.cfg: a comment above {line} gives the reason for its bound"


def test_the_oldest_and_the_newest_are_tested_with_every_extra_that_has_tests():
    (installed,) = re.findall(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = installed.split(",")
    of_dev = {name for name, lines in extras().items() if set(lines) <= set(extras()["dev"])}
    assert of_dev | set(named) == set(extras()) - NO_TESTS


@pytest.mark.processes
def test_make_oldest_installs_the_constraints_and_make_newest_does_not():
    for target, constrained in (("oldest", True), ("newest", False)):
        commands = dry_run(target, "TESTS=tests/test_losses.py")
        assert ("--constraint" in commands) == constrained
        assert commands.rstrip().endswith("tests/test_losses.py")
