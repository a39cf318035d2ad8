"""Several unknown keys of a fit are reported at once, each with its file and line; so is a monitor that is no metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eclipse_pl.__main__ import main as command
from eclipse_pl.cli import main as cli
from eclipse_pl.latent.metrics import require_metric
from tests.helpers.runs import write_experiment


def test_several_unknown_keys_in_several_files(tmp_path: Path, capfd: Any) -> None:
    part = tmp_path / "trainer.yaml"
    part.write_text("accelerator: cpu\nmax_step: 3\nprecison: 32-true\n")
    experiment = write_experiment(tmp_path, checkpoint__moniter="val/cosine", data__init_args__batch_sise=8, trainr={})
    with pytest.raises(SystemExit) as stop:
        command(["fit", "--config", str(experiment), "--trainer", str(part)])
    assert stop.value.code == 2
    first, *lines = capfd.readouterr().err.splitlines()
    assert first == "error: 5 problems:" and len(lines) == 5
    for wrong, right, file in (
        ("max_step", "max_steps", part),
        ("precison", "precision", part),
        ("moniter", "monitor", experiment),
        ("batch_sise", "batch_size", experiment),
        ("trainr", "trainer", experiment),
    ):
        (line,) = [line for line in lines if f"'{wrong}'" in line]
        assert f"Near it: {right}." in line and f"({file}, line " in line


@pytest.mark.parametrize(("monitor", "near"), [("cosine", "val/cosine"), ("val/centered_cosine", "val/centred_cosine")])
def test_a_monitor_that_is_no_metric(tmp_path: Path, capfd: Any, monitor: str, near: str) -> None:
    assert command(["fit", "--config", str(write_experiment(tmp_path, checkpoint__monitor=monitor))]) == 2
    said = capfd.readouterr().err
    assert f"checkpoint.monitor is {monitor}, which is no metric" in said and f"Near it: {near}." in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("monitor", "near"), [("cosine", "val/cosine"), ("val/cosin", "val/cosine")])
def test_a_monitor_of_a_callback_that_is_no_metric(tmp_path: Path, capfd: Any, monitor: str, near: str) -> None:
    callback = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": monitor}}
    assert command(["fit", "--config", str(write_experiment(tmp_path, trainer__callbacks=[callback]))]) == 2
    said = capfd.readouterr().err
    assert f"the monitor of EarlyStopping is {monitor}, which is no metric" in said and f"Near it: {near}." in said
    assert not (tmp_path / "runs").exists()


def test_every_callback_of_one_class_is_checked(tmp_path: Path, capfd: Any) -> None:
    early = "lightning.pytorch.callbacks.EarlyStopping"
    callbacks = [{"class_path": early, "init_args": {"monitor": name}} for name in ("val/cosin", "val/cosine")]
    assert command(["fit", "--config", str(write_experiment(tmp_path, trainer__callbacks=callbacks))]) == 2
    assert "the monitor of EarlyStopping is val/cosin, which is no metric" in capfd.readouterr().err


def test_callbacks_may_monitor_all_that_a_run_logs_and_metrics_of_their_own() -> None:
    for name in ("val/total", "train/total", "benchmark/mean_colour", "lr", "samples_per_second", "mine/score"):
        require_metric("the monitor of Mine", name, others=True)
    with pytest.raises(ValueError, match=r"checkpoint\.monitor is mine/score, which is no metric"):
        require_metric("checkpoint.monitor", "mine/score")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--model.optimizer.init_args.lrr=1"], "model.optimizer of AdamW: Option 'lrr' is not accepted; near it: lr."),
        (
            ["--model.optimizer=torch.optim.SGD", "--model.optimizer.momentumm=1"],
            "model.optimizer of SGD: Option 'momentumm' is not accepted; near it: momentum.",
        ),
    ],
)
def test_an_option_of_a_class_that_torch_wrote(tmp_path: Path, capfd: Any, words: list[str], answer: str) -> None:
    with pytest.raises(SystemExit):
        cli(["fit", "--config", str(write_experiment(tmp_path)), *words])
    assert answer in capfd.readouterr().err


@pytest.mark.parametrize(
    ("added", "answer"),
    [
        ("trainer.max_steps: 5", r"'trainer.max_steps' beside 'trainer' (line "),
        ("config: overlays/smoke.yaml", "a file cannot name another config (overlays/smoke.yaml would be ignored)"),
        ("seed_everything: 7", "the key 'seed_everything' stands in line "),
    ],
)
def test_a_key_that_the_parser_would_drop_is_refused(tmp_path: Path, capfd: Any, added: str, answer: str) -> None:
    experiment = write_experiment(tmp_path)
    text = experiment.read_text()
    line = len(text.splitlines()) + len(added.splitlines())
    experiment.write_text(f"{text.rstrip()}\n{added}\n")
    assert command(["fit", "--config", str(experiment)]) == 2
    said = capfd.readouterr().err
    assert f"{experiment}, line {line}: " in said and answer in said and "Traceback" not in said


def test_a_key_that_a_part_states_twice_is_refused(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "part.yaml").write_text("max_steps: 3\naccelerator: cpu\nmax_steps: 4\n")
    experiment = write_experiment(tmp_path, trainer="part.yaml")
    assert command(["fit", "--config", str(experiment)]) == 2
    assert "part.yaml, line 3: the key 'max_steps' stands in line 1 too" in capfd.readouterr().err
