"""What README, guide and notebook promise: their commands, their links, their Python."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonargparse
import pytest
import torch
from PIL import Image

from data_prep.__main__ import COMMANDS as DATA_COMMANDS
from data_prep.__main__ import main as data_command
from eclipse_pl.__main__ import COMMANDS
from eclipse_pl.__main__ import main as command
from eclipse_pl.priors import DiffusionPrior, EclipsePrior
from eclipse_pl.sweeps.readers import ArgumentReader
from eclipse_pl.world.encoder import WorldEncoder
from tests.helpers.runs import write_experiment
from tests.helpers.saved_runs import make_run
from tests.helpers.shard_sets import make_shard_set, make_space

ROOT = Path(__file__).parent.parent
GUIDE = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "experiments/README.md")), *GUIDE]
INLINE = [ROOT / "README.md", *GUIDE]
"""Pages whose sentences name whole commands."""
FRONT_DOORS = {"eclipse_pl": command, "data_prep": data_command}
TOUR = ROOT / "docs" / "tour.ipynb"


def blocks(page: Path, language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for tongue, text in fences if tongue == language]


def commands() -> list[str]:
    texts = [block.replace("\\\n", " ") for page in PAGES for block in blocks(page, "bash")]
    lines = [line.split("#")[0].strip().removeprefix("srun ") for text in texts for line in text.splitlines()]
    inline = [line for page in INLINE for line in re.findall(r"`(python -m [^`]+)`", page.read_text()) if whole(line)]
    return [line for line in dict.fromkeys([*lines, *inline]) if line]


def whole(line: str) -> bool:
    """Whether a command that is named in a sentence has its arguments."""
    return len(line.split()) > 4 and "..." not in line and not re.search(r"\b[A-Z]{3,}\b", line)


class ParsedError(BaseException):
    """Raised in place of what a command would do."""


def stop_after_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command ends when its arguments are read."""
    for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
        read = parser.parse_args

        def parse_args(self, *args, read=read, **options):
            read(self, *args, **options)
            raise ParsedError

        monkeypatch.setattr(parser, "parse_args", parse_args)


@pytest.fixture(scope="module")
def reader():
    """Reads the arguments of many fits with one parser, which takes longer to build than to use."""
    return ArgumentReader()


@pytest.mark.long
@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line, reader, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    for path in re.findall(r"experiments/\S+\.yaml", line):
        assert (ROOT / path).is_file()
    words = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID", "5"))  # the shell's part
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "python" and words[1] != "-m":
        assert (ROOT / words[1]).is_file()
    else:
        assert words[:2] == ["python", "-m"] and words[2] in FRONT_DOORS, f"nobody knows whether this works: {line}"
        read_arguments(words[2], words[3:], reader, monkeypatch)
    assert not capsys.readouterr().err


def read_arguments(package: str, words: list[str], reader: ArgumentReader, monkeypatch: pytest.MonkeyPatch) -> None:
    if package == "eclipse_pl" and words[0] in ("fit", "validate", "test") and "--print_config" not in words:
        if "--ckpt_path" in words and "--config" not in words:  # the config of that run is read
            words = [*words, "--config", f"experiments/{Path(words[words.index('--ckpt_path') + 1]).parent.name}.yaml"]
        while "--ckpt_path" in words:  # the run is one that the reader of the page has made
            place = words.index("--ckpt_path")
            words = words[:place] + words[place + 2 :]
        if "--config" in words:  # it comes before what changes it
            place = words.index("--config")
            words = [words[0], *words[place : place + 2], *words[1:place], *words[place + 2 :]]
        reader.read([word.replace("my_prior.HiddenLayerPrior", "eclipse_pl.priors.mlp.MLPPrior") for word in words])
        return
    stop_after_parsing(monkeypatch)
    with pytest.raises((ParsedError, SystemExit)) as end:
        FRONT_DOORS[package](words)
    assert end.type is ParsedError or not end.value.code  # --print_config ends the process


@pytest.mark.parametrize("page", [*PAGES, TOUR], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]+)?\)", page.read_text()):
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor[1:] in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_read_in_three_minutes():
    text = (ROOT / "README.md").read_text()
    words = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE).split()
    assert len(text.splitlines()) <= 170
    assert len(words) <= 900


def test_every_page_of_the_guide_is_in_its_menu():
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    for page in GUIDE:
        assert f": {page.name}\n" in menu, f"{page.name} is in no menu"


