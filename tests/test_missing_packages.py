"""`make gpu` on a Python that lacks packages ends with the list of all of them."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.make import run_make
from tests.helpers.missing_packages import main, missing, needed


def test_this_environment_has_all() -> None:
    names = needed()
    assert any(name.startswith("torch>=") for name in names)
    assert "pytest>=8" in names and not any("#" in name or name.startswith("ruff") for name in names)
    assert missing(names) == []


def test_all_that_is_missing_or_too_old_is_named_at_once(tmp_path: Path) -> None:
    config = tmp_path / "setup.cfg"
    config.write_text(
        "[options]\ninstall_requires =\n    # why\n    torch>=2.0\n    no_such_package>=1\n    numpy>=99\n"
        "[options.extras_require]\ndev =\n    ruff>=99\n    pytest>=99\n"
    )
    with pytest.raises(SystemExit) as stop:
        main(config)
    said = str(stop.value)
    assert "lacks 3 packages: no_such_package>=1, numpy>=99 (there is" in said and "pytest>=99 (there is" in said
    assert "torch" not in said.partition(": ")[2].partition(": ")[2] and "ruff" not in said


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_gpu_stops_there(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without its packages
    bare.chmod(0o755)
    done = run_make("gpu", f"PYTHON={bare}", check=False)
    assert done.returncode == 2
    assert "torch>=" in done.stderr and "lightning>=" in done.stderr and "lacks" in done.stderr
    assert "pytest -m gpu" not in done.stdout, "nothing runs after it"
