"""A loss that is not finite is found later, and named as it would have been at once; until then nothing is made of it."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch._subclasses.fake_tensor import FakeTensorMode

from eclipse_pl.__main__ import main as command
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.priors import EclipsePrior
from eclipse_pl.training.loss_watch import MOST, LossWatch
from tests.helpers.runs import metrics, write_experiment
from tests.helpers.shard_sets import make_shard_set
from tests.helpers.stopping import NotANumber
from tests.test_eclipse import tiny_batch
from tests.test_resume import AVERAGE, callback


def test_the_first_step_is_named_with_its_pairs() -> None:
    watch, batch = LossWatch(), tiny_batch()
    later, broken = tiny_batch(), tiny_batch()
    broken.text.text_states[3, 0] = math.inf
    later.image_embed[0, 0] = math.nan
    object.__setattr__(broken, "index", torch.tensor([7, 9, 11, 13, 15, 17]))
    for step, (loss, each) in enumerate([(1.0, batch), (math.nan, broken), (math.nan, later)]):
        watch.note(torch.tensor(loss), each, step)
    with pytest.raises(ValueError, match=r"infinity in text_states of the batch at step 1 \(pairs \[7, 9, 11, 13\]"):
        watch.look()
    watch.look()


def test_training_is_at_fault_where_the_batch_is_finite() -> None:
    watch = LossWatch()
    watch.note(torch.tensor(-math.inf), tiny_batch(), 3)
    with pytest.raises(ValueError, match="The loss is -inf at step 3 although the batch is finite: training diverged"):
        watch.look()


def test_what_no_loss_reads_does_no_harm() -> None:
    watch, batch = LossWatch(), tiny_batch()
    batch.image_embed[0, 0] = math.nan
    watch.note(torch.tensor(1.0), batch, 0)
    watch.look()


def test_a_note_never_waits_for_the_device() -> None:
    here = tiny_batch()
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = here.to("cuda")
        watch = LossWatch()
        watch.note(batch.image_embed.mean(), batch, 0)
        assert watch._seen[0].numbers.device.type == "cuda"


def test_memory_is_bounded() -> None:
    watch, batch = LossWatch(), tiny_batch()
    for step in range(MOST):
        assert not watch.full
        watch.note(torch.tensor(1.0), batch, step)
    assert watch.full


def failed(folder: Path, capfd: pytest.CaptureFixture[str], batch: int, **changes: Any) -> tuple[str, Path]:
    """The sentence of a run whose batch of this number holds NaN and which logs every eighth step, and its folder."""
    changes = {"trainer__log_every_n_steps": 8, "trainer__val_check_interval": 1000, **changes}
    changes.setdefault("trainer__callbacks", []).append(callback("NotANumber", rank=0, batch=batch))
    assert command(["fit", "--config", str(write_experiment(folder, **changes))]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    return line, folder / "runs" / "tiny" / "version_0"


def states(run: Path) -> dict[int, dict[str, Any]]:
    """The checkpoints of a run by their steps."""
    found = [torch.load(path, weights_only=True) for path in (run / "checkpoints").glob("*.ckpt")]
    return {checkpoint["global_step"]: checkpoint for checkpoint in found}


@pytest.mark.long
@pytest.mark.parametrize(
    ("looks", "broken", "kept"),
    [
        ({"trainer__accumulate_grad_batches": 2}, 4, []),  # at the end of an epoch, which has 8 batches
        ({"trainer__max_steps": 6}, 4, []),  # at the end of the run
        ({"checkpoint__every_n_steps": 3, "average": AVERAGE}, 4, [3]),
        ({"trainer__val_check_interval": 3, "checkpoint__monitor": "val/cosine"}, 4, [3]),
        ({"trainer__callbacks": [callback("StopAtBatch", batches=6)]}, 4, []),
        ({"trainer__log_every_n_steps": 2, "average": AVERAGE}, 4, []),
        ({"trainer__log_every_n_steps": 2}, 5, [5]),  # found in the step itself, so the run leaves the one before
    ],
    ids=["epoch", "end", "checkpoint", "validation", "stop", "step after", "step itself"],
)
def test_nothing_is_made_of_weights_after_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], looks: dict[str, Any], broken: int, kept: list[int]
) -> None:
    line, run = failed(tmp_path, capfd, broken, **{"checkpoint__every_n_steps": 10**6, **copy.deepcopy(looks)})
    step = broken // looks.get("trainer__accumulate_grad_batches", 1)
    assert f"NaN or infinity in image_embed of the batch at step {step} (pairs [" in line
    assert sorted(states(run)) == kept
    for checkpoint in states(run).values():
        for part in ("state_dict", "current_model_state"):
            assert all(tensor.isfinite().all() for tensor in checkpoint.get(part, {}).values())
    rows = metrics(run) if (run / "metrics.csv").exists() else {}
    assert all(row < step for row in rows)
    assert not (run / "finished.json").exists()


@pytest.mark.long
def test_the_step_of_accumulated_batches_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its gradients never reach the weights where the step is logged."""
    changes = {"trainer__accumulate_grad_batches": 2, "trainer__log_every_n_steps": 3, "checkpoint__every_n_steps": 10**6}
    line, run = failed(tmp_path, capfd, 4, **changes)
    assert "of the batch at step 2" in line
    (left,) = states(run).values()
    assert left["global_step"] == 2


@pytest.mark.long
def test_a_regression_never_solves_with_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prior = {"class_path": "eclipse_pl.priors.baselines.LinearPrior"}
    line, run = failed(tmp_path, capfd, 4, model__prior=prior, checkpoint__every_n_steps=10**6)
    assert "of the batch at step 4" in line
    assert not list(run.glob("checkpoints/*"))


@pytest.mark.long
def test_a_training_without_checkpoints_does_not_end_well(tmp_path: Path) -> None:
    """As in a notebook."""
    data = EmbeddingDataModule(str(make_shard_set(tmp_path / "shards")), batch_size=8, workers=0)
    prior = EclipsePrior(data.space, num_layers=1, num_attention_heads=2, attention_head_dim=8)
    module = LitPrior(prior, partial(torch.optim.AdamW, lr=1e-3))
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        max_steps=3,
        accelerator="cpu",
        use_distributed_sampler=False,
        enable_model_summary=False,
        limit_val_batches=0,
        log_every_n_steps=8,
        callbacks=[NotANumber(rank=0, batch=1)],
        **options,
    )
    with pytest.raises(ValueError, match="of the batch at step 1"):
        trainer.fit(module, data)