def test_the_reference_names_what_there_is():
    names = re.findall(r"^::: (\S+)", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert names
    for name in names:
        module, _, member = name.rpartition(".")
        assert hasattr(importlib.import_module(module), member), name


def test_the_file_tree_is_the_tree():
    (tree,) = [block for block in blocks(ROOT / "README.md", "") if block.startswith("eclipse_pl/\n")]
    told = set(re.findall(r"(\w+/|\w+\.py)(?=\s)", tree))
    for path in (ROOT / "eclipse_pl").iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"{path.name}/" in told, f"{path.name}/ is not in the README's tree"
    for name in told:
        assert (ROOT / name).exists() or (ROOT / "eclipse_pl" / name).exists(), f"{name} is in the README's tree only"
    comments = {re.search(r" {2,}(?=\S)(?!\w+[/.])", line).end() for line in tree.splitlines()[1:]}
    assert len(comments) == 1, "the comments are not aligned"


@pytest.mark.long
def test_the_prior_in_30_lines_trains(tmp_path, monkeypatch):
    (code,) = [block for block in blocks(ROOT / "README.md", "python") if block.startswith("# my_prior.py")]
    assert len(code.splitlines()) <= 30
    (tmp_path / "my_prior.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert command(["fit", "--config", str(write_experiment(tmp_path)), "--model.prior=my_prior.HiddenLayerPrior"]) == 0
    checkpoint = torch.load(tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    assert "prior.network.0.weight" in checkpoint["state_dict"]
    sys.modules.pop("my_prior")


def python_of(page: Path, begins: str) -> str:
    (code,) = [block for block in blocks(page, "python") if begins in block]
    return code


@pytest.fixture
def quickstart(tmp_path, monkeypatch):
    """Where the quickstart has left its run, with random weights."""
    monkeypatch.chdir(tmp_path)
    encoder = WorldEncoder(device="cpu")
    space = encoder.space(torch.zeros(encoder.dim), torch.ones(encoder.dim))
    return make_run(
        tmp_path / "runs/quickstart/version_0", EclipsePrior, space, num_layers=1, num_attention_heads=2, attention_head_dim=8
    )


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_from_a_prompt_to_an_image_in_ten_lines(quickstart, capsys, page):
    code = python_of(ROOT / page, "decoder.decode")
    assert len([line for line in code.splitlines() if line]) <= 10
    names = {}
    exec(code, names)
    assert names["predicted"].shape == (2, names["prior"].space.dim)
    assert re.fullmatch(r"tensor\(\[ ?\S+, +\S+\]\)\n", capsys.readouterr().out)
    with Image.open("image.png") as image:
        assert image.size == (64, 64)


def test_the_guide_scores_and_compares_in_python(quickstart, monkeypatch):
    monkeypatch.chdir(quickstart.parents[2])
    Path("experiments").symlink_to(ROOT / "experiments")
    code = python_of(ROOT / "docs/api.md", "load_part(")
    names = {}
    exec(code, names)
    assert names["card"]["images"] == 24
    assert "numeracy" in names["report"].markdown


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore:Starting from v1.9.0")  # Lightning misses TensorBoard
@pytest.mark.filterwarnings("ignore:The number of training batches")  # there is one here
def test_the_guides_notebook_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_shard_set(tmp_path / "data/world", splits={"train": 256, "val": 16, "test": 16})
    names = {}
    exec(python_of(ROOT / "docs/train.md", "LitPrior(").replace("max_steps=200", "max_steps=2"), names)
    assert names["trainer"].global_step == 2
    for name, weights in names["module"].prior.state_dict().items():
        assert torch.equal(names["prior"].state_dict()[name], weights), name


def test_the_worlds_images_by_diffusers(quickstart):
    assert command(["export", "--prior", str(quickstart), "--out", "my_prior"]) == 0
    names = {}
    exec(python_of(ROOT / "docs/release.md", "eclipse_pl.world.decoder").replace("steps=20", "steps=2"), names)
    assert [image.size for image in names["images"]] == [(64, 64)]


def test_a_teachers_sample_of_one_caption(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = WorldEncoder(device="cpu")
    space = encoder.space(torch.zeros(encoder.dim), torch.ones(encoder.dim))
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "steps": 2}
    make_run(tmp_path / "runs/diffusion_world/version_0", DiffusionPrior, space, **sizes)
    names = {}
    exec(python_of(ROOT / "docs/distill.md", "noise_of"), names)
    assert names["embed"].shape == (1, space.dim)


def test_a_prior_of_measurements_predicts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
    space = replace(make_space(8, 1), condition_dim=3)
    make_run(tmp_path / "runs/coco500/version_0", EclipsePrior, space, target="image", **sizes)
    names = {}
    exec(python_of(ROOT / "docs/data.md", "TextCondition.pooled"), names)
    assert names["image_embed"].shape == (2, 8) and names["image_embed"].isfinite().all()


@pytest.mark.processes
def test_help_of_every_command():
    for package, known in (("eclipse_pl", COMMANDS), ("data_prep", DATA_COMMANDS)):
        done = subprocess.run([sys.executable, "-m", package, "--help"], capture_output=True, text=True, check=True)
        for name in known:
            assert name in done.stdout


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads(TOUR.read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.processes
@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    (tmp_path / "tour.ipynb").write_text(TOUR.read_text())
    words = ["-m", "pytest", "--nbmake", "--nbmake-timeout=240", "-p", "no:cacheprovider", "tour.ipynb"]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
