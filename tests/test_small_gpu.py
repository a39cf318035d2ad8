"""A GPU that is too small or too old, and a fused optimizer, each answered before or after the first step in one sentence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from eclipse_pl.__main__ import main as command
from eclipse_pl.training.options import out_of_memory, require_clippable, require_precision
from tests.helpers.runs import metrics, write_experiment
from tests.test_resume import callback


class OutOfMemory(L.Callback):
    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.long
def test_too_large_a_batch_says_what_to_halve(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**30)
    config = write_experiment(tmp_path, trainer__callbacks=[callback("tests.test_small_gpu.OutOfMemory")])
    assert command(["fit", "--config", str(config)]) == 2
    (said,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "too little memory for data.batch_size 8: torch held 3.0 GiB" in said
    assert "--data.init_args.batch_size 4 and --trainer.accumulate_grad_batches 2: " in said


class OutOfMemoryInValidation(L.Callback):
    def on_validation_batch_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if not trainer.sanity_checking:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.long
def test_too_large_a_batch_of_validation(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**30)
    config = write_experiment(tmp_path, trainer__callbacks=[callback("tests.test_small_gpu.OutOfMemoryInValidation")])
    assert command(["fit", "--config", str(config)]) == 2
    said = capfd.readouterr().err
    assert (
        "data.val_batch_size 8: torch held 3.0 GiB when it asked for more. Halve it: --data.init_args.val_batch_size 4."
        in said
    )


def test_a_static_graph_accumulates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 0)
    strategy = DDPStrategy(static_graph=True)
    monkeypatch.setattr(type(strategy), "root_device", torch.device("cuda", 0))
    trainer = SimpleNamespace(strategy=strategy, accumulate_grad_batches=1)
    said = out_of_memory(trainer, SimpleNamespace(batch_size=8), trained=True)
    assert said.endswith("set trainer.strategy.init_args.static_graph to false).")


def test_a_gpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda", 0)), precision="bf16-mixed")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(ValueError, match="bf16-mixed, but Tesla T4 has no bfloat16: choose 16-mixed or 32-true"):
        require_precision(trainer)
    trainer.precision = "16-mixed"
    require_precision(trainer)


def test_scaled_gradients_of_a_fused_optimizer_cannot_be_clipped() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2))]
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=object()), gradient_clip_val=1.0)
    require_clippable(trainer, torch.optim.AdamW(weights))
    with pytest.raises(ValueError, match=r"set model\.optimizer\.init_args\.fused to false"):
        require_clippable(trainer, torch.optim.AdamW(weights, fused=True))
    trainer.precision_plugin.scaler = None
    require_clippable(trainer, torch.optim.AdamW(weights, fused=True))


@pytest.mark.long
def test_a_fused_optimizer_resumes_with_its_schedule_and_clipping(tmp_path: Path) -> None:
    runs = []
    for stops in ((8,), (4, 8)):
        folder = tmp_path / str(len(stops))
        folder.mkdir()
        config = write_experiment(
            folder,
            model__optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-3, "fused": True}},
            model__scheduler={
                "class_path": "torch.optim.lr_scheduler.OneCycleLR",
                "init_args": {"max_lr": 1.0e-3, "total_steps": 8},
            },
            trainer__gradient_clip_val=0.1,
            trainer__precision="bf16-mixed",
            trainer__val_check_interval=4,
        )
        runs.append(folder / "runs" / "tiny" / "version_0")
        for number, stop in enumerate(stops):
            resumed = ["--ckpt_path", str(runs[-1])] if number else []
            assert command(["fit", "--config", str(config), f"--trainer.max_steps={stop}", *resumed]) == 0
    ours, theirs = metrics(runs[1]), metrics(runs[0])
    assert ours.keys() == theirs.keys()
    for step, expected in theirs.items():
        assert ours[step] == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True), step
