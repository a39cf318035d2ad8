from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.__main__ import main
from data_prep.verify import verify
from eclipse_pl.data.chunk import content_number
from eclipse_pl.data.manifest import SPLITS, Manifest
from eclipse_pl.data.together import components
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw.pairs import RawPair
from eclipse_pl.raw.splits import OPEN, PairNames, SplitDraw, draw_splits
from eclipse_pl.raw.tars import TarPart
from tests.helpers.raw_sets import contents, embed, image_bytes, read_all, sample, write_tar

# ---- the draw


def names_of(rows: list[tuple[int, int, int | None, int]]) -> PairNames:
    image, caption = ([content_number(str(row[column]).encode()) for row in rows] for column in (0, 1))
    group = [number if row[2] is None else row[2] for number, row in zip(image, rows, strict=True)]
    return PairNames(*np.array([image, caption, group, [row[3] for row in rows]], dtype=np.int64).reshape(4, -1))


ROWS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.none() | st.integers(0, 9), st.sampled_from([OPEN] * 6 + [0, 1, 2])),
    max_size=40,
)


@pytest.mark.long
@given(ROWS, st.floats(0, 0.5), st.floats(0, 0.5), st.randoms(use_true_random=False))
def test_what_belongs_together_lies_in_one_split(
    rows: list[tuple[int, int, int | None, int]], val: float, test: float, random: object
) -> None:
    names = names_of(rows)
    drawn = draw_splits(names, val, test)
    together = components(names.image, names.caption, names.group)
    free = 0
    for number in set(together.tolist()):
        own = {split for split in names.split[together == number].tolist() if split != OPEN}
        found = set(drawn[(together == number) & (names.split == OPEN)].tolist())
        assert len(found) <= 1
        if own and found:
            assert found == (own if len(own) == 1 else {0})
        free += not own
    assert (drawn == names.split)[names.split != OPEN].all()
    asked = [split for split, share in enumerate((1 - val - test, val, test)) if share > 1e-9]
    if free >= len(asked):
        assert set(asked) <= set(drawn.tolist()), "no split is empty where there are enough"
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = draw_splits(PairNames(*names.table[:, order]), val, test)
    assert shuffled.tolist() == drawn[order].tolist(), "the order of the pairs changes nothing"


def test_fractions_of_the_splits() -> None:
    names = names_of([(number, number, None, OPEN) for number in range(4000)])
    drawn = draw_splits(names, 0.1, 0.3)
    val, test = SPLITS.index("val"), SPLITS.index("test")
    assert abs((drawn == val).mean() - 0.1) < 0.02 and abs((drawn == test).mean() - 0.3) < 0.03
    larger = draw_splits(names, 0.4, 0.3)
    assert ((drawn == test) == (larger == test)).all() and (larger[drawn == val] == val).all()
    assert set(draw_splits(names, 1.0, 0.0).tolist()) == {val}


@pytest.mark.parametrize("first", range(0, 20_000, 1000))
def test_a_caption_that_connects_thousands_is_for_training(first: int) -> None:
    """Drawn like the others, it would be the whole of a split of every tenth set."""
    rows = [(first + number, 0 if number < 300 else number, None, OPEN) for number in range(1000)]
    drawn = draw_splits(names_of(rows), 0.1, 0.1)
    assert not drawn[:300].any() and 0.05 < (drawn[300:] == 1).mean() < 0.2


@pytest.mark.parametrize(("pairs", "expected"), [(57, (55, 1, 1)), (3, (1, 1, 1)), (2, (1, 1, 0)), (1, (1, 0, 0))])
def test_a_split_has_a_pair_where_there_are_enough(pairs: int, expected: tuple[int, int, int]) -> None:
    for start in range(0, 1000, 100):
        drawn = draw_splits(names_of([(start + number, number, None, OPEN) for number in range(pairs)]), 1e-4, 1e-4)
        assert tuple(np.bincount(drawn, minlength=3)) == expected


# ---- over tars


Pairs = list[tuple[int, int]]


