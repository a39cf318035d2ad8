"""``python -m data_prep merge``: links, names, statistics, overlaps; training on the merged set."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset

from data_prep.__main__ import main
from data_prep.merge import require_one_form
from data_prep.verify import verify
from eclipse_pl.__main__ import main as eclipse_pl
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.data.manifest import SPACE_NAME, Manifest
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.embed.folder import SETTINGS_NAME, write_space
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.files import write_json
from tests.helpers.runs import write_experiment
from tests.helpers.shard_sets import MADE_BY, make_chunk, make_shard_set, make_space
from tests.test_verify import with_statistics, write_pairs


def make_set(folder: Path, first: int, train: int = 40, chunk: int = 16, **options: object) -> Path:
    """A set of ``train`` training and 8 validation pairs, numbered from ``first`` on."""
    folder.mkdir()
    rng, space = np.random.default_rng(first), make_space()
    plan = [("train", start, min(chunk, train - start)) for start in range(0, train, chunk)] + [("val", train, 8)]
    entries = []
    for number in range(0, len(plan), 2):
        with ShardWriter(folder / f"{number // 2:04d}.tar") as writer:
            for split, start, pairs in plan[number : number + 2]:
                writer.write(make_chunk(rng, pairs, space.dim, space.text_width, first + start, **options), split)  # type: ignore[arg-type]
            entries.append(writer.close())
    space.save(folder / SPACE_NAME)
    Manifest(space.identity, MADE_BY, entries, sources=[f"raw/{folder.name}"]).save(folder)
    return with_statistics(folder)


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    return [str(make_set(tmp_path / "a", 0)), str(make_set(tmp_path / "b", 1000, train=30))]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "merged"


def without_hard_links(self: Path, target: Path) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def keys(folder: Path | str, split: str) -> list[str]:
    shards = ShardSet(folder)
    return [key for record in shards.records(split) for key in shards.read_chunk(record).keys]


def test_the_merged_set_is_all_pairs_of_both(sets: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *sets, "--out", str(out)]) == 0
    assert "86 pairs (70 train, 16 val) in 4 shards, 4 hard links" in capsys.readouterr().out
    assert [shard.name for shard in Manifest.load(out).shards] == ["0-0000.tar", "0-0001.tar", "1-0000.tar", "1-0001.tar"]
    for split in ("train", "val"):
        assert keys(out, split) == [key for name in sets for key in keys(name, split)]
    assert (out / "1-0001.tar").samefile(Path(sets[1]) / "0001.tar")
    assert Manifest.load(out).sources == ["raw/a", "raw/b"]
    assert Manifest.load(out).space_sha256 == sha256((out / SPACE_NAME).read_bytes()).hexdigest()
    assert not any(finding.wrong for finding in verify([str(out)]))
    assert main(["verify", str(out)]) == 0


def test_the_statistics_are_those_of_all_training_pairs(sets: list[str], out: Path) -> None:
    assert main(["merge", *sets, "--out", str(out)]) == 0
    images = [
        shards.read_chunk(record).image_embed.astype(np.float64)
        for shards in map(ShardSet, sets)
        for record in shards.records("train")
    ]
    everything, space = np.concatenate(images), ClipSpace.load(out / SPACE_NAME)
    np.testing.assert_allclose(space.image_mean, everything.mean(0), rtol=1e-6)
    np.testing.assert_allclose(space.image_std, everything.std(0), rtol=1e-6)
    assert space.image_covariance is not None
    np.testing.assert_allclose(space.image_covariance, np.cov(everything.T, bias=True), rtol=1e-5, atol=1e-7)
    assert not torch.equal(space.image_mean, ClipSpace.load(Path(sets[0]) / SPACE_NAME).image_mean)


@pytest.mark.parametrize("hard", [True, False])
def test_the_loader_gives_all_training_pairs(sets: list[str], out: Path, hard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hard:
        monkeypatch.setattr(Path, "hardlink_to", without_hard_links)
    assert main(["merge", *sets, "--out", str(out)]) == 0
    data = EmbeddingDataModule(str(out), batch_size=10, workers=0, check="sha256")
    given = torch.cat([batch.index for batch in data.train_dataloader()])
    shards = ShardSet(out)
    training = np.concatenate([np.arange(*shards.record_starts[record : record + 2]) for record in shards.records("train")])
    assert sorted(given.tolist()) == training.tolist() and len(training) == 70


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_fit_trains_on_the_merged_set(sets: list[str], tmp_path: Path) -> None:
    assert main(["merge", *sets, "--out", str(tmp_path / "shards")]) == 0
    assert eclipse_pl(["fit", "--config", str(write_experiment(tmp_path, trainer__max_steps=8))]) == 0
    checkpoint = torch.load(tmp_path / "runs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 8


def test_shards_keep_their_names_where_no_two_sets_share_one(sets: list[str], out: Path, tmp_path: Path) -> None:
    make_set(tmp_path / "c", 2000)
    assert main(["merge", *sets, "--out", str(out)]) == 0
    assert main(["merge", str(out), str(tmp_path / "c"), "--out", str(tmp_path / "all")]) == 0
    names = [shard.name for shard in Manifest.load(tmp_path / "all").shards]
    assert names == ["0-0000.tar", "0-0001.tar", "1-0000.tar", "1-0001.tar", "0000.tar", "0001.tar"]
    assert len(keys(tmp_path / "all", "train")) == 110


def test_symbolic_links_are_named_in_the_output(
    sets: list[str], out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", without_hard_links)
    assert main(["merge", *sets, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "4 symbolic links" in printed and "Keep these folders where they are" in printed and sets[0] in printed
    assert all(path.is_symlink() for path in out.glob("*.tar"))
    assert not any(finding.wrong for finding in verify([str(out)]))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves its tars open
def test_webdataset_keeps_records_of_equal_keys_apart(tmp_path: Path, out: Path) -> None:
    """Each set is one record, 0000_00000, so the two are neighbours in the stream."""
    sets = [str(write_pairs(tmp_path / name, {"train": [(name, name, place)]})) for place, name in enumerate("xy")]
    assert main(["merge", *sets, "--out", str(out)]) == 0
    tars = [str(path) for path in sorted(out.glob("*.tar"))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == ["0000_00000", "0000_00000"]
    assert [sample["captions.json"]["keys"] for sample in samples] == [["x"], ["y"]]


@pytest.mark.parametrize("stop", range(6))
def test_a_killed_merge_leaves_no_half_set(sets: list[str], out: Path, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends before a link, the space or the manifest is written. The same command then finishes."""
    steps = iter(range(100))

    def killed(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object) -> Any:
            if next(steps) == stop:
                raise KeyboardInterrupt
            return real(*args)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", killed(Path.hardlink_to))
        patch.setattr("eclipse_pl.embed.folder.write_space", killed(write_space))
        patch.setattr(Manifest, "save", killed(Manifest.save))
        assert main(["merge", *sets, "--out", str(out)]) == 130
    with pytest.raises(ValueError, match=r"There is no .*manifest\.json"):
        ShardSet(out)
    assert not list(out.glob("*.partial"))
    assert main(["merge", *sets, "--out", str(out)]) == 0
    assert len(ShardSet(out, "sha256")) == 86


