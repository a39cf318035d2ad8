"""A schedule is as long as its run, and what cannot be is refused before the first step."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, PolynomialLR

from eclipse_pl.__main__ import main as command
from eclipse_pl.training.learning_rate import RunLength, make_schedule
from tests.helpers.runs import metrics, write_experiment

pytestmark = pytest.mark.long

ONE_CYCLE = {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 1.0e-3, "pct_start": 0.3}}


def experiment(folder: Path, **changes: Any) -> str:
    return str(write_experiment(folder, **{"model__scheduler": ONE_CYCLE, "trainer__val_check_interval": 8, **changes}))


def rates(run: Path) -> list[float]:
    """The learning rate of every step."""
    return [values["lr"] for _, values in sorted(metrics(run).items()) if "lr" in values]


def one_cycle(steps: int, lr: float = 1.0e-3) -> list[float]:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    schedule = OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.3)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        if schedule.last_epoch == steps - 1:
            found.append(schedule.get_last_lr()[0])
            break
    return found


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["--trainer.max_steps=7"], 7),
        (["--trainer.max_steps=-1", "--trainer.max_epochs=2"], 16),
        (["--trainer.max_steps=12", "--trainer.max_epochs=1"], 8),
        (["--trainer.max_steps=-1", "--trainer.max_epochs=2", "--trainer.limit_train_batches=3"], 6),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_schedule_is_as_long_as_its_run(tmp_path: Path, words: list[str], steps: int) -> None:
    assert command(["fit", "--config", experiment(tmp_path, trainer__val_check_interval=None), *words]) == 0
    assert rates(tmp_path / "runs/tiny/version_0") == pytest.approx(one_cycle(steps))


def test_a_run_is_extended_by_the_schedule_of_its_config(tmp_path: Path) -> None:
    """Neither the length nor the height of the schedule is the checkpoint's."""
    config, run = experiment(tmp_path), tmp_path / "runs/tiny/version_0"
    assert command(["fit", "--config", config, "--trainer.max_steps=5"]) == 0
    more = ["--trainer.max_steps=10", "--ckpt_path", str(run), "--model.scheduler.init_args.max_lr=2e-3"]
    assert command(["fit", "--config", str(run / "config.yaml"), *more]) == 0
    assert rates(run) == pytest.approx(one_cycle(5) + one_cycle(10, 2.0e-3)[5:])


def test_settings_of_the_optimizer_are_the_configs_on_resume(tmp_path: Path) -> None:
    config, run = str(write_experiment(tmp_path, trainer__max_steps=3)), tmp_path / "runs/tiny/version_0"
    assert command(["fit", "--config", config]) == 0
    more = ["--trainer.max_steps=5", "--model.optimizer.init_args.lr=0.01", "--model.optimizer.init_args.weight_decay=0.5"]
    assert command(["fit", "--config", config, "--ckpt_path", str(run), *more]) == 0
    assert rates(run) == pytest.approx([0.001] * 3 + [0.01] * 2)
    (state,) = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"]
    assert state["param_groups"][0]["weight_decay"] == 0.5
    assert state["state"][0]["step"] == 5, "moments go on"


