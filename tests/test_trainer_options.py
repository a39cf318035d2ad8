"""What Lightning's trainer can do and this project cannot, and fits that train nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eclipse_pl.__main__ import main as command
from eclipse_pl.training.options import require_in_range
from tests.helpers.runs import write_experiment


def error(capfd: Any) -> str:
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


FSDP = {"class_path": "lightning.pytorch.strategies.FSDPStrategy"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("precision", precision) for precision in ("bf16-true", "16-true", "64-true", "64", "transformer-engine")),
        *(("strategy", strategy) for strategy in ("fsdp", "fsdp_cpu_offload", "deepspeed_stage_2", "deepspeed", "xla", FSDP)),
    ],
    ids=str,
)
def test_a_precision_or_strategy_that_is_not_supported_is_refused(tmp_path: Path, capfd: Any, option: str, value: Any) -> None:
    assert command(["fit", "--config", str(write_experiment(tmp_path, **{f"trainer__{option}": value}))]) == 2
    line = error(capfd)
    assert line.startswith(f"error: trainer.{option} is {value if isinstance(value, str) else 'FSDPStrategy'}, but")
    assert "choose " in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
def test_a_static_graph_with_accumulated_gradients_is_refused(tmp_path: Path, capfd: Any) -> None:
    strategy = {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"static_graph": True}}
    options = {"trainer__strategy": strategy, "trainer__devices": 2, "trainer__accumulate_grad_batches": 2}
    assert command(["fit", "--config", str(write_experiment(tmp_path, **options))]) == 2
    line = error(capfd)
    assert "static_graph: true and trainer.accumulate_grad_batches is 2" in line and "Leave one of them out." in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("option", "value", "every_n_epoch", "said"),
    [
        ("accumulate_grad_batches", -1, None, "above 0: 1 makes a step with each batch"),
        ("accumulate_grad_batches", 0, None, "above 0: 1 makes a step with each batch"),
        ("val_check_interval", 0, None, "above 0: for no validation set trainer.limit_val_batches to 0"),
        ("val_check_interval", 0, 1, "above 0: for no validation set trainer.limit_val_batches to 0"),
        ("val_check_interval", 0.0, 1, "above 0: for no validation set trainer.limit_val_batches to 0"),
        ("check_val_every_n_epoch", 0, 0, "above 0: for no validation set trainer.limit_val_batches to 0"),
        ("check_val_every_n_epoch", -1, -1, "above 0: for no validation set trainer.limit_val_batches to 0"),
        ("gradient_clip_val", -0.5, None, "0 or more: null clips nothing"),
        ("log_every_n_steps", -1, None, "0 or more: 0 logs validations alone"),
    ],
)
def test_numbers_out_of_range_that_lightning_takes_are_refused(
    tmp_path: Path, capfd: Any, option: str, value: float, every_n_epoch: int | None, said: str
) -> None:
    changes = {"trainer__check_val_every_n_epoch": every_n_epoch, f"trainer__{option}": value}
    assert command(["fit", "--config", str(write_experiment(tmp_path, **changes))]) == 2
    assert error(capfd) == f"error: trainer.{option} is {value}, but must be {said}."
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("limit", ["0", "0.0"])
@pytest.mark.parametrize(("name", "option"), [("validate", "limit_val_batches"), ("test", "limit_test_batches")])
def test_a_measurement_of_no_batch_is_refused(tmp_path: Path, capfd: Any, name: str, option: str, limit: str) -> None:
    experiment = write_experiment(tmp_path, **{f"trainer__{option}": 0})
    assert command([name, "--config", str(experiment), f"--trainer.{option}={limit}"]) == 2
    said = f"error: trainer.{option} is 0, so {name} would measure nothing: --trainer.{option}=1.0 measures all pairs."
    assert error(capfd) == said
    assert not (tmp_path / "runs").exists()
    assert command([name, "--config", str(experiment), "--trainer.fast_dev_run=true"]) == 0  # has a limit of its own


@pytest.mark.parametrize("interval", [0.25, None, "00:00:00:01"], ids=str)
def test_intervals_in_all_of_lightnings_forms_are_supported(interval: Any) -> None:
    options = {"accumulate_grad_batches": 1, "check_val_every_n_epoch": None, "gradient_clip_val": 0, "log_every_n_steps": 0}
    require_in_range(SimpleNamespace(val_check_interval=interval, **options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("accelerator", "devices"),
    [("gpu", 1), ("cuda", 7), ("gpuu", 1), ("mps", 1), ("tpu", 1), ("cpu", "foo"), ("cpu", 0), ("cpu", -1), ("auto", "2,3")],
)
def test_devices_that_are_misspelt_or_not_there_are_named(tmp_path: Path, capfd: Any, accelerator: str, devices: Any) -> None:
    config = write_experiment(tmp_path, trainer__accelerator=accelerator, trainer__devices=devices)
    assert command(["fit", "--config", str(config)]) == 2
    line = error(capfd)
    assert (
        f"trainer.accelerator is {accelerator} and trainer.devices is {devices}" in line
    ) or f"accelerator='{accelerator}'" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16", "32"])
def test_other_precisions_train_and_resume(tmp_path: Path, recwarn: Any, precision: str) -> None:
    config = str(write_experiment(tmp_path, trainer__precision=precision, trainer__max_steps=4))
    run = tmp_path / "runs/tiny/version_0"
    assert command(["fit", "--config", config]) == 0
    assert command(["fit", "--config", config, "--trainer.max_steps=5", "--ckpt_path", str(run)]) == 0
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 5
    assert {tensor.dtype for tensor in checkpoint["state_dict"].values() if tensor.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trainer.limit_train_batches=0"], "trainer.limit_train_batches is 0"),
        (["--trainer.limit_train_batches=0.0", "--trainer.max_epochs=2"], "trainer.limit_train_batches is 0"),
        (["--trainer.max_steps=0"], "trainer.max_steps is 0"),
        (["--trainer.max_steps=-1", "--trainer.max_epochs=0"], "trainer.max_epochs is 0"),
    ],
    ids=str,
)
def test_a_fit_that_trains_nothing_says_so_and_fails(tmp_path: Path, capfd: Any, words: list[str], said: str) -> None:
    scheduler = {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 1.0e-3}}
    with pytest.raises(SystemExit) as stop:
        command(["fit", "--config", str(write_experiment(tmp_path, model__scheduler=scheduler)), *words])
    assert stop.value.code == 1
    assert error(capfd).startswith(f"error: trained nothing: {said}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
def test_a_development_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scheduler = {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 1.0e-3, "total_steps": 9}}
    config = write_experiment(tmp_path, model__scheduler=scheduler)
    assert command(["fit", "--config", str(config), "--trainer.fast_dev_run=true"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["experiment.yaml", "shards"]


@pytest.mark.long
def test_last_and_best_are_those_of_the_experiment(tmp_path: Path, capfd: Any, caplog: Any) -> None:
    config = str(write_experiment(tmp_path, checkpoint__monitor="val/cosine", trainer__max_steps=7))
    for name in ("last", "best"):
        assert command(["fit", "--config", config, "--ckpt_path", name]) == 2
        assert f"--ckpt_path {name}: there is no such checkpoint below {tmp_path}/runs/tiny yet" in error(capfd)
    assert command(["fit", "--config", config]) == 0
    (best,) = (tmp_path / "runs/tiny/version_0/checkpoints").glob("best-*.ckpt")
    capfd.readouterr()
    for name, file in (("best", best), ("last", best.with_name("last.ckpt"))):
        assert command(["validate", "--config", config, "--ckpt_path", name]) == 0
        assert f"Loaded model weights from the checkpoint at {file}" in caplog.text