def test_the_same_command_repairs_the_merged_set(sets: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *sets, "--out", str(out)]) == 0
    shard, manifest = Path(sets[1]) / "0000.tar", (out / "manifest.json").read_bytes()
    content = shard.read_bytes()
    shard.write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])  # in place: both links see it
    (finding,) = [finding for finding in verify([str(out)]) if finding.repair]
    assert finding.repair == f"python -m data_prep merge {sets[0]} {sets[1]} --out {out}"
    assert main(["merge", *sets, "--out", str(out)]) == 2
    assert f"{shard} has other bytes than were written (sha256 differs). Repair it with" in capsys.readouterr().err
    shard.unlink()
    shard.write_bytes(content)  # as embed does: another file under the name
    assert main(["merge", *sets, "--out", str(out)]) == 0
    assert not any(finding.wrong for finding in verify([str(out)]))
    assert (out / "manifest.json").read_bytes() == manifest


def test_a_killed_merge_of_changed_sets_leaves_no_old_manifest(
    sets: list[str], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["merge", *sets, "--out", str(out)]) == 0
    shutil.rmtree(sets[1])
    make_set(Path(sets[1]), 5000, train=30)  # of as many shards and bytes
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "save", stopped)
        assert main(["merge", *sets, "--out", str(out)]) == 130
    with pytest.raises(ValueError, match=r"There is no .*manifest\.json"):
        ShardSet(out)
    assert main(["merge", *sets, "--out", str(out)]) == 0
    assert "000005000" in keys(out, "train") and not any(finding.wrong for finding in verify([str(out)]))


def stopped(self: Manifest, folder: Path) -> None:
    raise KeyboardInterrupt


def test_the_sets_stay_as_they_are(sets: list[str], out: Path) -> None:
    before = {path: path.read_bytes() for name in sets for path in Path(name).iterdir()}
    assert main(["merge", *sets, "--out", str(out)]) == 0
    assert {path: path.read_bytes() for name in sets for path in Path(name).iterdir()} == before


