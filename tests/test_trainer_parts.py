"""The trainer parts for GPUs, as far as a CPU can tell: their strategy in two processes, and the options they share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from eclipse_pl.cli import main
from eclipse_pl.dotted_keys import flat
from tests.helpers.runs import metrics, write_experiment

ROOT = Path(__file__).parent.parent / "experiments"
GPU_PARTS = ("one_gpu", "one_gpu_short", "four_gpus", "slurm_nodes")


def part(name: str) -> dict:
    return yaml.safe_load((ROOT / f"parts/trainer/{name}.yaml").read_text())


@pytest.mark.parametrize("name", GPU_PARTS)
def test_they_compute_in_bfloat16_and_look_at_the_loss_seldom(name: str) -> None:
    trainer = part(name)
    assert trainer["precision"] == "bf16-mixed" and trainer["log_every_n_steps"] >= 50
    assert trainer["val_check_interval"] % trainer["log_every_n_steps"] == 0


def test_parts_of_many_gpus_differ_in_the_number_of_nodes_only() -> None:
    four, nodes = flat(part("four_gpus")), flat(part("slurm_nodes"))
    assert {key for key in four.keys() | nodes.keys() if four.get(key) != nodes.get(key)} == {"num_nodes"}


def test_the_paper_on_one_gpu_has_the_global_batch_and_the_samples_of_four() -> None:
    one, four = (
        yaml.safe_load((ROOT / f"parts/data/{name}.yaml").read_text())["init_args"] for name in ("karlo_one_gpu", "karlo")
    )
    assert one["batch_size"] == part("four_gpus")["devices"] * four["batch_size"] == 1024
    assert part("one_gpu")["max_steps"] == part("four_gpus")["max_steps"]
    assert part("one_gpu")["max_steps"] * one["batch_size"] == pytest.approx(61e6, rel=0.01)
    assert {key for key in one if one[key] != four[key]} == {"batch_size"}


@pytest.mark.long
def test_a_part_is_an_option_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--trainer", str(ROOT / "parts/trainer/slurm_nodes.yaml"), "--data.init_args.batch_size", "128"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(ROOT / "eclipse_karlo.yaml"), *words, "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["trainer"]["num_nodes"] == 2 and printed["data"]["init_args"]["batch_size"] == 128
    assert printed["trainer"]["strategy"]["init_args"]["static_graph"] is True


@pytest.mark.slow
def test_two_processes_with_a_static_graph_train_and_resume_as_one_process(tmp_path: Path) -> None:
    """Gloo, one thread, eight pairs a step: the weights and the validations of one process that was never stopped."""
    prior = {"model__prior__init_args__noise": "zero", "trainer__val_check_interval": 4, "trainer__max_steps": 8}
    # Adam would turn rounding in gradients that are zero (those of key biases) into whole steps
    prior["model__optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0e-3}}
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    main(["fit", "--config", str(write_experiment(folders[0], **prior))])
    strategy = {"trainer__devices": 2, "trainer__strategy": part("four_gpus")["strategy"]}
    experiment = write_experiment(folders[1], data__init_args__batch_size=4, **strategy, **prior)
    words = [sys.executable, "-m", "eclipse_pl", "fit", "--config", str(experiment)]
    runs = [folder / "runs" / "tiny" / "version_0" for folder in folders]
    for more in (["--trainer.max_steps=5"], ["--ckpt_path", str(runs[1])]):
        done = subprocess.run([*words, *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs]
    assert states[1]["global_step"] == 8
    for name, tensor in states[0]["state_dict"].items():
        torch.testing.assert_close(states[1]["state_dict"][name], tensor, rtol=0, atol=1e-5)
    ours, theirs = metrics(runs[1])[7], metrics(runs[0])[7]
    assert ours["val/cosine"] == pytest.approx(theirs["val/cosine"], abs=1e-5)


def test_a_fused_optimizer_trains_in_bfloat16_with_clipped_gradients(tmp_path: Path) -> None:
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-3, "fused": True}}
    trainer = {"trainer__precision": "bf16-mixed", "trainer__gradient_clip_val": 1.0, "trainer__max_steps": 2}
    main(["fit", "--config", str(write_experiment(tmp_path, model__optimizer=optimizer, **trainer))])
    assert (tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt").is_file()
