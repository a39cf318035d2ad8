"""`make gpu` on a Python that lacks packages ends with the list of all of them."""

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.helpers.make import dry_run, run_make
from tests.helpers.missing_packages import main, missing, needed, of_extras
from tests.helpers.requirements import name_of

ROOT = Path(__file__).parent.parent
OWN = ("eclipse_pl", "data_prep", "tests")
MARK = "mark." + "gpu"


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


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, those inside its functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def files_behind(paths: list[Path]) -> set[Path]:
    """These files of the tests, and the files of tests and of `speed` that they import."""
    found, left = set(), list(paths)
    while left:
        path = left.pop()
        if path in found:
            continue
        found.add(path)
        modules = [name for name in imports(path) if name.startswith(("tests.", "eclipse_pl.speed."))]
        left += [file for name in modules if (file := ROOT / f"{name.replace('.', '/')}.py").is_file()]
    return found


def gpu_files() -> list[Path]:
    return sorted(path for path in (ROOT / "tests").glob("test_*.py") if MARK in path.read_text())


def test_the_list_holds_all_that_make_gpu_imports() -> None:
    """Before anything runs, and also what fit needs beside it: the parser of YAML, diffusers, open_clip."""
    files = files_behind([*gpu_files(), ROOT / "tests/conftest.py", *(ROOT / "eclipse_pl/speed").glob("*.py")])
    assert ROOT / "tests/helpers/card.py" in files and ROOT / "eclipse_pl/speed/fit.py" in files
    modules = {name.partition(".")[0] for path in files for name in imports(path)}
    strangers = modules - set(sys.stdlib_module_names) - {*OWN, "__future__"}
    assert {"torch", "lightning", "pytest", "diffusers"} <= strangers
    known = {normal(name_of(line)) for line in needed()}
    packages = metadata.packages_distributions()
    for module in strangers:
        assert {normal(name) for name in packages[module]} & known, f"{module} is imported, and is not on the list"
    assert {"jsonargparse", "diffusers", "open-clip-torch", "pyyaml"} <= known


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_an_extra_requires_is_on_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = list(of_extras(["jsonargparse[signatures]>=4.53", "torch>=2.11", "no_such_package[extra]"]))
    assert any(name_of(line) == "docstring-parser" for line in lines) and not any("shtab" in line for line in lines)
    asked = {"tool": ['leaf>=2; extra == "some"', 'other; extra == "more"', 'old; extra == "some" and python_version < "3"']}
    monkeypatch.setattr(metadata, "requires", asked.__getitem__)
    assert list(of_extras(["tool[some]"])) == ["leaf>=2"]


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_gpu_runs_all_of_it() -> None:
    lines = dry_run("gpu", "PYTHON=python3").splitlines()
    (tests,) = [line for line in lines if "pytest" in line]
    assert "ECLIPSE_PL_CARD=cuda" in tests and "-rs" in tests.split(), "nothing runs on a CPU, and what is skipped is said"
    for path in gpu_files():
        assert f"tests/{path.name}" in tests
    assert "missing_packages" in lines[0] and sum("eclipse_pl speed" in line for line in lines) == 2
