"""A whole step of ``fit`` reads no number of a tensor: on a GPU the host would wait for it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from torch import Tensor

from eclipse_pl.__main__ import main as command
from tests.helpers.runs import write_experiment
from tests.helpers.shard_sets import make_shard_set
from tests.test_resume import AVERAGE, callback

pytestmark = pytest.mark.long

READS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")
LOGGED, STEPS = 6, 20

seen: list[tuple[int, str]] = []
"""The step of each read, and where it was made."""
step = -1


class Steps(L.Callback):
    """Notes which step is made. A step lasts until the next batch is asked for."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        global step
        step = trainer.global_step - 1

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        global step
        step = trainer.global_step


@contextmanager
def reads_noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def noted(name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        def note(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append((step, f"Tensor.{name} at\n{''.join(traceback.format_stack(limit=9)[:-1])}"))
            return read(self, *args, **kwargs)

        return note

    global step
    step = -1
    seen.clear()
    with monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(Tensor, name, noted(name, getattr(Tensor, name)))
        yield


PRIORS = {
    "eclipse": {"class_path": "eclipse_pl.priors.eclipse.EclipsePrior"},
    "diffusion": {"class_path": "eclipse_pl.priors.diffusion.DiffusionPrior"},
}


@pytest.mark.parametrize(("prior", "batches"), [("eclipse", 1), ("diffusion", 2)])
def test_no_step_waits_but_those_that_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prior: str, batches: int
) -> None:
    """Optimizer, clipping, schedule, averaging, progress bar and all callbacks of a run included."""
    make_shard_set(tmp_path / "shards", splits={"train": 512, "val": 16, "test": 16})
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
    experiment = write_experiment(
        tmp_path,
        model__prior={**PRIORS[prior], "init_args": sizes},
        model__optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-3, "fused": True}},
        model__scheduler={"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 1.0e-3}},
        average=AVERAGE,
        checkpoint__every_n_steps=10**6,
        trainer__accumulate_grad_batches=batches,
        trainer__enable_progress_bar=True,
        trainer__gradient_clip_val=1.0,
        trainer__log_every_n_steps=LOGGED,
        trainer__max_steps=STEPS,
        trainer__precision="bf16-mixed",
        trainer__val_check_interval=10**6,
        trainer__callbacks=[callback("tests.test_fit_without_waits.Steps")],
    )
    with reads_noted(monkeypatch):
        assert command(["fit", "--config", str(experiment)]) == 0
    may_read = {number for number in range(STEPS) if (number + 1) % LOGGED == 0} | {-1, STEPS - 1}
    assert {number for number, _ in seen} >= may_read, "reads are noted, and steps are counted"
    waits = [f"step {number}: {where}" for number, where in seen if number not in may_read]
    assert not waits, f"{len(waits)} reads, the first one in {waits[0]}"