@pytest.mark.parametrize("kind", ["OneCycleLR", "CosineAnnealingLR"])
def test_a_run_stopped_inside_its_schedule_resumes_exactly(tmp_path: Path, kind: str, caplog: Any) -> None:
    one_cycle = {**ONE_CYCLE, "init_args": {**ONE_CYCLE["init_args"], "total_steps": 10}}
    cosine = {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 10}}
    runs = []
    for name, stops in (("whole", [10]), ("parts", [6, 10])):
        (tmp_path / name).mkdir()
        config = experiment(tmp_path / name, model__scheduler=one_cycle if kind == "OneCycleLR" else cosine)
        runs.append(tmp_path / name / "runs/tiny/version_0")
        for number, stop in enumerate(stops):
            more = ["--ckpt_path", str(runs[-1])] if number else []
            assert command(["fit", "--config", config, f"--trainer.max_steps={stop}", *more]) == 0
    assert caplog.text.count("The schedule of 10 steps will not be finished: trainer.max_steps is 6") == 1
    assert rates(runs[0]) == rates(runs[1])
    states = [torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_that_has_more_steps_than_its_schedule_stays_at_the_last_rate(tmp_path: Path) -> None:
    """Of three epochs, two were made with half the global batch."""
    config, run = experiment(tmp_path, trainer__max_epochs=3), tmp_path / "runs/tiny/version_0"
    assert command(["fit", "--config", config, "--trainer.max_steps=16"]) == 0
    more = ["--trainer.max_steps=-1", "--data.init_args.batch_size=16", "--ckpt_path", str(run)]
    with pytest.warns(UserWarning, match="8 pairs in a global batch, and now there are 16"):
        assert command(["fit", "--config", config, *more]) == 0
    assert rates(run) == pytest.approx([*one_cycle(16), *one_cycle(12)[-1:] * 4])


def test_a_run_that_is_made_shorter_than_it_is_still_ends_with_its_table(tmp_path: Path) -> None:
    config, run = experiment(tmp_path), tmp_path / "runs/tiny/version_0"
    assert command(["fit", "--config", config, "--trainer.max_steps=8"]) == 0
    (run / "latent.json").unlink()
    assert command(["fit", "--config", config, "--trainer.max_steps=5", "--ckpt_path", str(run)]) == 0
    assert (run / "latent.json").is_file()


def scheduler(name: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": f"torch.optim.lr_scheduler.{name}", "init_args": init_args}


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (scheduler("OneCycleLR", max_lr=1.0, total_steps=9), ("total_steps is 9", "ends before the run")),
        (scheduler("OneCycleLR", max_lr=1.0, epochs=1, steps_per_epoch=9), ("total_steps is 9", "ends before the run")),
        (scheduler("CosineAnnealingLR", T_max=9), ("T_max is 9", "ends before the run")),
        (scheduler("PolynomialLR"), ("total_iters is 5", "ends before the run")),
        (scheduler("OneCycleLR", max_lr=1.0, total_steps=200), ("total_steps 200", "end in its warm-up")),
        (scheduler("OneCycleLR", max_lr=1.0, total_steps=10, pct_start=0.1), ("pct_start is 0.1", "has no step")),
        (scheduler("OneCycleLR", max_lr=1.0, pct_start=0.05), ("pct_start is 0.05", "has no step")),
        (scheduler("ReduceLROnPlateau"), ("ReduceLROnPlateau", "a metric")),
    ],
    ids=lambda value: value["class_path"].rpartition(".")[2] if isinstance(value, dict) else value[1],
)
def test_a_schedule_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, capfd: Any, chosen: dict[str, Any], said: tuple[str, ...]
) -> None:
    assert command(["fit", "--config", experiment(tmp_path, model__scheduler=chosen)]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    for words in said if "Plateau" in said[0] else (*said, "trainer.max_steps is 10"):
        assert words in line
    assert not (tmp_path / "runs").exists()


def test_a_run_without_an_end_needs_a_length(tmp_path: Path, capfd: Any) -> None:
    endless = ["--trainer.max_steps=-1", "--trainer.max_epochs=-1", "--trainer.max_time=00:00:10:00"]
    assert command(["fit", "--config", experiment(tmp_path), *endless]) == 2
    assert "the run has no end: set trainer.max_steps" in capfd.readouterr().err


KINDS = {
    OneCycleLR: st.fixed_dictionaries(
        {"max_lr": st.just(0.1), "total_steps": st.none() | st.integers(1, 40), "pct_start": st.floats(0, 1)},
        optional={"three_phase": st.booleans(), "anneal_strategy": st.sampled_from(["cos", "linear"])},
    ),
    CosineAnnealingLR: st.fixed_dictionaries({"T_max": st.integers(1, 40)}),
    PolynomialLR: st.fixed_dictionaries({"total_iters": st.integers(1, 40)}),
}


@given(st.sampled_from(list(KINDS)).flatmap(lambda kind: st.tuples(st.just(kind), KINDS[kind])), st.integers(1, 40))
def test_whatever_is_not_refused_lasts_to_the_end_of_the_run(chosen: tuple[Any, dict[str, Any]], steps: int) -> None:
    kind, options = chosen
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    try:
        schedule, length = make_schedule(partial(kind, **options), optimizer, RunLength(steps, "trainer.max_steps"))
    except ValueError as error:
        assert "trainer.max_steps" in str(error)
        return
    assert length is not None and length >= steps
    assert kind is not OneCycleLR or length == (options["total_steps"] or steps)
    found = []
    for step in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        if step < steps - 1:
            schedule.step()
    assert all(0 <= rate <= 0.1 + 1e-9 for rate in found)
    assert min(found) > 0 or kind is not PolynomialLR
    if length == steps > 1 and kind is not OneCycleLR:
        assert found == sorted(found, reverse=True)
