"""The wheel, installed: what a user has who never saw the checkout."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch

from tests.helpers.release import version_of

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent
SOURCES = ("eclipse_pl", "data_prep", "experiments", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
DIST = os.environ.get("ECLIPSE_PL_DIST")
"""Folder of a wheel that `make package` has built; then an environment that cannot be filled is an error."""
QUICKSTART = os.environ.get("ECLIPSE_PL_QUICKSTART", "short")
"""How the wheel is tried: ``whole`` takes five minutes, ``short`` is two steps on a small world."""
OWN_PRIOR = "from eclipse_pl.priors.eclipse import EclipsePrior\n\n\nclass OwnPrior(EclipsePrior):\n    pass\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, because building writes beside its sources; or the one of `make package`."""
    if DIST is not None:
        return next((ROOT / DIST).glob("*.whl")).absolute()
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("dist")
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    run([sys.executable, "-c", build], copy)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The bin/ of an environment with the wheel, which sees the packages of the tests but not their eclipse_pl."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    packages = next(folder.glob("lib/python*/site-packages"))
    # a .pth file found there is not read in turn, so that an editable install of the tests is not seen
    (packages / "of_the_tests.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "--quiet"]
    run([*pip, "--no-deps", "--no-index", "--ignore-installed", str(wheel)], folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def work(installed, tmp_path_factory):
    """A folder that ``eclipse_pl init`` filled, with the prior of a user's own."""
    folder = tmp_path_factory.mktemp("user") / "work"
    printed = run([str(installed / "eclipse_pl"), "init", "work"], folder.parent)
    assert printed.endswith("cd work\n  python -m eclipse_pl fit --config experiments/quickstart.yaml\n")
    (folder / "own_prior.py").write_text(OWN_PRIOR)
    return folder


def run(words: list[str], folder: Path) -> str:
    done = attempt(words, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def attempt(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run as a user would: in a folder outside of the checkout, which is not on the path."""
    ours = ("PYTHONPATH", "OMP_NUM_THREADS")  # tests run on one thread, a user's training on all
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_the_wheel_carries_every_file(wheel):
    assert wheel.name.split("-")[1] == version_of(), "that of the changelog and the citation (tests/test_release.py)"
    carried = set(zipfile.ZipFile(wheel).namelist())
    for name in ("eclipse_pl", "data_prep"):
        assert {f"{name}/{file}" for file in files_below(ROOT / name)} <= carried
    assert {f"eclipse_pl/experiments/{file}" for file in files_below(ROOT / "experiments")} <= carried
    assert {name.split("/")[0] for name in carried if ".dist-info/" not in name} == {"eclipse_pl", "data_prep"}


def test_both_front_doors_open(installed, tmp_path):
    script = run([str(installed / "eclipse_pl"), "--help"], tmp_path)
    assert script == run([str(installed / "python"), "-m", "eclipse_pl", "--help"], tmp_path)
    assert "\n  init " in script and "\n  fit " in script
    assert "\n  embed " in run([str(installed / "python"), "-m", "data_prep", "--help"], tmp_path)


def test_what_python_imports_is_the_wheel(installed, tmp_path):
    code = (
        "import data_prep, eclipse_pl.embedding\n"
        "print(data_prep.__file__, eclipse_pl.__file__, eclipse_pl.embedding.__file__, sep='\\n')\n"
    )
    places = run([str(installed / "python"), "-c", code], tmp_path).splitlines()
    assert all(Path(place).is_relative_to(installed.parent) for place in places)


def test_init_copies_the_experiments_whole(work):
    assert files_below(work / "experiments") == files_below(ROOT / "experiments")
    for path in files_below(ROOT / "experiments"):
        assert (work / "experiments" / path).read_bytes() == (ROOT / "experiments" / path).read_bytes()
    assert {path.name for path in work.iterdir()} == {"experiments", "own_prior.py"}, "nothing temporary is left"


def test_init_touches_no_folder_that_holds_something(installed, work):
    before = files_below(work)
    for words in (["work"], ["work/own_prior.py"]):
        done = attempt([str(installed / "eclipse_pl"), "init", *words], work.parent)
        assert done.returncode == 2
        assert "Choose a new folder" in done.stderr and "Traceback" not in done.stderr
    assert files_below(work) == before


def test_the_copy_is_trained_from_with_a_prior_of_ones_own(installed, work):
    words = ["fit", "--config", "experiments/quickstart.yaml", "--model.prior=own_prior.OwnPrior", "--print_config"]
    config = run([str(installed / "eclipse_pl"), *words], work)
    assert "class_path: own_prior.OwnPrior" in config and "experiment: quickstart" in config


@pytest.mark.slow
def test_the_wheel_alone_is_enough(wheel, tmp_path):
    """Into an empty environment, with all that it requires from the index of packages (5 GB)."""
    assert QUICKSTART in ("whole", "short"), f"QUICKSTART is {QUICKSTART}; choose whole or short"
    venv.create(tmp_path / "environment", with_pip=True)
    python = str(tmp_path / "environment/bin/python")
    if (
        DIST is None
        and attempt([python, "-m", "pip", "install", "--dry-run", "--no-deps", "braceexpand"], tmp_path).returncode
    ):
        pytest.skip("pip reaches no index of packages")
    run([python, "-m", "pip", "install", "--quiet", str(wheel)], tmp_path)
    run([python, "-m", "eclipse_pl", "init", "work"], tmp_path)
    overlays = {"short": ["--config", "experiments/overlays/smoke.yaml"], "whole": ["--run.wandb", "disabled"]}[QUICKSTART]
    command = [str(tmp_path / "environment/bin/eclipse_pl"), "fit", "--config", "experiments/quickstart.yaml", *overlays]
    printed = run(command, tmp_path / "work")
    made = tmp_path / "work/runs/quickstart/version_0"
    assert (made / "latent.json").is_file() and "this prior" in printed
    if QUICKSTART == "whole":
        with (made / "metrics.csv").open() as file:
            (*_, cosine) = [float(row["val/cosine"]) for row in csv.DictReader(file) if row["val/cosine"]]
        assert cosine > 0.93, "the text embedding alone has 0.856, ridge regression 0.934"
