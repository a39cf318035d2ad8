"""What a run was trained on: kept by hash wherever weights and scores go, and counted when runs are compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.__main__ import main as command
from eclipse_pl.cli import main
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.loading import load_prior
from eclipse_pl.priors.best_of import BestOfPrior
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.variants import names_of_sets, trained_on
from eclipse_pl.world.datamodule import WorldDataModule
from tests.helpers.compared_runs import compare, flowing, numbers, refused
from tests.helpers.html_page import Page
from tests.helpers.pipelines import kandinsky
from tests.helpers.runs import write_experiment
from tests.helpers.shard_sets import make_shard_set

SPLITS = {"train": 64, "val": 16}
NAMES = {"first_0": "first", "first_1": "first", "copied_2": "elsewhere/first", "second_0": "second"}
"""{version: folder of the shards}; the last digit is the seed."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on two sets, one of which lies in two folders; each measured by ``validate`` on a set of its own."""
    folder = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(("first", "second", "common")):
        make_shard_set(folder / name, splits=SPLITS, seed=seed)
    shutil.copytree(folder / "first", folder / "elsewhere" / "first")
    experiment = write_experiment(folder, trainer__max_steps=2, trainer__val_check_interval=2)
    for version, shards in NAMES.items():
        options = [f"--data.init_args.folder={folder / shards}", *seeds(version[-1])]
        main(["fit", "--config", str(experiment), f"--run.version={version}", *options])
        run = folder / "runs" / "tiny" / version
        options = [f"--data.init_args.folder={folder / 'common'}", "--run.experiment=measured", f"--run.version={version}"]
        main(["validate", "--config", str(run / "config.yaml"), "--ckpt_path", str(run), *options])
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def seeds_of_variants(*places: object) -> dict[str, str]:
    """{variant: number of its runs with a latent table}"""
    compare(*places, "--csv", "numbers.csv")
    rows = numbers().items()
    return {name: row["n"] for (name, subset, metric), row in rows if (subset, metric) == ("all", "cosine") and row["n"]}


