"""What only a CUDA device can show of training: `make gpu` runs these."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from eclipse_pl.__main__ import main as command
from eclipse_pl.callbacks.measure import measure
from eclipse_pl.cli import main
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.device import free_memory
from eclipse_pl.priors import MLPPrior
from eclipse_pl.run import read_metrics
from eclipse_pl.speed.fit import config
from eclipse_pl.speed.inputs import write_shards
from tests.helpers.card import assert_near, card
from tests.helpers.no_wait import NoWait, set_mode
from tests.helpers.shard_sets import make_shard_set

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parent.parent
EXPERIMENTS = ROOT / "experiments"
STEPS, EVERY = 50, 10


@pytest.fixture
def device() -> Iterator[torch.device]:
    found = card()
    yield found
    set_mode(found, "default")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")["state_dict"]


def test_no_step_of_fit_waits_for_the_gpu(tmp_path: Path, device: torch.device) -> None:
    """Fifty steps of ECLIPSE's prior in bfloat16, with fused AdamW, clipping, logging and all callbacks of a run."""
    gpu = device.type == "cuda"
    dim, batch, sizes = (
        (768, 256, {}) if gpu else (16, 8, {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8})
    )
    write_shards(tmp_path, shards=2, records=8, chunk=1024 if gpu else 64, dim=dim)  # more than fifty batches
    experiment = config(tmp_path, device, batch, STEPS, EVERY, sizes)
    experiment["trainer"]["callbacks"] = [{"class_path": "tests.helpers.no_wait.NoWait", "init_args": {"every": EVERY}}]
    experiment["data"]["init_args"]["workers"] = 2 if gpu else 0
    (tmp_path / "experiment.yaml").write_text(json.dumps(experiment))
    trainer = main(["fit", "--config", str(tmp_path / "experiment.yaml")]).trainer
    assert trainer.global_step == STEPS
    (guard,) = (callback for callback in trainer.callbacks if isinstance(callback, NoWait))
    assert len(guard.guarded) == STEPS - STEPS // EVERY - 1
    rows = read_metrics(tmp_path / "runs/speed/version_0/metrics.csv")
    assert [float(row["train/total"]) for row in rows if row["train/total"]]


def test_a_batch_that_is_too_large_is_named(tmp_path: Path, device: torch.device, capfd: pytest.CaptureFixture[str]) -> None:
    """ECLIPSE's prior at batch 4096, in a process that may take one GB."""
    if device.type == "cpu":
        pytest.skip("a CPU has no memory of its own")
    write_shards(tmp_path, shards=1, records=8, chunk=1024, dim=768)
    experiment = config(tmp_path, device, 4096, 8, 4, {})
    experiment["trainer"].pop("callbacks")
    (tmp_path / "experiment.yaml").write_text(json.dumps(experiment))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 1e9) / total)
    try:
        assert command(["fit", "--config", str(tmp_path / "experiment.yaml")]) == 2
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        free_memory(device)
    said = capfd.readouterr().err
    assert "error: cuda:0 has too little memory for data.batch_size 4096: torch held " in said
    assert "--data.init_args.batch_size 2048" in said


