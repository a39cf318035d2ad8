"""Calls of `make` that do not depend on the `make` that runs the tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
OUTER = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PART", "PARTS", "TESTS")
"""Variables by which a `make` tells an inner one its options and its level."""


def run_make(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in OUTER}
    return subprocess.run(["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=check)


def dry_run(*words: str) -> str:
    """The commands that make would run, whether or not it has run before."""
    return run_make("--dry-run", "--always-make", *words).stdout
