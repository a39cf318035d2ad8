"""The benchmark command: prompts and seeds to scorecard, the same for any number of processes and after a kill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from eclipse_pl.__main__ import main as command
from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.scoring import Scoring
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.loading import find_encoder
from eclipse_pl.prompts.parser import NoParser, Parse, Parser
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.source import PromptFiles, PromptSource
from eclipse_pl.scorers.blip_vqa import BlipVqaScorer
from eclipse_pl.world.prompt_source import WorldPrompts
from tests.helpers.pipelines import kandinsky, stable_diffusion
from tests.helpers.runs import write_experiment
from tests.helpers.scorers_for_images import Grey, MeanColour

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior that knows little, and a decoder that knows nothing, both of the world's width."""
    folder = tmp_path_factory.mktemp("benchmark")
    kandinsky(folder / "weights", dim=128)
    decoder = {"model": str(folder / "weights"), "space": "world", "steps": 2, "batch_size": 4, "device": "cpu"}
    write(folder / "decoder.yaml", "eclipse_pl.decoders.kandinsky.KandinskyDecoder", decoder)
    prompts = {"class_path": "eclipse_pl.world.prompt_source.WorldPrompts", "init_args": {"per_category": 2}}
    scorers = [
        {"scorer": {"class_path": "tests.helpers.scorers_for_images.MeanColour"}},
        {"scorer": {"class_path": "tests.helpers.scorers_for_images.Slow"}, "categories": ["spatial"]},
    ]
    protocol = {"prompts": prompts, "scorers": scorers, "images_per_prompt": 2, "block": 4}
    write(folder / "protocol.yaml", "eclipse_pl.compbench.compbench.CompBench", protocol)
    world = {
        "folder": str(folder / "world"),
        "train_pairs": 32,
        "val_pairs": 8,
        "test_pairs": 8,
        "batch_size": 8,
        "workers": 0,
    }
    experiment = write_experiment(
        folder,
        data={"class_path": "eclipse_pl.world.datamodule.WorldDataModule", "init_args": world},
        trainer__max_steps=1,
    )
    assert command(["fit", "--config", str(experiment)]) == 0
    return folder


def write(path: Path, class_path: str, init_args: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump({"class_path": class_path, "init_args": init_args}))


def words(folder: Path, out: str, *more: str) -> list[str]:
    given = {"prior": folder / "runs/tiny/version_0", "decoder": folder / "decoder.yaml", "protocol": folder / "protocol.yaml"}
    return ["benchmark", *(f"--{name}={value}" for name, value in given.items()), f"--out={folder / out}", *more]


@pytest.fixture(scope="module")
def scored(folder: Path) -> Path:
    assert command(words(folder, "scored")) == 0
    return folder / "scored"


def results(out: Path) -> list[bytes]:
    """Scorecard, rows and images."""
    images = sorted(path for path in (out / "images").rglob("*.png"))
    return [
        (out / "scorecard.json").read_bytes(),
        (out / "rows.jsonl").read_bytes(),
        *(path.read_bytes() for path in images),
    ]