def test_the_world_is_trained_and_resumed_on_the_card(
    tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after half of its steps. The way of the other half is the same to 20 %: sums on a GPU have no fixed order, and
    AdamW makes steps of the rounding of zero gradients. With other batches or other noise it would be another way.
    """
    monkeypatch.chdir(tmp_path)
    files = [str(EXPERIMENTS / name) for name in ("quickstart.yaml", "overlays/smoke.yaml")]
    place = "gpu" if device.type == "cuda" else "cpu"
    words = ["fit", *(word for file in files for word in ("--config", file)), f"--trainer.accelerator={place}"]
    words += ["--model.scheduler=null", "--checkpoint.every_n_steps=3", "--trainer.val_check_interval=3"]
    runs = {name: tmp_path / "runs" / "quickstart" / name for name in ("whole", "stopped")}
    main([*words, "--run.version=whole", "--trainer.max_steps=6"])
    main([*words, "--run.version=stopped", "--trainer.max_steps=3"])
    middle = weights(runs["stopped"])
    main([*words, "--ckpt_path", str(runs["stopped"]), "--trainer.max_steps=6"])
    whole, resumed = weights(runs["whole"]), weights(runs["stopped"])
    trained = [name for name in whole if whole[name].is_floating_point() and not torch.equal(whole[name], middle[name])]
    assert len(trained) > 20
    ways = [torch.cat([(end[name] - middle[name]).flatten() for name in trained]) for end in (resumed, whole)]
    assert_near(*ways, 0.2, name="the way of the second half")
    last = [float(read_metrics(runs[name] / "metrics.csv")[-1]["val/cosine"]) for name in runs]
    assert last[1] == pytest.approx(last[0], abs=1e-3)


def test_two_processes_on_one_card_are_one_process(tmp_path: Path, device: torch.device) -> None:
    """By gloo, with negatives of all ranks: losses and weights to 1e-4 of their norm, in float32."""
    for ranks in (1, 2):
        words = [
            [sys.executable, "-m", "tests.helpers.card_rank", str(rank), str(ranks), str(tmp_path)] for rank in range(ranks)
        ]
        started = [subprocess.Popen([*word, device.type], cwd=ROOT, stderr=subprocess.PIPE, text=True) for word in words]
        try:
            errors = [process.communicate(timeout=240)[1] for process in started]
        finally:
            for process in started:
                process.kill()
        assert [process.returncode for process in started] == [0] * ranks, errors
    one, two = (torch.load(tmp_path / f"{ranks}.pt", weights_only=True) for ranks in (1, 2))
    assert_near(two["losses"], one["losses"], 1e-4, name="losses")
    for name, tensor in one["state"].items():
        assert_near(two["state"][name], tensor, 1e-4, name=name)


def test_two_cards_by_nccl_are_one_card(tmp_path: Path, device: torch.device) -> None:
    """The world through the front door, with the strategy of four_gpus.yaml, against one card of twice the batch."""
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if count < 2:
        pytest.skip(f"NCCL needs two cards, and there {'is' if count == 1 else 'are'} {count}: DDP on cards was NOT checked")
    files = [str(EXPERIMENTS / name) for name in ("quickstart.yaml", "overlays/smoke.yaml")]
    words = [sys.executable, "-m", "eclipse_pl", "fit", *(word for file in files for word in ("--config", file))]
    words += ["--trainer.accelerator=gpu", "--model.scheduler=null", "--model.prior.init_args.noise=zero"]
    words += ["--model.optimizer=torch.optim.SGD", "--model.optimizer.init_args.lr=1.0e-3"]
    strategy = tmp_path / "strategy.yaml"
    part = yaml.safe_load((EXPERIMENTS / "parts/trainer/four_gpus.yaml").read_text())
    strategy.write_text(yaml.safe_dump({"trainer": {"devices": 2, "strategy": part["strategy"]}}))
    more = {"one": ["--data.init_args.batch_size=16"], "two": ["--config", str(strategy), "--data.init_args.batch_size=8"]}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name, options in more.items():
        done = subprocess.run(
            [*words, f"--run.version={name}", *options],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
    one, two = (weights(tmp_path / "runs/quickstart" / name) for name in more)
    for name, tensor in one.items():
        assert_near(two[name], tensor, 1e-4, name=name)


def test_a_measured_prior_stays_on_its_gpu(tmp_path: Path, device: torch.device) -> None:
    """On the last one, which is not the current one where there are several."""
    gpu = device.type == "cuda"
    device = torch.device("cuda", torch.cuda.device_count() - 1) if gpu else device
    current = torch.cuda.current_device() if gpu else None
    folder = make_shard_set(tmp_path / "shards", splits={"train": 32, "val": 16})
    prior = MLPPrior(EmbeddingDataModule(str(folder), workers=0).space, num_layers=1, width=8).to(device)
    first = measure(prior, str(folder))
    assert {tensor.device for tensor in prior.state_dict().values()} == {device}
    assert measure(prior, str(folder))["this prior"]["all"] == pytest.approx(first["this prior"]["all"])
    assert not gpu or torch.cuda.current_device() == current