def splits_of(out: Path, tars: dict[str, dict[str, tuple[int, int]]]) -> dict[str, str]:
    """The split of each key; a pair is the numbers of its image and of its caption."""
    named, samples = {}, {}
    for name, pairs in tars.items():
        members = {key: {"png": b"image %d" % image, "txt": b"caption %d" % text} for key, (image, text) in pairs.items()}
        named[name] = TarPart(str(write_tar(out / f"raw_{name}", members)))
        samples |= {
            (name, key): RawPair(key, f"caption {text}", b"", None, None, None, "", content_number(b"image %d" % image))
            for key, (image, text) in pairs.items()
        }
    draw = SplitDraw(named, out, 0.3, 0.3)
    return {key: draw.split_of(name, pair) for (name, key), pair in samples.items()}


@pytest.mark.long
@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=24), st.data())
def test_which_tar_a_pair_lies_in_and_when_it_is_read_changes_nothing(pairs: Pairs, data: st.DataObject) -> None:
    keyed = {f"{number:03d}": pair for number, pair in enumerate(pairs)}
    tars: dict[str, dict[str, tuple[int, int]]] = {}
    for key in sorted(keyed):
        tars.setdefault(f"{data.draw(st.integers(0, 3))}.tar", {})[key] = keyed[key]
    tars = {name: tars[name] for name in data.draw(st.permutations(sorted(tars)))}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        found = splits_of(Path(one), {"all.tar": keyed})
        assert found == splits_of(Path(other), tars)
    for part in (0, 1):
        seen = {(keyed[key][part], split) for key, split in found.items()}
        assert len(seen) == len({name for name, _ in seen}), "no image and no caption lies in two splits"


def five_captions(folder: Path, images: int = 12) -> str:
    """MSCOCO by img2dataset's recipe: five keys an image, here in two tars, and a caption that two images share."""
    samples = {
        f"{5 * image + n:04d}": {**sample(0, caption=f"{n} of {image}"), "png": image_bytes(image)}
        for n in range(5)
        for image in range(images)
    }
    samples["0007"]["txt"] = b"0 of  0"
    for tar in (0, 1):
        write_tar(folder / f"{tar:04d}.tar", {key: samples[key] for key in sorted(samples) if int(key) % 2 == tar})
    return f"{folder}/*.tar"


