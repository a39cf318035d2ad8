"""Repairs of a finished set whose sources have changed, where every change also changes the splits of other shards."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.verify import verify
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.embed import embed_shards as embed_shards_module
from eclipse_pl.embed.embed_shards import embed_shards
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.launch.share import Share
from eclipse_pl.raw.batches import ImageBatches
from eclipse_pl.raw.find_sources import find_sources
from eclipse_pl.raw.splits import Draw, SplitDraw
from tests.helpers.raw_sets import MADE_BY, contents, embed, image_bytes, read_all, sample, write_tar

OPTIONS: dict[str, Any] = {"val": 0.3, "test": 0.3}
PAIRS = 6


def first_state(raw: Path) -> list[str]:
    """Three tars, from 0001.tar on."""
    for tar in (1, 2, 3):
        write_tar(raw / f"{tar:04d}.tar", {f"{tar}{n}": sample(10 * tar + n) for n in range(PAIRS)})
    return [f"{raw}/*.tar"]


def joining(made: Path) -> dict[str, dict[str, bytes]]:
    """Pairs that join a pair for training with one that is held out, in the second tar and in the third."""
    pairs, found = read_all(made), {}
    for tar in "23":
        train = next(key for key, pair in pairs.items() if key[0] == tar and pair["split"] == "train")
        held = next(key for key, pair in pairs.items() if key[0] == tar and pair["split"] != "train")
        found[f"joining{tar}"] = {**sample(0, caption=pairs[held]["caption"]), "png": image_bytes(int(train))}
    return found


def replace_first(raw: Path, made: Path) -> None:
    write_tar(raw / "0001.tar", joining(made))


def add_first(raw: Path, made: Path) -> None:
    write_tar(raw / "0000.tar", joining(made))


def add_last(raw: Path, made: Path) -> None:
    write_tar(raw / "0009.tar", joining(made))


def name_the_splits(raw: Path, made: Path) -> None:
    """Its own pairs have splits of their own, so that no split is drawn for them."""
    pairs = joining(made)
    for members in pairs.values():
        members["json"] = b'{"split": "test"}'
    write_tar(raw / "0000.tar", pairs)


CHANGES = [replace_first, add_first, add_last, name_the_splits]
Change = Callable[[Path, Path], None]


def files_of(out: Path) -> dict[str, bytes]:
    """All files of a set but locks, which each task has."""
    return {name: content for name, content in contents(out).items() if not name.endswith(".lock")}


@pytest.fixture
def changed(
    tmp_path: Path, clip_encoder: OpenClipEncoder, request: pytest.FixtureRequest
) -> tuple[list[str], dict[str, bytes]]:
    """A finished set in ``out`` whose sources have changed since; its sources, and the files of a set made of them anew."""
    sources = first_state(tmp_path / "raw")
    before = embed(sources, clip_encoder, tmp_path / "out", **OPTIONS)
    request.param(tmp_path / "raw", tmp_path / "out")
    after = embed(sources, clip_encoder, tmp_path / "whole", **OPTIONS)
    old, new = ({shard.name: shard.source.drawn for shard in made.shards if shard.source} for made in (before, after))
    assert all(old[name] != new[name] for name in ("0002.tar", "0003.tar"))
    return sources, files_of(tmp_path / "whole")


def stop_at(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Interrupt before the change of the folder that has this number: a file is renamed or removed."""
    left = itertools.count(steps, -1)

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def changing(*args: Any, **kwargs: Any) -> Any:
            if next(left) == 0:
                raise KeyboardInterrupt("stopped here")
            return change(*args, **kwargs)

        return changing

    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))


