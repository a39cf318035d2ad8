"""``model.compile``: the same losses, weights and checkpoints, and one sentence where it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor import cpp_builder, exc

from eclipse_pl import lit_prior
from eclipse_pl.__main__ import main as command
from eclipse_pl.priors import LinearPrior, NearestNeighbourPrior, Prior, TextAsImagePrior
from eclipse_pl.training.compiled import require_compiler
from tests.helpers.runs import metrics, write_experiment
from tests.helpers.shard_sets import make_shard_set

SIZES = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}


def experiment(folder: Path, **changes: Any) -> tuple[str, Path]:
    """An experiment whose batches have one shape, and the folder of its run."""
    folder.mkdir()
    make_shard_set(folder / "shards", splits={"train": 64, "val": 16, "test": 16}, tokens=(6, 6))
    steps = {"trainer__max_steps": 4, "trainer__val_check_interval": 10}
    prior = {"class_path": "eclipse_pl.priors.eclipse.EclipsePrior", "init_args": SIZES}
    # Adam would turn rounding in gradients that are zero (those of key biases) into whole steps
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0e-2}}
    config = write_experiment(folder, **{**steps, "model__prior": prior, "model__optimizer": optimizer, **changes})
    return str(config), folder / "runs" / "tiny" / "version_0"


def saved(run: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint


@pytest.mark.long
@pytest.mark.processes  # torch cannot compile what the types of arguments are checked in
def test_compiled_training_is_the_training(tmp_path: Path) -> None:
    """Noise included, and also where it is resumed without."""
    plain, whole = experiment(tmp_path / "plain", model__log_gradient_norms_every=3)
    assert command(["fit", "--config", plain]) == 0
    config, run = experiment(tmp_path / "compiled", model__log_gradient_norms_every=3)
    words = ["fit", "--config", config, "--trainer.max_steps=3", "--model.compile=reduce-overhead"]
    cache = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "code")}
    done = subprocess.run([sys.executable, "-m", "eclipse_pl", *words], env=cache, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "code").rglob("*.cpp")), "it was compiled"
    assert command(["fit", "--config", config, "--ckpt_path", str(run)]) == 0
    ours, theirs = metrics(run), metrics(whole)
    assert set(ours[0]) == set(theirs[0])
    for step, expected in theirs.items():
        shared = {name: value for name, value in expected.items() if name in ours[step]}
        assert {name: ours[step][name] for name in shared} == pytest.approx(shared, rel=1e-4, abs=1e-5, nan_ok=True), step
    got, expected = saved(run), saved(whole)
    assert got["state_dict"].keys() == expected["state_dict"].keys()
    for name, tensor in expected["state_dict"].items():
        torch.testing.assert_close(got["state_dict"][name], tensor, rtol=0, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("prior", [NearestNeighbourPrior, LinearPrior, TextAsImagePrior])
def test_what_has_no_gradient_is_not_compiled(
    prior: type[Prior], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: torch.device) -> None:
        raise AssertionError

    monkeypatch.setattr(lit_prior, "require_compiler", refuse)
    caplog.set_level("INFO")
    part = {"class_path": f"{prior.__module__}.{prior.__name__}"}
    config, run = experiment(tmp_path / "run", model__prior=part, trainer__max_steps=8, trainer__val_check_interval=8)
    assert command(["fit", "--config", config, "--model.compile=default"]) == 0
    assert f"model.compile has no effect: {prior.__name__} has nothing that is trained by gradient" in caplog.text
    assert metrics(run)[7]["val/total"]


@pytest.mark.long
def test_a_misspelt_mode(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config, _ = experiment(tmp_path / "run")
    with pytest.raises(SystemExit):
        command(["fit", "--config", config, "--model.compile=fast"])
    assert "reduce-overhead" in capfd.readouterr().err


@pytest.mark.long
def test_no_compiler_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    config, run = experiment(tmp_path / "run")
    assert command(["fit", "--config", config, "--model.compile=default"]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    needs = "model.compile needs a C++ compiler, and there is none: apt-get install g++, or leave model.compile null."
    assert said == [f"error: {needs}"]
    assert not run.exists()


def test_a_gpu_needs_triton_and_a_c_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    with pytest.raises(ValueError, match="needs Triton on a GPU"):
        require_compiler(torch.device("cuda"))
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match="needs a C compiler"):
        require_compiler(torch.device("cuda"))
