"""Energy of training, on counters of processors (RAPL) that lie in a folder of the test, and of a GPU that is a stand-in."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import lightning as L
import pytest
import torch
from PIL import Image

from eclipse_pl.__main__ import main as command
from eclipse_pl.callbacks import energy_counters
from eclipse_pl.callbacks.energy_counters import gpu_counters, processor_counters, total
from eclipse_pl.callbacks.samples import SampleImages
from eclipse_pl.cli import main as fit
from eclipse_pl.publish.card import ModelCard
from eclipse_pl.reports.run_record import RunRecord
from tests.helpers.pipelines import kandinsky
from tests.helpers.ranks import on_ranks, torchrun
from tests.helpers.runs import write_experiment
from tests.helpers.runs_with_images import experiment

WATT_HOUR = 3_600_000_000
"""In microjoules, the unit of the counters."""
END = 2 * WATT_HOUR + 1
"""Where the counters begin again."""
PACKAGE, MEMORY, CORES, PLATFORM = (f"intel-rapl:{name}" for name in ("0", "0:0", "0:1", "1"))


class Machine(L.Callback):
    """Takes 1 Wh a step in processors and 0.5 in memory, and much more in each validation."""

    folder = Path()

    def take(self, watt_hours: float) -> None:
        for counter, share in ((PACKAGE, 1.0), (MEMORY, 0.5), (CORES, 0.8), (PLATFORM, 3.0)):
            path = self.folder / counter / "energy_uj"
            path.write_text(str((int(path.read_text()) + round(share * watt_hours * WATT_HOUR)) % END))

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.is_global_zero:
            self.take(1)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.is_global_zero:
            self.take(1000)


@pytest.fixture
def counters(tmp_path, monkeypatch):
    """A machine with one processor and its memory; cores are a part of the processor, and the platform has all of it again."""
    folder = tmp_path / "powercap"
    for counter, name in ((PACKAGE, "package-0"), (MEMORY, "dram"), (CORES, "core"), (PLATFORM, "psys")):
        (folder / counter).mkdir(parents=True)
        for file, text in (("name", name), ("energy_uj", str(WATT_HOUR)), ("max_energy_range_uj", str(END))):
            (folder / counter / file).write_text(f"{text}\n")
    monkeypatch.setattr(energy_counters, "POWERCAP", folder)
    monkeypatch.setattr(Machine, "folder", folder)
    return folder


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def energies(run: Path) -> list[float]:
    """In watt-hours, as they were logged."""
    return [1000 * float(row["train_kwh_cpu"]) for row in rows(run) if row["train_kwh_cpu"]]


@pytest.mark.long
def test_a_run_logs_the_energy_of_training_over_its_resumes_and_the_reports_show_it(tmp_path, counters, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = {"trainer__max_steps": 4, "trainer__val_check_interval": 2, "trainer__log_every_n_steps": 1}
    callbacks = [{"class_path": f"{Machine.__module__}.Machine"}]
    path = write_experiment(tmp_path, **trainer, trainer__callbacks=callbacks, run__energy=True, run__experiment="metered")
    fit(["fit", "--config", str(path)])
    run = tmp_path / "runs" / "metered" / "version_0"
    # a step's energy is taken after ours have logged; validation comes after both
    assert energies(run) == pytest.approx([1.5, 3.0, 3.0, 4.5, 6.0], rel=1e-5)
    assert "train_kwh_gpu" not in rows(run)[0], "no GPU, no number"

    fit(["fit", "--config", str(path), f"--ckpt_path={run}", "--trainer.max_steps=6"])
    assert max(energies(run)) == pytest.approx(9.0, rel=1e-5)

    record = RunRecord.read(run)
    assert record.train_kwh == pytest.approx(0.009, rel=1e-5)
    assert "0.009 kWh of training by the counters of the hardware: processors and memory 0.009.\n" in card(record)
    capsys.readouterr()
    assert command(["compare", str(run)]) == 0
    assert "training, kWh" in capsys.readouterr().out


def test_a_run_that_logs_no_steps_logs_its_energy_with_validations(tmp_path, counters):
    trainer = {"trainer__max_steps": 2, "trainer__val_check_interval": 2, "trainer__log_every_n_steps": 0}
    callbacks = [{"class_path": f"{Machine.__module__}.Machine"}]
    path = write_experiment(tmp_path, **trainer, trainer__callbacks=callbacks, run__energy=True)
    fit(["fit", "--config", str(path)])
    assert energies(tmp_path / "runs" / "tiny" / "version_0") == pytest.approx([3.0], rel=1e-5)


@pytest.mark.long
def test_the_energy_of_sample_images_is_none_of_training(tmp_path, counters, monkeypatch):
    def sheet(*_: object) -> Image.Image:
        Machine().take(0.4)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(SampleImages, "_sheet", sheet)
    kandinsky(tmp_path / "decoder", dim=128)
    callbacks = [{"class_path": f"{Machine.__module__}.Machine"}]
    samples = {"every_n_steps": 1, "prompts": ["a red star"]}
    changes = {"samples": samples, "benchmark": {}, "trainer__max_steps": 3, "trainer__val_check_interval": 3}
    path = experiment(tmp_path, "run", **changes, run__energy=True, trainer__callbacks=callbacks)
    fit(["fit", "--config", str(path)])
    # a step's energy is taken after ours have logged
    assert energies(tmp_path / "run" / "runs" / "tiny" / "version_0") == pytest.approx([1.5, 3.0, 4.5], rel=1e-5)


def fit_with(folder: Path, words: list[str]) -> None:
    """On a machine whose counters lie in a folder."""
    energy_counters.POWERCAP = Machine.folder = folder
    fit(words)


@pytest.mark.processes
def test_two_ranks_of_one_machine_count_its_processors_once(tmp_path, counters):
    trainer = {"trainer__max_steps": 2, "trainer__val_check_interval": 2, "trainer__log_every_n_steps": 1}
    trainer |= {"trainer__devices": 2, "trainer__strategy": "ddp", "run__energy": True}
    path = write_experiment(tmp_path, **trainer, trainer__callbacks=[{"class_path": f"{Machine.__module__}.Machine"}])
    on_ranks(tmp_path / "ranks", torchrun(2), fit_with, counters, ["fit", "--config", str(path)])
    assert energies(tmp_path / "runs" / "tiny" / "version_0") == pytest.approx([1.5, 3.0], rel=1e-5)


def card(record: RunRecord) -> str:
    return ModelCard.of(str(record.folder), "mit", None, [], "USER/NAME").text(None)


@pytest.mark.long
def test_a_resume_without_its_first_part_logs_no_total(tmp_path, counters):
    path = write_experiment(tmp_path, trainer__max_steps=2, trainer__val_check_interval=2, run__experiment="late")
    fit(["fit", "--config", str(path)])
    run = tmp_path / "runs" / "late" / "version_0"
    with pytest.warns(UserWarning, match=r"began without run\.energy"):
        fit(["fit", "--config", str(path), f"--ckpt_path={run}", "--trainer.max_steps=4", "--run.energy=true"])
    assert "train_kwh_cpu" not in rows(run)[0]
    assert math.isnan(RunRecord.read(run).train_kwh)
    assert "Energy was not measured." in card(RunRecord.read(run))


def test_a_machine_without_counters_is_told_before_the_run_begins(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(energy_counters, "POWERCAP", tmp_path / "none")
    path = write_experiment(tmp_path, run__energy=True)
    assert command(["fit", "--config", str(path)]) == 2
    said = capfd.readouterr().err
    assert "no counter of energy can be read here" in said
    assert "pip install 'eclipse_pl[energy]'" in said
    assert not (tmp_path / "runs").exists()


def test_a_counter_that_begins_again_loses_nothing(counters):
    package, memory = processor_counters()
    path = counters / PACKAGE / "energy_uj"
    for value in (2 * WATT_HOUR, WATT_HOUR // 2, WATT_HOUR):
        path.write_text(str(value))
        package.look()
    assert total([package, memory]) == pytest.approx(2 * 3600)
    package.start()
    package.look()
    assert package.joules == 0


def test_a_gpu_s_counter_is_that_of_its_own_card(monkeypatch):
    """Cards have other numbers in CUDA than in NVML: they are found by their identity."""
    pynvml = pytest.importorskip("pynvml", reason="the extra energy is not installed")
    energy = {"GPU-b": 1000}

    class Properties:
        uuid = "b"

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda name: name)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda card: energy[card])
    (card,) = gpu_counters(torch.device("cuda", 3))
    energy["GPU-b"] += 2500
    card.look()
    assert card.joules == pytest.approx(2.5)

    def unsupported(card: str) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", unsupported)
    assert gpu_counters(torch.device("cuda")) == []
    assert gpu_counters(torch.device("cpu")) == []


@pytest.mark.gpu
def test_a_gpu_uses_energy():
    pytest.importorskip("pynvml", reason="the extra energy is not installed")
    (card,) = gpu_counters(torch.device("cuda"))
    square = torch.rand(4096, 4096, device="cuda")
    for _ in range(500):
        square = square @ square / 4096
    torch.cuda.synchronize()
    card.look()
    assert card.joules > 0
