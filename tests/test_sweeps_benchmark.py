"""Sweeps of the benchmark: rows of a table, each a text-to-image model."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from eclipse_pl.__main__ import main as command
from eclipse_pl.files import write_json
from eclipse_pl.launch.task import Record
from eclipse_pl.sweeps.plan import SweepPlan
from eclipse_pl.sweeps.sweep_file import SweepFile
from tests.helpers.scored_folders import prior, scored
from tests.test_benchmark import stable_diffusion, write


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    stable_diffusion(tmp_path / "pipeline")
    prompts = {"class_path": "eclipse_pl.world.prompt_source.WorldPrompts", "init_args": {"per_category": 1}}
    scorers = [{"scorer": {"class_path": "tests.helpers.scorers_for_images.MeanColour"}}]
    write(tmp_path / "protocol.yaml", "eclipse_pl.compbench.compbench.CompBench", {"prompts": prompts, "scorers": scorers})
    for name, steps in (("few", 1), ("more", 2)):
        options = {"model": str(tmp_path / "pipeline"), "steps": steps, "size": 16, "device": "cpu"}
        write(tmp_path / f"{name}.yaml", "eclipse_pl.text_to_image.diffusers_pipeline.DiffusersPipeline", options)
    content = {
        "name": "table",
        "method": "grid",
        "metric": {"name": "benchmark/mean_colour", "goal": "maximize"},
        "parameters": {"text_to_image": {"values": ["few.yaml", "more.yaml"]}},
        "program": "eclipse_pl",
        "command": ["${interpreter}", "-m", "${program}", "benchmark", "--protocol", "protocol.yaml", "${args}"],
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "sweep.yaml"


@pytest.mark.processes
def test_rows_of_a_table(sweep: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command(["sweep", str(sweep)]) == 0
    cards = {name: Path("runs/table") / f"text_to_image={name}" / "scorecard.json" for name in ("few", "more")}
    steps = {name: json.loads(path.read_text())["text_to_image"]["num_inference_steps"] for name, path in cards.items()}
    assert steps == {"few": 1, "more": 2}
    table = capfd.readouterr().out
    rows = list(csv.DictReader(Path("runs/table/sweep.csv").read_text().splitlines()))
    for row, card in zip(rows, cards.values(), strict=True):
        scores = [category["all"]["mean"] for category in json.loads(card.read_text())["scores"]["mean_colour"].values()]
        assert float(row["benchmark/mean_colour"]) == pytest.approx(sum(scores) / len(scores))
        assert f"none  {float(row['benchmark/mean_colour']):.3f} (too few)" in table, "the mean stands first"
    assert command(["sweep", str(sweep), "--dry-run"]) == 0
    assert capfd.readouterr().out.count("# finished: ") == 2
    protocol = Path("protocol.yaml")
    protocol.write_text(protocol.read_text().replace("per_category: 1", "per_category: 2"))
    assert command(["sweep", str(sweep)]) == 2
    said = capfd.readouterr().err
    assert "was made with another config: protocol.init_args.prompts.init_args.per_category was 1 and is 2" in said
    for card in cards.values():
        (card.parent / "benchmark.yaml").unlink()
    assert command(["sweep", str(sweep), "--dry-run"]) == 0, "older folders have no such file"


@pytest.mark.processes
def test_images_without_a_score_are_counted_and_end_the_sweep_with_1(sweep: Path, capfd: pytest.CaptureFixture[str]) -> None:
    protocol = yaml.safe_load(Path("protocol.yaml").read_text())
    blind = {"class_path": "tests.helpers.scorers_for_images.Blind", "init_args": {"unseen": "left"}}
    protocol["init_args"]["scorers"] = [{"scorer": blind}]
    Path("protocol.yaml").write_text(yaml.safe_dump(protocol))
    with pytest.raises(SystemExit, match="1"):
        command(["sweep", str(sweep), "--csv", "kept.csv"])
    assert "1 of 12 images could not be scored" in capfd.readouterr().err
    cards = [
        json.loads((Path("runs/table") / f"text_to_image={name}" / "scorecard.json").read_text()) for name in ("few", "more")
    ]
    for file in ("runs/table/sweep.csv", "kept.csv"):
        lines = [line for line in Path(file).read_text().splitlines() if not line.startswith("#")]
        assert [int(row["failed"]) for row in csv.DictReader(lines)] == [card["failed"] for card in cards]
    assert cards[0]["failed"] > 0


def test_a_decoder_that_is_swept_is_no_unfair_difference(sweep: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = {"model": "org/decoder", "space": "tiny", "device": "cpu"}
    write(Path("decoder.yaml"), "eclipse_pl.decoders.kandinsky.KandinskyDecoder", options)
    command_words = ["${interpreter}", "-m", "eclipse_pl", "benchmark", "--prior", "org/prior", "--decoder", "decoder.yaml"]
    content = {
        "name": "guidance",
        "method": "grid",
        "metric": {"name": "benchmark/blip_vqa@8"},
        "parameters": {"decoder.init_args.guidance": {"values": [4.0, 7.5]}},
        "command": [*command_words, "--protocol", "protocol.yaml", "${args}"],
    }
    sweep.write_text(yaml.safe_dump(content))
    for run in SweepPlan(SweepFile.read(sweep), None, 0, "1").runs:
        guidance = float(str(run.values["decoder.init_args.guidance"]))
        identity = prior("org/prior")
        identity["decoder"]["guidance"] = guidance
        scored(run.task.path, int(guidance), identity)
        record = Record(run.task.command, tries=1, seconds=3.0, exit_code=0)
        write_json(run.task.path / "task.json", asdict(record))
    assert command(["sweep", str(sweep)]) == 0
    out = capfd.readouterr().out
    assert "Not a fair comparison" not in out
    assert "org/prior (guidance=4.0) (reference)" in out and "org/prior (guidance=7.5)" in out


def test_a_wrong_parameter_is_refused_before_anything_is_generated(sweep: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = yaml.safe_load(sweep.read_text())
    sweep.write_text(yaml.safe_dump({**content, "parameters": {"text_to_imag": {"values": ["few.yaml", "more.yaml"]}}}))
    assert command(["sweep", str(sweep)]) == 2
    assert "there is no parameter text_to_imag. Near it: text_to_image" in capfd.readouterr().err
    assert not Path("runs").exists()