@pytest.mark.long
@pytest.mark.parametrize("changed", CHANGES, indirect=True)
def test_a_repair_that_is_stopped_anywhere_ends_with_the_bytes_of_a_new_set(
    changed: tuple[list[str], dict[str, bytes]],
    tmp_path: Path,
    clip_encoder: OpenClipEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources, whole = changed
    for steps in itertools.count():
        shutil.copytree(tmp_path / "out", out := tmp_path / f"stopped_{steps}")
        try:
            with monkeypatch.context() as patch:
                stop_at(patch, steps)
                embed(sources, clip_encoder, out, **OPTIONS)
            break
        except KeyboardInterrupt:
            embed(sources, clip_encoder, out, **OPTIONS)
            assert files_of(out) == whole, f"stopped before step {steps}"
            shutil.rmtree(out)
    assert steps > 10 and files_of(out) == whole


def run_task(sources: list[str], encoder: OpenClipEncoder, out: Path, share: Share, **options: Any) -> Manifest | None:
    sizes = {"chunk": 4, "batch_size": 3, "workers": 0} | OPTIONS | options
    return embed_shards(find_sources(sources), encoder, out, MADE_BY, share=share, **sizes)


@pytest.mark.long
@pytest.mark.parametrize("changed", CHANGES, indirect=True)
def test_tasks_in_any_order_repair_the_shards_of_each_other(
    changed: tuple[list[str], dict[str, bytes]], tmp_path: Path, clip_encoder: OpenClipEncoder
) -> None:
    sources, whole = changed
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    for order in itertools.permutations(range(3)):
        shutil.copytree(tmp_path / "out", out := tmp_path / f"order_{order}")
        for index in order:
            run_task(sources, clip_encoder, out, Share(index, 3))
            manifest = out / "manifest.json"
            assert not manifest.exists() or manifest.read_bytes() in (before, whole["manifest.json"]), "no mixture"
        assert files_of(out) == whole, order


@pytest.mark.long
@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("changed", CHANGES, indirect=True)
def test_a_task_repairs_a_set_beside_the_others(
    changed: tuple[list[str], dict[str, bytes]],
    tmp_path: Path,
    clip_encoder: OpenClipEncoder,
    monkeypatch: pytest.MonkeyPatch,
    index: int,
) -> None:
    """The other tasks begin and end after it has looked for what it must embed."""
    sources, whole = changed

    def overtaken(*args: Any) -> ImageBatches:
        monkeypatch.setattr(embed_shards_module, "ImageBatches", ImageBatches)
        for other in range(3):
            if other != index:
                run_task(sources, clip_encoder, tmp_path / "out", Share(other, 3))
        return ImageBatches(*args)

    monkeypatch.setattr(embed_shards_module, "ImageBatches", overtaken)
    assert run_task(sources, clip_encoder, tmp_path / "out", Share(index, 3)) is not None
    assert files_of(tmp_path / "out") == whole


@pytest.mark.long
def test_a_task_that_found_nothing_to_do_does_not_finish_the_repair_of_another(
    tmp_path: Path, clip_encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A source is replaced, and its task runs, after this task has looked at the sources."""
    sources, out = first_state(tmp_path / "raw"), tmp_path / "out"
    embed(sources, clip_encoder, out, **OPTIONS)

    def overtaken(*args: Any) -> ImageBatches:
        monkeypatch.setattr(embed_shards_module, "ImageBatches", ImageBatches)
        replace_first(tmp_path / "raw", out)
        assert run_task(sources, clip_encoder, out, Share(0, 3)) is None
        assert "2 of 3 shards (first 0002.tar) do not fit the present sources" in capsys.readouterr().out
        return ImageBatches(*args)

    monkeypatch.setattr(embed_shards_module, "ImageBatches", overtaken)
    with pytest.raises(ValueError, match=r"Sources changed while the command ran, .* 0002.tar .* Run the command again"):
        run_task(sources, clip_encoder, out, Share(1, 3))
    assert not (out / "manifest.json").exists()
    assert run_task(sources, clip_encoder, out, Share(2, 3)) is None
    assert run_task(sources, clip_encoder, out, Share(1, 3)) is not None
    embed(sources, clip_encoder, tmp_path / "whole", **OPTIONS)
    assert files_of(out) == files_of(tmp_path / "whole")
    assert not any(finding.wrong for finding in verify([str(out)]))


@pytest.mark.long
def test_sources_that_were_only_touched_change_no_shard(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    sources, out = first_state(tmp_path / "raw"), tmp_path / "out"
    embed(sources, clip_encoder, out, **OPTIONS)
    before = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    for path in (tmp_path / "raw").iterdir():
        os.utime(path, ns=(0, 10**9))
    for index in (1, 0, 2):
        assert run_task(sources, clip_encoder, out, Share(index, 3)) is not None, "the set is finished at any time"
    assert {path.name: path.stat().st_ino for path in out.glob("*.tar")} == before
    embed(sources, clip_encoder, tmp_path / "whole", **OPTIONS)
    assert files_of(out) == files_of(tmp_path / "whole"), "the manifest knows the present state of the sources"


def test_a_source_that_changes_between_the_draw_and_its_shard_is_refused(
    tmp_path: Path, clip_encoder: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loses a pair. A pair that is new is refused by the draw."""
    sources, out = first_state(tmp_path / "raw"), tmp_path / "out"
    draw = SplitDraw.draw

    def late(splits: SplitDraw) -> Draw:
        drawn = draw(splits)
        write_tar(tmp_path / "raw" / "0003.tar", {f"3{n}": sample(30 + n) for n in range(PAIRS - 1)})
        return drawn

    with monkeypatch.context() as patch:
        patch.setattr(SplitDraw, "draw", late)
        with pytest.raises(ValueError, match=r"Sources changed while the command ran, .* 0003.tar .* Run the command again"):
            embed(sources, clip_encoder, out, **OPTIONS)
    assert not (out / "manifest.json").exists()
    embed(sources, clip_encoder, out, **OPTIONS)
    embed(sources, clip_encoder, tmp_path / "whole", **OPTIONS)
    assert files_of(out) == files_of(tmp_path / "whole")
