"""What the README says exists."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_prep.__main__ import COMMANDS as DATA_COMMANDS
from eclipse_pl.__main__ import COMMANDS
from eclipse_pl.cli import main
from tests.helpers.runs import write_experiment

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "experiments" / "README.md"]


def blocks(page: Path, language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for tongue, text in fences if tongue == language]


def commands() -> list[str]:
    texts = [block.replace("\\\n", " ") for page in PAGES for block in blocks(page, "bash")]
    lines = [line.split("#")[0].strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("line", commands())
def test_commands_exist(line):
    words = line.split()
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[:2] == ["python", "-m"]:
        known = {"eclipse_pl": COMMANDS, "data_prep": DATA_COMMANDS}[words[2]]
        assert words[3] in known
        for path in re.findall(r"experiments/\S+\.yaml", line):
            assert (ROOT / path).is_file()
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    else:
        pytest.fail(f"nobody knows whether this works: {line}")


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_file_tree_is_the_tree():
    (tree,) = [block for block in blocks(ROOT / "README.md", "") if block.startswith("eclipse_pl/\n")]
    told = set(re.findall(r"^ +(?:beside it )?(\w+(?:\.py|/))", tree, re.MULTILINE)) | set(re.findall(r"(\w+\.py)", tree))
    for path in (ROOT / "eclipse_pl").iterdir():
        if path.suffix == ".py" and path.name != "__init__.py":
            assert path.name in told, f"{path.name} is not in the README's tree"
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"{path.name}/" in told, f"{path.name}/ is not in the README's tree"
    for name in told:
        where = [*ROOT.glob(name), *(ROOT / "eclipse_pl").rglob(name.rstrip("/"))]
        assert where, f"{name} is in the README's tree only"


def test_the_prior_in_30_lines_trains(tmp_path, monkeypatch):
    (code,) = [block for block in blocks(ROOT / "README.md", "python") if block.startswith("# my_prior.py")]
    assert len(code.splitlines()) <= 30
    (tmp_path / "my_prior.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    main(["fit", "--config", str(write_experiment(tmp_path)), "--model.prior=my_prior.HiddenLayerPrior"])
    checkpoint = torch.load(tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    assert "prior.network.0.weight" in checkpoint["state_dict"]
    sys.modules.pop("my_prior")


def test_help_of_every_command():
    for package, known in (("eclipse_pl", COMMANDS), ("data_prep", DATA_COMMANDS)):
        done = subprocess.run([sys.executable, "-m", package, "--help"], capture_output=True, text=True, check=True)
        for command in known:
            assert command in done.stdout
