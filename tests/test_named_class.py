"""Folders from somebody else: a config that names something else than a prior runs nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse_pl.__main__ import main as command
from eclipse_pl.loading import load_prior
from eclipse_pl.priors import BestOfPrior, EclipsePrior, Prior
from eclipse_pl.priors.named_class import classes_in, named_class
from eclipse_pl.training.named_checkpoint import with_config_of_run
from tests.helpers.saved_runs import make_run, write_config, write_run
from tests.helpers.shard_sets import make_space
from tests.test_network import captions

SMALL = {"num_layers": 1, "num_attention_heads": 1, "attention_head_dim": 8}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", EclipsePrior, make_space(8, 8), **SMALL)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Modules on the path that leave a file behind when they are imported, or their class is built; and that file's place."""
    sprung = tmp_path / "sprung"
    spring = f"open({str(sprung)!r}, 'w').close()"
    modules = {
        "on_import": f"{spring}\nclass Trap: ...\n",
        "on_build": f"class Trap:\n    def __init__(self, *args, **options):\n        {spring}\n",
        "takes_over": f"from eclipse_pl.priors import EclipsePrior, Prior\n{spring}\n",
        "calls": f"from eclipse_pl.priors import Prior\n{spring}\nTrap = type('Trap', (Prior,), {{}})\n",
        "uses": f"from eclipse_pl.priors import Prior\n{spring}\nclass Trap:\n    prior = Prior\n",
        "inner/__init__": spring,
        "inner/plain": "class Trap: ...\n",
        "broken": f"{spring}\nclass Trap(\n",
        "circle": f"from round import Trap\n{spring}",
        "round": f"from circle import Trap\n{spring}",
    }
    for name, text in modules.items():
        path = tmp_path / "modules" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return sprung


TOUCH = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"


@pytest.mark.parametrize(
    "class_path",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.exec",
        "builtins.print",
        "runpy.run_path",
        "torch.load",
        "torch.nn.Linear",
        "eclipse_pl.lit_prior.LitPrior",
        "eclipse_pl.priors.prior.Prior",
        "eclipse_pl.priors.network.PriorNetwork",
        "eclipse_pl.priors.prior.gaussian_noise",
        "on_import.Trap",
        "on_import.Nothing",
        "on_build.Trap",
        "calls.Trap",
        "uses.Trap",
        "inner.plain.Trap",
        "broken.Trap",
        "circle.Trap",
        "no_such_module.Trap",
        "antigravity.Trap",
        "this.Trap",
        "Trap",
        "",
        ".Trap",
        "on_import.",
        "..on_import.Trap",
        "on_import:Trap",
        "on_import/../on_import.Trap",
        None,
        7,
        ["os.system"],
    ],
)
def test_what_is_no_prior_is_neither_called_nor_imported(run: Path, trap: Path, class_path: Any) -> None:
    write_config(run, {"class_path": class_path, "init_args": {"args": [sys.executable, "-c", TOUCH, str(trap)]}})
    before = set(sys.modules)
    with pytest.raises(ValueError, match=r"config\.yaml names"):
        load_prior(str(run))
    assert not trap.exists()
    assert not {"on_import", "on_build", "calls", "uses", "inner", "broken", "circle", "antigravity", "this"} & (
        set(sys.modules) - before
    )


@settings(max_examples=60)
# setuptools puts its own distutils in the place of Python's whenever somebody looks for it
@pytest.mark.long
@given(
    module=st.sampled_from(sorted(sys.stdlib_module_names - {"distutils"})),
    name=st.sampled_from(["main", "run", "Popen", "Prior"]),
)
def test_no_module_of_python_is_imported(module: str, name: str) -> None:
    before = set(sys.modules)
    for place in (module, f"{module}.__main__", f"{module}.{name}"):
        with pytest.raises(ValueError, match="names"):
            named_class(f"{place}.{name}", (Prior,), "here")
    assert set(sys.modules) == before


def test_a_class_that_was_taken_over_is_found_where_it_is_written(run: Path, trap: Path) -> None:
    write_config(run, {"class_path": "takes_over.EclipsePrior", "init_args": SMALL})
    assert type(load_prior(str(run))) is EclipsePrior
    assert not trap.exists() and "takes_over" not in sys.modules


PARTS = Path(__file__).parent.parent / "experiments" / "parts"
BENCHMARK = ["benchmark", f"--decoder={PARTS / 'decoder/world.yaml'}", f"--protocol={PARTS / 'protocol/world.yaml'}"]


