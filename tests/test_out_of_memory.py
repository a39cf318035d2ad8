"""A batch for which the memory of the device does not suffice: one sentence, and the last good step is kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eclipse_pl.__main__ import main as command
from eclipse_pl.callbacks.out_of_memory import OutOfMemory, out_of_memory
from eclipse_pl.priors import EclipsePrior
from tests.helpers.runs import write_experiment


@pytest.mark.long
@pytest.mark.parametrize(
    ("failing", "said"),
    [
        (3, "at step 2, with data.batch_size 8. Halve it (--data.init_args.batch_size 4), with twice as many "
            "processes or trainer.accumulate_grad_batches 2 for the samples of a step."),
        (4, "at step 3, with data.val_batch_size 6. Halve it (--data.init_args.val_batch_size 3)."),
    ],
    ids=["training", "validation"],
)  # fmt: skip
def test_the_sentence_says_what_to_halve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, failing: int, said: str
) -> None:
    calls, losses = [], EclipsePrior.losses

    def limited(prior: EclipsePrior, batch: Any) -> Any:
        calls.append(len(batch))
        if len(calls) == failing:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total capacity of 79 GiB"
            )
        return losses(prior, batch)

    monkeypatch.setattr(EclipsePrior, "losses", limited)
    assert command(["fit", "--config", str(write_experiment(tmp_path, data__init_args__val_batch_size=6))]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line == f"error: The memory of cpu does not suffice {said}"
    left = torch.load(tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    assert left["global_step"] == failing - 1


def test_a_gpu_is_named_with_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 78.9e9)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(total_memory=85e9))
    strategy = SimpleNamespace(root_device=torch.device("cuda:0"))
    trainer = SimpleNamespace(training=True, accumulate_grad_batches=4, strategy=strategy, global_step=9)
    said = out_of_memory(trainer, SimpleNamespace(batch_size=1024))
    assert said.startswith("The memory of NVIDIA H100 does not suffice (peak of this process 78.9 of 85.0 GB) at step 9, with")
    assert "--data.init_args.batch_size 512" in said and "accumulate_grad_batches 8 " in said
    assert "a batch of one pair is too large" in out_of_memory(trainer, SimpleNamespace(batch_size=1))


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="of another kind"), OutOfMemory().named():
        raise RuntimeError("of another kind")