@pytest.mark.long
def test_one_image_of_several_captions_lies_in_one_split(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    manifest = embed([five_captions(tmp_path / "raw")], clip_encoder, tmp_path / "shards", val=0.2, test=0.2)
    assert set(manifest.splits) == set(SPLITS)
    pairs = read_all(tmp_path / "shards")
    assert len({(int(key) // 5, pair["split"]) for key, pair in pairs.items()}) == 12
    assert pairs["0000"]["split"] == pairs["0007"]["split"]
    assert not any(finding.wrong for finding in verify([str(tmp_path / "shards")]))
    assert not list((tmp_path / "shards").glob("*.npz"))


def test_a_group_joins_and_a_named_split_is_kept(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    samples = {f"{n:02d}": sample(n, group=n // 10) for n in range(40)}
    samples["03"], samples["13"] = sample(3, group=0, split="test"), sample(13, group=1, split="val")
    embed([str(write_tar(tmp_path / "raw.tar", samples))], clip_encoder, tmp_path / "shards", val=0.3, test=0.3)
    pairs = read_all(tmp_path / "shards")
    splits = [{pair["split"] for key, pair in pairs.items() if int(key) // 10 == group} for group in range(4)]
    assert splits[:2] == [{"test"}, {"val"}] and all(len(found) == 1 for found in splits)


class ReadTwice(Exception):
    pass


def refuse(pairs: Iterable[RawPair]) -> PairNames:
    """In place of `PairNames.of`: the pairs of a source must not be read; the empty list is no source."""
    if isinstance(pairs, list):
        return PairNames(*np.zeros((4, 0), dtype=np.int64))
    raise ReadTwice


def test_sources_are_read_for_the_draw_when_it_is_needed(
    tmp_path: Path, clip_encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = str(write_tar(tmp_path / "named.tar", {f"{n}": sample(n, split="train") for n in range(3)}))
    free = str(write_tar(tmp_path / "open.tar", {f"{n}": sample(n) for n in range(3)}))
    monkeypatch.setattr(PairNames, "of", refuse)
    assert embed([named], clip_encoder, tmp_path / "named").splits == {"train": 3}
    assert embed([free], clip_encoder, tmp_path / "none", val=0.0, test=0.0).splits == {"train": 3}
    with pytest.raises(ReadTwice):
        embed([named, free], clip_encoder, tmp_path / "both")


@pytest.mark.long
def test_a_run_that_is_started_again_does_not_read_twice(
    tmp_path: Path, clip_folder: Path, clip_encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.test_embed_folder import Stopping

    source, out = five_captions(tmp_path / "raw"), tmp_path / "shards"
    with pytest.raises(RuntimeError, match="stopped here"):
        embed([source], Stopping(f"local-dir:{clip_folder}", None, device="cpu", stop_at=12), out)
    assert sorted(path.name for path in out.glob("*.npz")) == ["0000.tar.pairs.npz", "0001.tar.pairs.npz"]
    shutil.copytree(out, tmp_path / "power lost")
    with monkeypatch.context() as patch:
        patch.setattr(PairNames, "of", refuse)
        embed([source], clip_encoder, out)
    assert embed([source], clip_encoder, tmp_path / "whole") and contents(out) == contents(tmp_path / "whole")
    for kept, left in zip(sorted((tmp_path / "power lost").glob("*.npz")), (b"", bytes(100)), strict=True):
        kept.write_bytes(left)
    embed([source], clip_encoder, tmp_path / "power lost")
    assert contents(tmp_path / "power lost") == contents(out)


@pytest.mark.long
def test_an_empty_split_is_reported(tmp_path: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tar(tmp_path / "raw.tar", {"0": sample(0), "1": sample(1)})
    args = ["embed", "--source", f"{tmp_path}/raw.tar", "--workers", "0", "--encoder.model", f"local-dir:{clip_folder}"]
    args += ["--encoder.pretrained", "null", "--encoder.device", "cpu"]
    assert main([*args, "--out", f"{tmp_path}/few"]) == 0
    expected = "the split test is empty, though 0.01 was asked for: too few pairs could be drawn"
    assert f"warning: {expected}\n" in capsys.readouterr().err
    assert main(["verify", f"{tmp_path}/few"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "warning" in printed and expected in printed
    assert main([*args, "--out", f"{tmp_path}/none", "--val", "0", "--test", "0"]) == 0
    assert "warning" not in capsys.readouterr().err
    write_tar(tmp_path / "raw.tar", {f"{n:02d}": sample(n) for n in range(57)})
    assert main([*args, "--out", f"{tmp_path}/enough"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert Manifest.load(tmp_path / "enough").splits == {"train": 55, "val": 1, "test": 1}


# ---- sources that change


def test_a_changed_source_is_made_again(
    tmp_path: Path, clip_encoder: OpenClipEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "shards"
    for tar in range(3):
        write_tar(raw / f"{tar:04d}.tar", {f"{tar}{n}": sample(10 * tar + n) for n in range(4)})
    embed([f"{raw}/*.tar"], clip_encoder, out, val=0.0, test=0.0)
    before = {path.name: path.stat().st_ino for path in out.iterdir()}
    write_tar(raw / "0001.tar", {f"new{n}": sample(50 + n) for n in range(6)})
    status = (raw / "0002.tar").stat()
    os.utime(raw / "0002.tar", ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    capsys.readouterr()
    embed([f"{raw}/*.tar"], clip_encoder, out, val=0.0, test=0.0)
    printed = capsys.readouterr().out
    assert f"0001.tar is embedded again, because {raw}/0001.tar has changed." in printed and "0002.tar is" not in printed
    assert {key for key in read_all(out) if key.startswith("new")} == {f"new{n}" for n in range(6)}
    assert "10" not in read_all(out)
    assert all((out / name).stat().st_ino == before[name] for name in ("0000.tar", "0002.tar"))
    embed([f"{raw}/*.tar"], clip_encoder, tmp_path / "whole", val=0.0, test=0.0)
    assert contents(out) == contents(tmp_path / "whole")


def test_what_was_read_of_a_source_that_changed_is_not_used(
    tmp_path: Path, clip_folder: Path, clip_encoder: OpenClipEncoder
) -> None:
    from tests.test_embed_folder import Stopping

    source, out = five_captions(tmp_path / "raw"), tmp_path / "shards"
    with pytest.raises(RuntimeError, match="stopped here"):
        embed([source], Stopping(f"local-dir:{clip_folder}", None, device="cpu", stop_at=12), out)
    write_tar(tmp_path / "raw" / "0001.tar", {f"new{n}": sample(50 + n) for n in range(6)})
    embed([source], clip_encoder, out)
    embed([source], clip_encoder, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.processes
def test_what_a_pipe_gives_is_reported_by_its_bytes(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    path = write_tar(tmp_path / "raw.tar", {f"{n}": sample(n) for n in range(5)})
    source, out = [f"pipe:cat {path}"], tmp_path / "shards"
    embed(source, clip_encoder, out)
    before = {path.name: path.stat().st_ino for path in out.iterdir()}
    embed(source, clip_encoder, out)
    assert before == {path.name: path.stat().st_ino for path in out.iterdir()}
    write_tar(path, {f"{n}": sample(n + 1) for n in range(5)})
    embed(source, clip_encoder, out)
    assert read_all(out)["0"]["caption"] == "image number 1 of the set"
    path.unlink()
    with pytest.raises(ValueError, match="1 of 1 sources could not be read to their end: pipe:cat"):
        embed(source, clip_encoder, out)


def test_a_source_that_joins_pairs_of_two_splits(
    tmp_path: Path, clip_encoder: OpenClipEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = tmp_path / "raw", tmp_path / "shards"
    for tar in range(4):
        write_tar(raw / f"{tar:04d}.tar", {f"{tar}{n}": sample(10 * tar + n) for n in range(6)})
    embed([f"{raw}/*.tar"], clip_encoder, out, val=0.3, test=0.3)
    before = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    pairs = read_all(out)
    train = next(key for key, pair in pairs.items() if pair["split"] == "train")
    held = next(key for key, pair in pairs.items() if pair["split"] == "val" and key[0] != train[0])
    joining = {**sample(0, caption=pairs[held]["caption"]), "png": image_bytes(int(train))}
    write_tar(raw / "0004.tar", {"joining": joining})
    embed([f"{raw}/*.tar"], clip_encoder, out, val=0.3, test=0.3)
    assert "because the other sources change the splits of its pairs" in capsys.readouterr().out
    pairs = read_all(out)
    assert pairs[train]["split"] == pairs[held]["split"] == pairs["joining"]["split"]
    again = {path.name for path in out.glob("*.tar") if before.get(path.name) != path.stat().st_ino}
    assert len(again) == 2 and "0004.tar" in again, "the shard of one of the two, and the new one"
    embed([f"{raw}/*.tar"], clip_encoder, tmp_path / "whole", val=0.3, test=0.3)
    assert contents(out) == contents(tmp_path / "whole")


def test_what_a_server_says_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"one")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    SimpleHTTPRequestHandler.log_message = lambda *_: None  # type: ignore[method-assign, assignment]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.tar"
        first = TarPart(url).version()
        assert first.startswith("3 bytes, ") and TarPart(url).version() == first
        (tmp_path / "a.tar").write_bytes(b"three")
        assert TarPart(url).version() not in (first, "")
        assert TarPart(url.replace("a.tar", "b.tar")).version() == ""
        server.shutdown()
    assert TarPart(url).version() == TarPart("pipe:cat a.tar").version() == ""