@pytest.mark.parametrize(
    "words", [["export"], ["sample", "--prompt=['a star']"], ["nearest", "--prompt=['a star']"], BENCHMARK], ids=lambda w: w[0]
)
def test_no_command_runs_them(run: Path, trap: Path, words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    write_config(run, {"class_path": "on_import.Trap", "init_args": {}})
    assert command([*words, "--prior", str(run), "--out", str(run.parent / "out.png")]) == 2
    assert "names on_import.Trap, which its module does not define as a Prior" in capfd.readouterr().err
    assert not trap.exists()


@pytest.mark.parametrize("argument", ["noise", "temperature", "network", "weights", "options"])
@pytest.mark.parametrize("deep", [False, True])
def test_nor_do_its_arguments(run: Path, trap: Path, argument: str, deep: bool) -> None:
    part: Any = {"class_path": "on_build.Trap", "init_args": {}}
    nested = [{"a": part}] if deep else part
    write_config(run, {"class_path": "eclipse_pl.priors.eclipse.EclipsePrior", "init_args": {**SMALL, argument: nested}})
    if argument == "weights":  # what a run began with is never looked at
        load_prior(str(run))
    else:
        with pytest.raises(ValueError, match=r"config\.yaml names (the class )?on_build\.Trap"):
            load_prior(str(run))
    assert not trap.exists()


MINE = """
    from __future__ import annotations

    import torch
    from torch import nn

    import eclipse_pl.priors.direct as direct
    from eclipse_pl.priors import Prior as Base
    from eclipse_pl.priors.mlp import PooledNetwork
    from eclipse_pl.priors.standardised import StandardisedNetwork


    class Mine(direct.DirectPrior):
        def __init__(
            self, network: StandardisedNetwork, act: nn.Module | None, space, more: list[nn.Module] = (), **options
        ):
            super().__init__(space, network, **options)
            self.act, self.more = act, nn.ModuleList(more)


    class Prior(Base):
        def losses(self, batch):
            return {"total": torch.zeros(())}

        def sample(self, text, generator=None):
            return text.text_embed
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's, in folders that are no packages, with priors in it; another takes one over by a star."""
    name = f"mine_{tmp_path.name.lower().replace('-', '_')}"
    (tmp_path / name / "inner").mkdir(parents=True)
    (tmp_path / name / "inner" / "priors.py").write_text(dedent(MINE))
    (tmp_path / name / "star.py").write_text("from .inner.priors import *\n")
    (tmp_path / name / "further.py").write_text("from .star import Prior\n\nclass Further(Prior[0] if 0 else Prior): ...\n")
    (tmp_path / name / "plain.py").write_text("from . import star\n\nclass Further(star.Prior): ...\n")
    alias = "try:\n    from eclipse_pl.priors import DiffusionPrior\nexcept ImportError:\n    pass\nBase = DiffusionPrior\n"
    (tmp_path / name / "other.py").write_text("Loop = Loop\nUp = Down\nDown = Up\n")
    (tmp_path / name / "alias.py").write_text(f"{alias}Same = Base\nclass Further(Base): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_priors_of_ones_own_are_built(mine: str, tmp_path: Path) -> None:
    space = make_space(8, 8)
    for place in ("inner.priors.Prior", "star.Prior", "plain.Further", "alias.Same", "alias.Further"):
        assert issubclass(named_class(f"{mine}.{place}", (Prior,), "here"), Prior)
    with pytest.raises(ValueError, match=r"BASE leads to Prior"):
        named_class(f"{mine}.other.Loop", (Prior,), "here")
    with pytest.raises(ValueError, match="does not define as a Prior"):
        named_class(f"{mine}.further.Further", (Prior,), "here")
    cls = named_class(f"{mine}.inner.priors.Mine", (Prior,), "here")
    network = {
        "class_path": "eclipse_pl.priors.mlp.PooledNetwork",
        "init_args": {"dim": 8, "text_dim": 8, "num_layers": 1, "width": 4},
    }
    nested = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}}
    options: dict[str, Any] = {"network": network, "act": nested, "more": [nested, nested], "noise": "zero"}
    from eclipse_pl.priors.mlp import PooledNetwork

    linear = torch.nn.Linear(2, 3)
    made = cls(PooledNetwork(8, 8, 1, 4), linear, space, more=[torch.nn.Linear(2, 3) for _ in range(2)], noise="zero")
    run = write_run(tmp_path / "run", made, options, f"{mine}.inner.priors.Mine")
    text = captions([3, 4], 8)
    assert torch.equal(load_prior(str(run)).sample(text), made.sample(text))
    write_config(run, {"class_path": f"{mine}.inner.priors.Mine", "init_args": {**options, "network": nested}})
    with pytest.raises(
        ValueError, match=r"names torch\.nn\.Linear, which its module does not define as a StandardisedNetwork"
    ):
        load_prior(str(run))