@pytest.mark.processes
def test_distances_of_all_images_together(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    protocol = yaml.safe_load((folder / "protocol.yaml").read_text())
    arguments = protocol["init_args"]
    fid = {
        "class_path": "eclipse_pl.compbench.distances.Fid",
        "init_args": {
            "extractor": {"class_path": "eclipse_pl.world.features.WorldFeatures"},
            "reference": {"class_path": "eclipse_pl.compbench.reference_images.SceneImages"},
            "kid_subset": 50,
        },
    }
    arguments["distribution"] = [fid]
    write(folder / "few.yaml", protocol["class_path"], arguments)
    assert command(words(folder, "few", f"--protocol={folder / 'few.yaml'}")) == 2
    assert "need at least 129 images on either side: there are 48 generated and 24 reference images" in capfd.readouterr().err
    arguments["prompts"]["init_args"]["per_category"] = 11
    write(folder / "enough.yaml", protocol["class_path"], {**arguments, "images_per_prompt": 1})
    assert command(words(folder, "enough", f"--protocol={folder / 'enough.yaml'}")) == 0
    measured = json.loads((folder / "enough" / "scorecard.json").read_text())["distribution"]
    assert measured["fid"] > 0 and measured["kid"][0] > 0 and 0 <= measured["coverage"] <= 1
    assert measured["protocol"]["fid"]["images"] == 132 and measured["protocol"]["fid"]["reference"]["images"] == 132


def test_scorecard_rows_and_images(scored: Path) -> None:
    assert json.loads((scored / "scorecard.json").read_text())["trained_steps"] == 1
    card = json.loads((scored / "scorecard.json").read_text())
    assert card["images"] == 48 and card["failed"] == 0 and card["prompts"]["count"] == 24
    assert card["scorers"] == {"mean_colour": "1", "slow": "1"} and card["cut_prompts"] == 0
    assert list(card["scores"]["slow"]) == ["spatial"] and len(card["scores"]["mean_colour"]) == 6
    cell = card["scores"]["mean_colour"]["colour"]["unseen"]
    assert (cell["prompts"], cell["images"], cell["low"], cell["interval"]) == (2, 4, None, "too few")
    rows = [json.loads(line) for line in (scored / "rows.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows] == [42, 43] * 24
    for row in rows:
        with Image.open(scored / row["file"]) as image:
            assert image.size == (32, 32)
        assert row["scores"]["mean_colour"]["evidence"] == {"prompt": row["prompt"]}
    mean = sum(row["scores"]["mean_colour"]["value"] for row in rows if row["category"] == "shape") / 8
    assert card["scores"]["mean_colour"]["shape"]["all"]["mean"] == pytest.approx(mean)
    assert rows[0]["file"] == f"images/colour/seen/samples/{rows[0]['prompt']}_000000.png", "T2I-CompBench's own layout"


@pytest.mark.processes
def test_two_processes_come_to_the_same(folder: Path, scored: Path) -> None:
    assert command(words(folder, "two", "--processes=2")) == 0
    assert results(folder / "two") == results(scored)


@pytest.mark.processes
def test_two_processes_come_to_the_same_diversity(folder: Path) -> None:
    """Their blocks cut the images of one prompt apart."""
    protocol = yaml.safe_load((folder / "protocol.yaml").read_text())
    options = {**protocol["init_args"], "images_per_prompt": 3, "block": 2}
    options["prompts"]["init_args"] = {"per_category": 1, "categories": ["shape", "spatial"]}
    extractor = {"class_path": "eclipse_pl.world.features.WorldFeatures"}
    options["distribution"] = [
        {"class_path": "eclipse_pl.compbench.diversity.Diversity", "init_args": {"extractor": extractor}}
    ]
    write(folder / "diverse.yaml", protocol["class_path"], options)
    given = f"--protocol={folder / 'diverse.yaml'}"
    assert command(words(folder, "diverse", given)) == 0
    shutil.copytree(folder / "diverse", folder / "diverse_two")
    for name in ("scorecard.json", "rows.jsonl"):
        (folder / "diverse_two" / name).unlink()
    assert command(words(folder, "diverse_two", given, "--processes=2")) == 0
    assert results(folder / "diverse_two") == results(folder / "diverse")
    card = json.loads((folder / "diverse/scorecard.json").read_text())
    assert card["scores"]["diversity[clip]"]["shape"]["all"]["images"] == 6


@pytest.mark.processes
def test_tasks_come_to_the_same(
    folder: Path, scored: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    assert command(words(folder, "tasks", "--engine=local", "--tasks=1")) == 0
    assert results(folder / "tasks") == results(scored)
    assert "0-of-1: finished" in capfd.readouterr().out
    assert command(words(folder, "array", "--only=scores", "--task_index=0", "--task_count=2")) == 2
    assert "48 of 48 images are missing in" in capfd.readouterr().err
    for phase in ("images", "scores"):
        for index in (1, 0):
            assert command(words(folder, "array", f"--only={phase}", f"--task_index={index}", "--task_count=2")) == 0
    assert not (folder / "array" / "scorecard.json").exists()
    assert command(words(folder, "array")) == 0
    assert results(folder / "array") == results(scored)
    for more, expected in {
        ("--task_count=2", "--task_index=0"): "--task-count needs --only images, and then --only scores",
        ("--engine=local", "--only=images"): "--only and --processes have no effect with --engine local",
        ("--engine=ray", "--jobs=2"): "--jobs has no effect with --engine ray",
        ("--tasks=2",): "--tasks has no effect without --engine local or --engine ray",
        ("--engine=local", "--tasks=0"): "--tasks is 0; it must be 1 or more",
    }.items():
        assert command(words(folder, "refused", *more)) == 2 and expected in capfd.readouterr().err


def test_what_is_finished_is_not_done_again(folder: Path, scored: Path) -> None:
    shutil.copytree(scored, folder / "again")
    before = {path: path.stat().st_mtime_ns for path in (folder / "again").rglob("*.png")}
    gone = sorted(before)[5]
    gone.unlink()
    (folder / "again" / "scorecard.json").unlink()
    assert command(words(folder, "again")) == 0
    assert results(folder / "again") == results(scored)
    made = [path for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert gone in made and len(made) == 4, "its block, and nothing else"


@pytest.mark.processes
def test_a_killed_run_resumes(folder: Path, scored: Path) -> None:
    out = folder / "killed"
    with subprocess.Popen(
        [sys.executable, "-m", "eclipse_pl", *words(folder, "killed")], cwd=Path(__file__).parents[1]
    ) as process:
        end = time.monotonic() + 120
        while not list(out.glob("scores/slow/*.json")):  # all is generated, and some is scored
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        process.kill()
    assert not (out / "scorecard.json").exists()
    assert command(words(folder, "killed")) == 0
    assert results(out) == results(scored)


def test_the_upper_bound_and_any_pipeline(folder: Path, tmp_path: Path) -> None:
    protocol = f"--protocol={folder / 'protocol.yaml'}"
    upper_bound = ["--text_to_image=UpperBound", f"--text_to_image.decoder={folder / 'decoder.yaml'}"]
    assert command(["benchmark", protocol, *upper_bound, f"--out={tmp_path / 'upper_bound'}"]) == 0
    assert json.loads((tmp_path / "upper_bound/scorecard.json").read_text())["text_to_image"]["prior"] == "true image"
    stable_diffusion(tmp_path / "pipeline")
    options = [
        "--text_to_image=DiffusersPipeline",
        f"--text_to_image.model={tmp_path / 'pipeline'}",
        "--text_to_image.steps=2",
        "--text_to_image.size=16",
    ]
    assert command(["benchmark", protocol, *options, f"--out={tmp_path / 'sd'}"]) == 0
    identity = json.loads((tmp_path / "sd/scorecard.json").read_text())["text_to_image"]
    assert identity["pipeline"] == str(tmp_path / "pipeline") and identity["num_inference_steps"] == 2
    assert (
        command(["benchmark", protocol, *options[:-2], "--text_to_image.options={stps: 3}", f"--out={tmp_path / 'no'}"]) == 2
    )


def bench(**options: Any) -> CompBench:
    return CompBench(**{"prompts": WorldPrompts(2), "scorers": [Scoring(MeanColour())], **options})


def test_an_unreadable_image_is_a_failed_row(tmp_path: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command(words(folder, "broken")) == 0
    out = folder / "broken"
    broken = sorted((out / "images/shape").rglob("*.png"))[1]
    broken.write_bytes(b"no image")
    shutil.rmtree(out / "scores")
    with pytest.raises(SystemExit) as stop:
        command(words(folder, "broken"))
    assert stop.value.code == 1
    assert "1 of 48 images could not be scored" in capfd.readouterr().err
    failed = [row for row in map(json.loads, (out / "rows.jsonl").read_text().splitlines()) if row["failed"]]
    assert len(failed) == 1 and "cannot be read" in failed[0]["failed"] and failed[0]["scores"]["mean_colour"]["value"] is None
    cell = json.loads((out / "scorecard.json").read_text())["scores"]["mean_colour"]["shape"]["all"]
    assert cell["failed"] == 1 and cell["images"] == 7


def test_a_failed_score_does_not_outlive_its_cause(tmp_path: Path) -> None:
    whole = bench().run(Grey(), tmp_path / "whole", progress=False)
    shutil.copytree(tmp_path / "whole", out := tmp_path / "broken")
    broken = sorted((out / "images/shape").rglob("*.png"))[1]
    broken.write_bytes(b"no image")
    shutil.rmtree(out / "scores")
    assert bench().run(Grey(), out, progress=False)["failed"] == 1
    assert bench().run(Grey(), out, progress=False)["failed"] == 1, "nobody has mended the image"
    scored = {path: path.stat().st_mtime_ns for path in (out / "scores").rglob("*.json")}
    broken.unlink()
    assert bench().run(Grey(), out, progress=False) == whole
    again = [path for path, when in scored.items() if path.stat().st_mtime_ns != when]
    assert len(again) == 1 < len(scored), "its block, and nothing else"
    assert (out / "rows.jsonl").read_bytes() == (tmp_path / "whole/rows.jsonl").read_bytes()


def test_the_encoder_is_found_once_for_all_prompts(folder: Path, scored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a decoder of billions of weights it may neither stay nor come back for every prompt."""
    found: list[str] = []

    def counted(space: ClipSpace, *more: str) -> Encoder:
        found.append(space.name)
        return find_encoder(space, *more)

    monkeypatch.setattr("eclipse_pl.text_to_image.prior_and_decoder.find_encoder", counted)
    assert command(words(folder, "once")) == 0
    assert len(found) == 1 and results(folder / "once") == results(scored)
    assert command(words(folder, "once")) == 0 and len(found) == 1, "all is generated"


def test_prompts_that_the_encoder_cuts_are_counted(folder: Path, tmp_path: Path) -> None:
    texts = ["a red star", "a red star and " * 20]
    (tmp_path / "mine.txt").write_text("\n".join(texts))
    protocol = yaml.safe_load((folder / "protocol.yaml").read_text())
    init = {"folder": str(tmp_path / "mine.txt"), "suite": "file"}
    init["parser"] = {"class_path": "eclipse_pl.prompts.parser.NoParser"}
    prompts = {"class_path": "eclipse_pl.prompts.source.PromptFiles", "init_args": init}
    scorers = protocol["init_args"]["scorers"][:1]
    write(tmp_path / "mine.yaml", protocol["class_path"], {"prompts": prompts, "scorers": scorers, "block": 1})
    assert command(words(folder, "cut", f"--protocol={tmp_path / 'mine.yaml'}")) == 0
    assert json.loads((folder / "cut" / "scorecard.json").read_text())["cut_prompts"] == 1


def test_results_are_never_mixed(tmp_path: Path) -> None:
    bench().run(Grey(), tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"holds another benchmark: its prompts differ \(prompts.sha256 was .* and is now"):
        bench(prompts=WorldPrompts(3)).run(Grey(), tmp_path, progress=False)
    with pytest.raises(ValueError, match="its seed differ"):
        bench(seed=7).run(Grey(), tmp_path, progress=False)
    other = Grey()
    other.identity = {"text_to_image": "another"}
    with pytest.raises(ValueError, match="its text_to_image differ"):
        bench().run(other, tmp_path, progress=False)
    with pytest.raises(ValueError, match="scores of another version of mean_colour: 1, and this run has 2"):
        bench(scorers=[Scoring(MeanColour("2"))]).run(Grey(), tmp_path, progress=False)


def test_a_run_replaces_what_an_earlier_try_of_it_left(tmp_path: Path) -> None:
    """Nobody chooses the folder of its step."""
    brighter = Grey()
    brighter.identity = {"text_to_image": "brighter"}
    changed = {"decoder": brighter, "prompts": bench(prompts=WorldPrompts(1)), "seed": bench(seed=7)}
    for name, other in {**changed, "scorer": bench(scorers=[Scoring(MeanColour("2"))])}.items():
        protocol, model = (other, Grey()) if isinstance(other, CompBench) else (bench(), other)
        new = protocol.run(model, tmp_path / name / "new", progress=False)
        bench().run(Grey(), place := tmp_path / name / "place", progress=False)
        images = {path: path.stat().st_mtime_ns for path in place.rglob("*.png")}
        assert protocol.run(model, place, progress=False, replace=True) == new
        files = {path.relative_to(place) for path in place.rglob("*")}
        assert files == {path.relative_to(tmp_path / name / "new") for path in (tmp_path / name / "new").rglob("*")}
        kept = images == {path: path.stat().st_mtime_ns for path in place.rglob("*.png")}
        assert kept == (name == "scorer"), "another scorer scores the same images"
    scored = {path: path.stat().st_mtime_ns for path in place.rglob("scores/*/*.json")}
    protocol.run(model, place, progress=False, replace=True)
    assert scored == {path: path.stat().st_mtime_ns for path in place.rglob("scores/*/*.json")}, "the same is not repeated"


@pytest.mark.parametrize("index", [0, 1])
def test_every_task_is_refused_in_the_folder_of_another_benchmark(tmp_path: Path, index: int) -> None:
    """Tasks do not talk to each other: none of them may rely on the first."""
    bench().run_phase("images", Grey(), tmp_path, Ranks(0, 2), progress=False)
    made = sorted(tmp_path.rglob("*.png"))
    other = Grey()
    other.identity = {"text_to_image": "another"}
    with pytest.raises(ValueError, match=r"holds another benchmark: its text_to_image differ"):
        bench().run_phase("images", other, tmp_path, Ranks(index, 2), progress=False)
    assert sorted(tmp_path.rglob("*.png")) == made


def test_a_task_that_begins_before_the_first_one_reserves_the_folder(tmp_path: Path) -> None:
    bench().run_phase("images", Grey(), tmp_path, Ranks(1, 2), progress=False)
    with pytest.raises(ValueError, match=r"holds another benchmark: its seed differ"):
        bench(seed=7).run_phase("images", Grey(), tmp_path, Ranks(0, 2), progress=False)


def test_images_of_a_prior_that_was_trained_further_are_not_mixed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = folder / "runs/tiny/further"
    shutil.copytree(folder / "runs/tiny/version_0", run)
    given = [*words(folder, "further"), f"--prior={run}"]
    assert command(given) == 0
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    name = next(name for name, tensor in checkpoint["state_dict"].items() if tensor.is_floating_point())
    checkpoint["state_dict"][name] += 0.01
    torch.save(checkpoint, run / "checkpoints/last.ckpt")
    assert command(given) == 2
    assert "holds another benchmark: its text_to_image differ" in capfd.readouterr().err


def test_images_of_a_prior_that_samples_otherwise_are_not_mixed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its weights are the same."""
    run = folder / "runs/tiny/otherwise"
    shutil.copytree(folder / "runs/tiny/version_0", run)
    given = [*words(folder, "otherwise"), f"--prior={run}"]
    assert command(given) == 0 and command(given) == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["prior"]["init_args"]["noise"] = "zero"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert command(given) == 2
    said = "its text_to_image differ (text_to_image.prior_options.noise was gaussian and is now zero)"
    assert said in capfd.readouterr().err
    stated = folder / "otherwise" / "benchmark.json"
    earlier = json.loads(stated.read_text())
    del earlier["text_to_image"]["prior_options"]
    stated.write_text(json.dumps(earlier))
    assert command(given) == 0, "the folder of an earlier version, which did not state them"


def test_images_of_an_encoder_that_rounds_otherwise_are_not_mixed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(folder / "encoder.yaml", "eclipse_pl.world.encoder.WorldEncoder", {"device": "cpu"})
    given = words(folder, "rounded")
    named = [*given, f"--encoder={folder / 'encoder.yaml'}"]
    assert command(given) == 0 and command(named) == 0, "the space names the same one"
    assert command([*named, "--encoder.precision=bfloat16"]) == 2
    assert "(text_to_image.encoder_precision was float32 and is now bfloat16)" in capfd.readouterr().err


def test_scores_of_one_name_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="called mean_colour, and both score spatial"):
        bench(scorers=[Scoring(MeanColour(), ["spatial", "shape"]), Scoring(MeanColour(), ["spatial"])])
    with pytest.raises(ValueError, match="both score shape"):
        bench(scorers=[Scoring(MeanColour()), Scoring(MeanColour(), ["shape"])])
    bench(scorers=[Scoring(MeanColour(), ["spatial"]), Scoring(MeanColour(), ["shape"])])


def test_a_wrong_scorer_is_reported_before_anything_is_generated(tmp_path: Path) -> None:
    (tmp_path / "scorer").mkdir()
    (tmp_path / "scorer/config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    scorers = [Scoring(BlipVqaScorer(str(tmp_path / "scorer")))]
    with pytest.raises(ValueError, match=r"holds GPT2LMHeadModel, and this scorer works with BlipForQuestionAnswering"):
        bench(scorers=scorers).run(Grey(), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_category_is_no_way_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("Prompt,Category\na red car,../../elsewhere\n")
    prompts = PromptFiles(str(tmp_path / "prompts.csv"), "file", parser=NoParser())
    with pytest.raises(ValueError, match=r"line 2, has the category '../../elsewhere', which must name a folder"):
        bench(prompts=prompts).run(Grey(), tmp_path / "out", progress=False)

    class Elsewhere(PromptSource):
        def load(self) -> PromptSet:
            return PromptSet("elsewhere", (Prompt("../../elsewhere/0", "", "a red car"),), "none")

    with pytest.raises(ValueError, match=r"category '../../elsewhere' would lie outside"):
        bench(prompts=Elsewhere()).run(Grey(), tmp_path / "out", progress=False)


def test_the_parser_of_prompts_stands_in_the_scorecard(tmp_path: Path) -> None:
    class Whole(Parser):
        version = "whole-1"

        def parse(self, text: str) -> Parse:
            return Parse((), (text,))

    (tmp_path / "prompts.txt").write_text("a red car\na blue boat\n")
    prompts = PromptFiles(str(tmp_path / "prompts.txt"), "file", parser=Whole())
    card = bench(prompts=prompts).run(Grey(), tmp_path / "out", progress=False)
    assert card["prompts"]["parser"] == "whole-1"


def test_true_images_are_those_of_the_prompts(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    upper_bound = [
        "--text_to_image=UpperBound",
        f"--text_to_image.decoder={folder / 'decoder.yaml'}",
        "--text_to_image.prompt_seed=1",
    ]
    assert command(["benchmark", f"--protocol={folder / 'protocol.yaml'}", *upper_bound, f"--out={folder / 'other'}"]) == 2
    assert "set prompt_seed to the seed of the prompts" in capfd.readouterr().err


def test_prompts_that_upstreams_layout_cannot_name(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red/green car\na blue boat\n")
    card = bench(prompts=PromptFiles(str(tmp_path / "prompts.txt"), "file", parser=NoParser())).run(
        Grey(), tmp_path / "out", progress=False
    )
    assert card["images"] == 2 and card["failed"] == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--pipeline=x"], "Give one of --prior, --pipeline and --text_to_image; there are --prior, --pipeline"),
        (["--processes=0"], "--processes is 0"),
        (["--decoder=null"], "--prior needs a --decoder"),
        (
            ["--decoder.space=ViT-L-14/openai"],
            "The decoder decodes embeddings of ViT-L-14/openai, and the prior belongs",
        ),
        (["--protocol.scorers=[]"], "scorers is empty"),
        (["--protocol.images_per_prompt=0"], "images_per_prompt is 0"),
        (["--out=/proc/nowhere"], "Cannot write to /proc/nowhere"),
        (["--prior=runs/no/such"], "There is no folder runs/no/such"),
    ],
)
def test_mistakes(folder: Path, more: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert command(words(folder, "mistakes", *more)) == 2
    assert message in capfd.readouterr().err


@pytest.mark.processes
def test_a_mistake_of_one_process_is_one_sentence(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command(words(folder, "mistakes", "--decoder.space=other", "--processes=2")) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "The decoder decodes embeddings of other" in lines[0]