@pytest.mark.long
def test_priors_of_two_data_sets_are_two_variants_when_they_are_measured_on_a_common_one(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seeds_of_variants(trained / "runs" / "measured") == {"training_data=first": "3", "training_data=second": "1"}
    said = "Training data were not equal: first (3 of 4 runs, such as "
    assert said in flowing(capsys) and said in Path("compare/page.html").read_text()
    row = numbers()["training_data=second", "all", "cosine"]
    assert row["training_data"] == "second" and row["difference_n"] == "1"
    page = Page(Path("compare/page.html").read_text())
    assert {"training_data", "first", "second"} <= set(page.cells)
    digest = Manifest.load(trained / "second").digest
    assert f"{trained / 'second'} (sha256 {digest[:8]}…)" in page.cells


@pytest.mark.long
def test_one_set_in_two_folders_is_one_variant_and_no_run_twice(trained: Path) -> None:
    measured = trained / "runs" / "measured"
    assert seeds_of_variants(measured / "first_0", measured / "copied_2") == {"tiny": "2"}


def test_one_folder_with_another_content_is_another_variant(trained: Path, tmp_path: Path) -> None:
    first, second = (
        shutil.copytree(trained / "runs" / "measured" / name, tmp_path / name) for name in ("first_0", "second_0")
    )
    report = json.loads((second / "latent.json").read_text())
    report["training_data"][0]["folder"] = str(trained / "first")
    (second / "latent.json").write_text(json.dumps(report))
    digests = [Manifest.load(trained / name).digest[:8] for name in ("first", "second")]
    assert list(seeds_of_variants(first, second)) == [f"training_data=first (sha256 {digest}…)" for digest in digests]


def test_the_hash_is_known_from_the_start_of_the_run_and_goes_with_the_weights(trained: Path, tmp_path: Path) -> None:
    run, digest = trained / "runs" / "tiny" / "second_0", Manifest.load(trained / "second").digest
    expected = [{"folder": str(trained / "second"), "sha256": digest, "pairs": 64}]
    assert json.loads((run / "training_data.json").read_text()) == expected
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["training_data"] == expected
    measured = shutil.copytree(trained / "runs" / "measured" / "second_0", tmp_path / "alone")
    config = yaml.safe_load((measured / "config.yaml").read_text())
    (measured / "config.yaml").write_text(yaml.safe_dump({**config, "ckpt_path": "moved/away/checkpoints/last.ckpt"}))
    assert RunRecord.read(measured).training_data == expected
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    (unfinished / "latent.json").unlink()
    assert RunRecord.read(unfinished).training_data == expected


@pytest.mark.long
def test_a_run_that_is_resumed_on_other_shards_was_trained_on_both(trained: Path, tmp_path: Path) -> None:
    experiment = write_experiment(tmp_path, trainer__max_steps=2, trainer__val_check_interval=2)
    run = tmp_path / "runs" / "tiny" / "version_0"
    for steps, shards, count in ((2, "first", 1), (4, "second", 2), (6, "second", 2)):
        more = ["--ckpt_path", str(run)] if steps > 2 else []
        options = [f"--data.init_args.folder={trained / shards}", f"--trainer.max_steps={steps}"]
        main(["fit", "--config", str(experiment), *options, *more])
        told = json.loads((run / "training_data.json").read_text())
        assert [Path(one["folder"]).name for one in told] == ["first", "second"][:count]
    record = RunRecord.read(run)
    assert trained_on(record, names_of_sets([record])) == "first, then second"


@pytest.mark.long
def test_a_run_that_begins_with_weights_was_trained_on_their_data_too(trained: Path, tmp_path: Path) -> None:
    """With those of a run, and of a checkpoint of the run that this one became; a measurement of weights knows theirs."""
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
    weights, sets = trained / "runs" / "tiny" / "first_0", ["first"]
    for version in ("second", "common"):
        experiment = write_experiment(
            tmp_path,
            data__init_args__folder=str(trained / version),
            model__prior__init_args={**sizes, "weights": str(weights)},
            run__version=version,
            trainer__max_steps=2,
            trainer__val_check_interval=2,
        )
        main(["fit", "--config", str(experiment)])
        run, sets = tmp_path / "runs" / "tiny" / version, [*sets, version]
        weights, record = run / "checkpoints" / "last.ckpt", RunRecord.read(run)
        content = torch.load(weights, weights_only=True)
        files = [json.loads((run / name).read_text()) for name in ("training_data.json", "latent.json")]
        for stated in (files[0], files[1]["training_data"], content["training_data"]):
            assert [Path(one["folder"]).name for one in stated] == sets
        assert trained_on(record, names_of_sets([record])) == ", then ".join(sets)
    main(["validate", "--config", str(experiment), f"--model.prior.init_args.weights={weights}", "--run.version=weights"])
    report = json.loads((run.parent / "weights" / "latent.json").read_text())
    assert [Path(one["folder"]).name for one in report["training_data"]] == sets


def test_a_prior_within_another_keeps_what_its_weights_were_trained_on(trained: Path) -> None:
    run = trained / "runs" / "tiny" / "first_0"
    part = yaml.safe_load((run / "config.yaml").read_text())["model"]["prior"]
    arguments = {**part["init_args"], "weights": str(run)}
    best = BestOfPrior(load_prior(str(run)).space, part["class_path"], arguments)
    assert best.trained_on == json.loads((run / "training_data.json").read_text())


def test_measured_on_other_shards_is_refused_with_a_command_that_helps(trained: Path, capfd: pytest.CaptureFixture) -> None:
    said = refused(capfd, trained / "runs" / "tiny" / "first_0", trained / "runs" / "tiny" / "second_0")
    assert "measured with other shards" in said and "--data.init_args.folder=FOLDER" in said


def test_a_damaged_file_is_one_sentence(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    run = shutil.copytree(trained / "runs" / "tiny" / "first_0", tmp_path / "run")
    (run / "latent.json").unlink()
    for content in ("[", "{}1", '[{"folder": "x"}]', "3"):
        (run / "training_data.json").write_text(content)
        assert f"{run / 'training_data.json'} is damaged" in refused(capfd, run, "--anyway")


@pytest.mark.processes
def test_a_benchmark_of_two_trainings_is_of_two_variants(tmp_path: Path) -> None:
    """Through ``fit``, ``benchmark --prior`` and ``compare``; the fit's own scorecard says it too."""
    kandinsky(tmp_path / "weights", dim=128)
    decoder = {"model": str(tmp_path / "weights"), "space": "world", "steps": 1, "batch_size": 8, "device": "cpu"}
    part(tmp_path / "decoder.yaml", "eclipse_pl.decoders.kandinsky.KandinskyDecoder", decoder)
    prompts = {"class_path": "eclipse_pl.world.prompt_source.WorldPrompts", "init_args": {"per_category": 2}}
    scorers = [{"scorer": {"class_path": "tests.helpers.scorers_for_images.MeanColour"}, "categories": ["colour"]}]
    protocol = {"prompts": prompts, "scorers": scorers}
    part(tmp_path / "protocol.yaml", "eclipse_pl.compbench.compbench.CompBench", protocol)
    for name, colours in {"all": None, "four": ["red", "green", "blue", "yellow"]}.items():
        WorldDataModule(str(tmp_path / name), 32, 8, 8, colours).prepare_data()
    experiment = write_experiment(tmp_path, trainer__max_steps=1, trainer__val_check_interval=1)
    given = [f"--decoder={tmp_path / 'decoder.yaml'}", f"--benchmark.protocol={tmp_path / 'protocol.yaml'}"]
    for name in ("all", "four"):
        options = [f"--data.init_args.folder={tmp_path / name}", f"--run.version={name}", *seeds(0)]
        within = [*given, "--benchmark.after_training=true"] if name == "four" else []
        main(["fit", "--config", str(experiment), *options, *within])
        prior, out = tmp_path / "runs" / "tiny" / name, tmp_path / f"bench_{name}"
        more = [f"--decoder={tmp_path / 'decoder.yaml'}", f"--protocol={tmp_path / 'protocol.yaml'}", f"--out={out}"]
        assert command(["benchmark", f"--prior={prior}", *more]) == 0
    digest = Manifest.load(tmp_path / "four").digest
    for card in (tmp_path / "bench_four" / "scorecard.json", tmp_path / "runs" / "tiny" / "four" / "scorecard.json"):
        assert [one["sha256"] for one in json.loads(card.read_text())["text_to_image"]["training_data"]] == [digest]
    compare(tmp_path / "bench_all", tmp_path / "bench_four", "--csv", "numbers.csv")
    counted = [name for name, _, metric in numbers() if metric == "benchmark/colour/mean_colour"]
    assert list(dict.fromkeys(counted)) == ["training_data=all", "training_data=four"]


def seeds(seed: object) -> list[str]:
    return [f"--seed_everything={seed}", f"--data.init_args.seed={seed}"]


def part(path: Path, class_path: str, init_args: dict) -> None:
    path.write_text(yaml.safe_dump({"class_path": class_path, "init_args": init_args}))


folders = st.lists(st.sampled_from(["a", "b", "shards"]), min_size=1, max_size=3).map("/".join)


@given(st.lists(st.tuples(folders, st.integers(0, 5).map(str)), min_size=1, max_size=6))
def test_every_set_has_a_name_of_its_own(sets: list[tuple[str, str]]) -> None:
    runs = [
        RunRecord(Path("run"), {}, {"training_data": [{"folder": folder, "sha256": digest, "pairs": 1}]}, Path("run"))
        for folder, digest in sets
    ]
    names = names_of_sets(runs)
    assert names.keys() == {digest for _, digest in sets}
    assert len(set(names.values())) == len(names)
    for run, (_, digest) in zip(runs, sets, strict=True):
        assert trained_on(run, names) == names[digest]