def test_any_names_no_class() -> None:
    assert classes_in(Any) == classes_in(list[Any]) == classes_in(dict[str, Any] | None) == ()


def test_a_prior_of_ones_own_is_reranked(mine: str, tmp_path: Path) -> None:
    """A class within ``prior_args``, whose annotation names none, was refused, though the inner prior's annotation does."""
    sizes = {"dim": 8, "text_dim": 8, "num_layers": 1, "width": 4}
    part = {"class_path": "eclipse_pl.priors.mlp.PooledNetwork", "init_args": sizes}
    arguments: dict[str, Any] = {"prior": f"{mine}.inner.priors.Mine", "prior_args": {"network": part, "act": None}}
    run = make_run(tmp_path / "run", BestOfPrior, make_space(8, 8), **arguments)
    assert isinstance(load_prior(str(run)), BestOfPrior)
    arguments["prior_args"]["network"] = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}}
    write_config(run, {"class_path": "eclipse_pl.priors.best_of.BestOfPrior", "init_args": arguments})
    with pytest.raises(ValueError, match=r"names torch\.nn\.Linear, which its module does not define as a Standardised"):
        load_prior(str(run))


@pytest.mark.processes
def test_a_module_that_is_not_here(mine: str, tmp_path: Path) -> None:
    made = named_class(f"{mine}.inner.priors.Prior", (Prior,), "here")(make_space(8, 8))
    run = write_run(tmp_path / "run", made, {}, f"{mine}.inner.priors.Prior")
    words = [sys.executable, "-m", "eclipse_pl", "export", "--prior", str(run), "--out", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"names {mine}.inner.priors.Prior, and this module was not found" in done.stderr and "PYTHONPATH" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("model: [1", "is no YAML"),
        ("- 1", "is no config of a run"),
        ("model: 3", r"names no prior \(model\.prior\.class_path\)"),
        ("model: {prior: EclipsePrior}", "names no prior"),
        ("model: {prior: {class_path: eclipse_pl.priors.EclipsePrior, init_args: 3}}", "names no prior"),
        ("model: {prior: {class_path: eclipse_pl.priors.EclipsePrior, init_args: {layers: 3}}}", "does not fit .*layers"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
    ],
)
def test_configs_that_name_no_prior(run: Path, config: str, said: str) -> None:
    (run / "config.yaml").write_text(config)
    with pytest.raises(ValueError, match=said):
        load_prior(str(run))


def test_a_run_without_a_checkpoint(run: Path) -> None:
    (run / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(ValueError, match="has no checkpoint: there is no"):
        load_prior(str(run))


@pytest.mark.parametrize("read", [load_prior, lambda folder: with_config_of_run(["validate", "--ckpt_path", folder])])
def test_the_folder_of_an_experiment_names_its_runs(run: Path, read: Callable[[str], Any]) -> None:
    for version in ("version_0", "version_1"):
        run.parent.joinpath("tiny", version).mkdir(parents=True)
        shutil.copy(run / "config.yaml", run.parent / "tiny" / version)
    folder = run.parent / "tiny"
    with pytest.raises(ValueError, match=rf"tiny holds runs, and is none itself\. Name one .*: {folder}/version_0, "):
        read(str(folder))


def test_the_run_that_is_measured_may_be_named_below_home(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(run.parent))
    assert with_config_of_run(["validate", "--ckpt_path=~/run"])[:3] == ["validate", "--config", str(run / "config.yaml")]


def test_checkpoints_of_another_kind(run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    whole = path.read_bytes()
    space = torch.load(path, weights_only=True)["space"]
    others = (torch.zeros(3), {"state_dict": {}}, {"space": {}, "state_dict": {}}, {"space": space, "state_dict": 3}, [1])
    for content in others:
        torch.save(content, path)
        with pytest.raises(ValueError, match="was not written by eclipse_pl"):
            load_prior(str(run))
    for damaged in (b"", b"PK", whole[:100], whole[: len(whole) // 2], json.dumps({}).encode(), whole[:-30]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be read safely"):
            load_prior(str(run))
