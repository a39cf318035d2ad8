"""What a run leaves behind for a comparison."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eclipse_pl.cli import main
from eclipse_pl.data.manifest import SPACE_NAME, Manifest
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.latent.metrics import RECALLS
from eclipse_pl.run import read_metrics
from tests.helpers.ranks import run_command, torchrun
from tests.helpers.runs import write_experiment
from tests.helpers.shard_sets import MADE_BY, make_chunk, make_shard_set, make_space


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    path = write_experiment(tmp_path_factory.mktemp("facts"))
    main(["fit", "--config", str(path), "--trainer.max_steps", "6"])
    return path


def run_of(experiment: Path, version: str = "version_0") -> Path:
    return experiment.parent / "runs" / "tiny" / version


def report_of(run: Path) -> dict:
    return json.loads((run / "latent.json").read_text())


@pytest.mark.long
def test_a_table_says_what_it_was_measured_on_and_what_it_cost(experiment):
    report = report_of(run_of(experiment))
    assert (report["command"], report["stage"], report["step"], report["trained_steps"]) == ("fit", "val", 6, 6)
    manifest = Manifest.load(experiment.parent / "shards")
    assert report["shards"]["sha256"] == manifest.digest
    assert report["shards"]["pairs"] == {"train": 64, "val": 16, "test": 16}
    assert report["prior"]["class"] == "eclipse_pl.priors.eclipse.EclipsePrior"
    assert 0 < report["prior"]["trained_parameters"] <= report["prior"]["parameters"]
    assert report["sampling"]["forward_passes"] == 1
    assert 0 < report["sampling"]["seconds_per_1000"] < 1000
    assert report["machine"]["cores"] > 0


@pytest.mark.long
def test_validate_and_test_say_the_same_of_their_own_split(experiment):
    run = run_of(experiment)
    reports = {"fit": report_of(run)}
    for command in ("validate", "test"):
        main([command, "--config", str(experiment), "--ckpt_path", str(run)])
        reports[command] = report_of(run_of(experiment, f"{command}_0"))
    fitted, validated, tested = reports.values()
    for name in ("pairs_sha256", "shards", "prior", "metrics_version", "stage", "step", "trained_steps"):
        assert validated[name] == fitted[name]
    assert tested["stage"] == "test"
    assert tested["pairs_sha256"] != fitted["pairs_sha256"]
    assert [report["command"] for report in reports.values()] == ["fit", "validate", "test"]


@pytest.mark.long
def test_the_values_of_the_pairs_average_to_the_table(experiment):
    run = run_of(experiment)
    row = report_of(run)["rows"]["this prior"]
    with np.load(run / "latent_pairs.npz", allow_pickle=False) as pairs:
        assert pairs["step"] == 6
        assert sorted(pairs["index"]) == pairs["index"].tolist() == list(range(64, 80))
        for subset in ("all", "seen", "unseen"):
            taken = (pairs["subset"] == subset) | (subset == "all")
            for name in ("cosine", "centred_cosine", "mse", "text_cosine", "norm"):
                assert row[subset][name] == pytest.approx(pairs[name][taken].mean(), rel=1e-5)
            for k in RECALLS:
                assert row[subset][f"R@{k}"] == pytest.approx((pairs["rank"][taken] < k).mean())
            assert row[subset]["hard_negative"] == pytest.approx(np.nanmean(pairs["hard_negative"][taken]))


def pairs_of(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "latent_pairs.npz", allow_pickle=False) as pairs:
        return dict(pairs)


@pytest.mark.processes
@pytest.mark.parametrize("options", ["--data.init_args.val_batch_size=3", "--trainer.devices=2 --trainer.strategy=ddp"])
def test_a_prediction_depends_on_its_pair_alone(experiment, options, tmp_path):
    """Its noise is its own, whatever stands beside it in a batch, and whichever process predicts it."""
    fitted = run_of(experiment)
    before = set(fitted.parent.iterdir())
    words = ["validate", "--config", str(experiment), "--ckpt_path", str(fitted), *options.split()]
    done = run_command(tmp_path / "said", words, torchrun(2) if "ddp" in options else ({},))
    assert done.returncode == 0, done.stdout
    (validated,) = set(fitted.parent.iterdir()) - before
    ours, theirs = pairs_of(fitted), pairs_of(validated)
    assert ours.keys() == theirs.keys()
    for name in ("index", "group", "subset", "rank"):
        assert np.array_equal(ours[name], theirs[name]), name
    for name in ("cosine", "centred_cosine", "mse", "text_cosine", "norm", "hard_negative"):
        np.testing.assert_allclose(theirs[name], ours[name], atol=1e-5, equal_nan=True)
    for row, table in report_of(fitted)["rows"].items():
        other = report_of(validated)["rows"][row]
        for subset, metrics in table.items():
            assert other[subset] == pytest.approx(metrics, abs=1e-5), (row, subset)


@pytest.mark.long
def test_captions_of_one_image_are_kept_together_and_search_for_it_together(tmp_path):
    """Twenty captions of four images: five of each."""
    rng, space = np.random.default_rng(0), make_space()
    (tmp_path / "shards").mkdir()
    with ShardWriter(tmp_path / "shards" / "0000.tar") as writer:
        writer.write(make_chunk(rng, 32, space.dim, space.text_width), "train")
        captions = make_chunk(rng, 20, space.dim, space.text_width, 32)
        writer.write(replace(captions, image_embed=captions.image_embed[:4].repeat(5, axis=0)), "val")
        entries = [writer.close()]
    space.save(tmp_path / "shards" / SPACE_NAME)
    Manifest(space.identity, MADE_BY, entries).save(tmp_path / "shards")
    main(["fit", "--config", str(write_experiment(tmp_path)), "--trainer.max_steps=2", "--trainer.val_check_interval=2"])
    run = tmp_path / "runs" / "tiny" / "version_0"
    pairs = pairs_of(run)
    assert pairs["group"].dtype == np.int64
    _, counts = np.unique(pairs["group"], return_counts=True)
    assert counts.tolist() == [5] * 4
    assert pairs["rank"].max() <= 3, "there are only three other images"
    assert report_of(run)["rows"]["upper_bound"]["all"]["R@1"] == 1


@pytest.mark.long
def test_every_validation_has_samples_and_seconds_and_a_resume_continues_them(tmp_path):
    experiment = write_experiment(tmp_path, trainer__log_every_n_steps=4)
    for steps in ("5", "10"):
        more = ["--ckpt_path", str(run_of(experiment))] if steps == "10" else []
        main(["fit", "--config", str(experiment), "--trainer.max_steps", steps, *more])
    rows = read_metrics(run_of(experiment) / "metrics.csv")
    seen = [(int(row["step"]), float(row["samples_seen"])) for row in rows if row["samples_seen"]]
    assert seen == [(step, 8.0 * (step + 1)) for step in (2, 3, 5, 7, 8, 9)], "the last one is where training ends"
    seconds = [float(row["train_seconds"]) for row in rows if row["train_seconds"]]
    assert len(seconds) == 6
    assert seconds[0] > 0
    assert seconds == sorted(set(seconds))
    assert all(row["samples_seen"] for row in rows if row["val/cosine"])


def test_what_comes_before_training_is_not_counted_as_training(tmp_path):
    experiment = write_experiment(tmp_path, trainer__num_sanity_val_steps=2, trainer__max_steps=2)
    main(["fit", "--config", str(experiment)])
    rows = read_metrics(run_of(experiment) / "metrics.csv")
    assert 0 < float(rows[-1]["train_seconds"]) < 60


def test_the_digest_is_that_of_the_shards_and_not_of_their_place(tmp_path):
    digests = {
        name: Manifest.load(make_shard_set(tmp_path / name, **options)).digest
        for name, options in {"here": {}, "there": {}, "other": {"seed": 1}}.items()
    }
    assert digests["here"] == digests["there"] != digests["other"]
    manifest = Manifest.load(tmp_path / "here")
    assert Manifest(manifest.space, "another command", manifest.shards).digest == digests["here"]