def test_pairs_in_two_splits_are_refused_with_their_counts(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_pairs(tmp_path / "one", {"train": [("0", "a dog", 0), ("1", "a cat", 1), ("2", "a cow", 2)]})
    test = write_pairs(
        tmp_path / "two", {"test": [("0", "a wolf", 0), ("1", "a CAT", 7), ("2", "A dog", 8)], "train": [("9", "a fox", 9)]}
    )
    assert main(["merge", str(train), str(test), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"captions in two splits: 2 in {train} train and in {test} test, first 'a dog'." in error
    assert f"images in two splits: 1 in {train} train and in {test} test, first '0'." in error
    assert "add --anyway" in error and not out.exists()
    assert main(["merge", str(train), str(test), "--out", str(out), "--anyway"]) == 0
    assert "warning: captions in two splits: 2" in capsys.readouterr().err
    assert Manifest.load(out).splits == {"train": 4, "test": 3}


def with_images(folder: str, **images: str | bool) -> None:
    replace(Manifest.load(folder), images=images).save(folder)


def test_different_ways_to_read_images(sets: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_images(sets[0], upright=True, background="white")
    with_images(sets[1], upright=True, background="black")
    assert main(["merge", *sets, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"upright True, background white in {sets[0]}, upright True, background black in {sets[1]}" in error
    assert main(["merge", *sets, "--out", str(out), "--anyway"]) == 0
    assert Manifest.load(out).images == {"upright": True}


def test_encoders_of_two_precisions(sets: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, precision in zip(sets, ("float32", "bfloat16"), strict=True):
        write_json(Path(folder) / SETTINGS_NAME, {"precision": precision})
    assert main(["merge", *sets, "--out", str(out)]) == 2
    assert f"different precisions: in float32 in {sets[0]}, in bfloat16 in {sets[1]}" in capsys.readouterr().err
    write_json(Path(sets[1]) / SETTINGS_NAME, {"precision": "float32"})
    assert main(["merge", *sets, "--out", str(out)]) == 0


def test_pooled_sets_beside_sets_of_states(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [str(make_set(tmp_path / "a", 0)), str(make_set(tmp_path / "b", 1000, tokens=(0, 0)))]
    assert main(["merge", *sets, "--out", str(out)]) == 2
    assert f"{sets[1]} has pooled embeddings only" in capsys.readouterr().err


def test_captions_stored_in_two_forms(sets: list[str]) -> None:
    manifests = {name: Manifest.load(name) for name in sets}
    require_one_form(manifests)
    shards = [
        replace(shard, records=[replace(record, members={"token_ids.npy": (0, 4)}) for record in shard.records])
        for shard in manifests[sets[1]].shards
    ]
    with pytest.raises(ValueError, match=f"{sets[0]} stores captions as text_states, and {sets[1]} as token_ids"):
        require_one_form({**manifests, sets[1]: replace(manifests[sets[1]], shards=shards)})


def test_other_spaces_are_refused_with_both_names(sets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_shard_set(tmp_path / "c", space=make_space(name="other"))
    assert main(["merge", sets[0], str(other), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert (
        f"The set {sets[0]} and the set {other} belong to different CLIP spaces: tiny" in error and "other (other-8" in error
    )


def test_the_same_pairs_twice_are_refused(
    sets: list[str], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", *sets, "--out", str(out)]) == 0
    assert main(["merge", str(out), sets[1], "--out", str(tmp_path / "twice")]) == 2
    assert f"{out / '1-0000.tar'} and {Path(sets[1]) / '0000.tar'} hold the same pairs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{a}", "--out", "{out}"], "merge takes two or more different sets"),
        (["{a}", "{a}/../a", "--out", "{out}"], "merge takes two or more different sets"),
        (["{a}", "{b}", "--out", "{a}"], "is one of the sets"),
        (["{a}", "s3://bucket/set", "--out", "{out}"], "s3://bucket/set is not a local folder"),
        (["{a}", "{b}", "--out", "gs://bucket/set"], "gs://bucket/set is not a local folder"),
        (["{a}", "{out}", "--out", "{b}2"], "There is no"),
        (["{a}", "{b}", "--out", "{a}/manifest.json"], "is a file, so"),
        (["{a}", "{b}", "--out", "{c}"], "already holds 0000.tar, not made by this command"),
    ],
)
def test_what_cannot_be_merged(
    sets: list[str], out: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_set(tmp_path / "c", 2000)
    assert main(["merge", *(word.format(a=sets[0], b=sets[1], c=other, out=out) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_merged_folder_takes_no_other_sets(sets: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *sets, "--out", str(out)]) == 0
    assert main(["merge", *reversed(sets), "--out", str(out)]) == 2
    assert "holds shards with other settings (merge: " in capsys.readouterr().err
