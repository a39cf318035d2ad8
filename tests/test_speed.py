"""The speed command with small sizes: rows, units and peers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eclipse_pl import __main__
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.priors import DiffusionPrior
from eclipse_pl.speed import command as speed
from eclipse_pl.speed import priors as speed_priors
from eclipse_pl.speed.data import embed, loader, remote
from eclipse_pl.speed.inputs import draw_lengths, random_space, random_text, write_images, write_shards
from eclipse_pl.speed.priors import step
from eclipse_pl.speed.timing import Timing, in_turns

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_ratio_is_how_many_times_as_fast() -> None:
    assert Timing("time", 20.0, 100.0, "ms").ratio == 5
    assert Timing("rate", 20.0, 100.0, "pairs/s").ratio == 0.2


def test_caption_lengths_are_mscocos() -> None:
    drawn = draw_lengths(20_000)
    assert torch.equal(drawn, draw_lengths(20_000))
    assert abs(float(drawn.double().mean()) - 13.53) < 0.1 and drawn.min() == 9 and drawn.max() <= 58


def test_step() -> None:
    rows = step("step/tiny", 32, CPU, captions=16, layers=2, heads=2, head_dim=16)
    assert [(row.name, row.unit) for row in rows] == [("step/tiny", "ms"), ("step/tiny/padded-77", "ms")]
    assert rows[0].peer == rows[1].peer
    assert all(row.ours > 0 for row in rows)


@pytest.mark.slow
def test_step_is_four_times_as_fast_as_diffusers() -> None:
    torch.set_num_threads(2)
    for row in speed.step_timings(CPU):
        assert row.ratio > (1 if row.name.endswith("padded-77") else 4), row


@pytest.mark.long
def test_diffusion() -> None:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}
    (row,) = speed_priors.diffusion_step("diffusion/step", 32, CPU, captions=8, **sizes)
    assert row.unit == "ms" and row.ours > 0
    rows = speed_priors.sampling("diffusion/sample", 32, CPU, captions=3, **sizes)
    assert [row.name for row in rows] == ["diffusion/sample", "diffusion/sample/kandinsky"]
    assert rows[0].ours == rows[1].ours and all(row.ratio > 0 for row in rows)


def test_the_peer_is_kandinskys_loop_with_the_same_weights() -> None:
    torch.manual_seed(0)
    prior = DiffusionPrior(random_space(32), num_layers=2, num_attention_heads=2, attention_head_dim=16).eval()
    text = random_text(32, torch.tensor([13, 13]))
    empty = text.replaced(torch.tensor([True, True]), prior.space.empty_prompt())
    loop = speed_priors.KandinskyLoop(prior, text, empty)
    theirs = loop.pipeline(loop.prompts, guidance_scale=4.0, generator=torch.Generator().manual_seed(1)).image_embeds
    ours = prior.sample(text, torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)  # UnCLIPScheduler rounds in float32: test_schedule.py


@pytest.mark.slow
def test_constant_keys_and_values_are_two_and_a_half_times_as_fast() -> None:
    torch.set_num_threads(2)
    step, sample, _ = speed.diffusion_timings(CPU)
    assert step.ratio > 0.9 and sample.ratio > 2.5


@pytest.mark.processes
def test_remote(tmp_path: Path) -> None:
    rows = remote(tmp_path, shards=2, records=3, chunk=8, dim=4, batch_size=6, rate=1e6, latency=0.0)
    assert [(row.name, row.unit) for row in rows] == [("remote/cold", "MB/s"), ("remote/warm", "pairs/s")]
    assert all(row.ours > 0 and row.peer > 0 for row in rows) and rows[0].peer == 1


@pytest.mark.processes
def test_loader(tmp_path: Path) -> None:
    rows = loader(tmp_path, shards=2, records=3, chunk=8, dim=4, batch_size=6)
    assert [(row.name, row.unit) for row in rows] == [
        ("loader", "pairs/s"),
        ("loader/bytes", "MB/s"),
        ("loader/bytes/one-buffer", "MB/s"),
    ]
    assert all(np.isfinite([row.ours, row.peer]).all() and row.ratio > 0 for row in rows)
    assert rows[0].ratio == pytest.approx(rows[1].ratio)


def test_shards_to_measure_with_are_real(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=2, records=3, chunk=8, dim=4)
    shards = ShardSet(tmp_path, check="sha256")
    assert len(shards) == 48 and shards.lengths(5).sum() == draw_lengths(8).sum()


@pytest.mark.processes
def test_embed(tmp_path: Path, clip_encoder: OpenClipEncoder) -> None:
    rows = embed(tmp_path, clip_encoder, pairs=5, batch_size=2)
    assert [(row.name, row.unit) for row in rows] == [("embed", "pairs/s"), ("embed/own-forward", "pairs/s")]
    assert all(row.ratio > 0 for row in rows) and rows[0].ours == rows[1].ours


def test_images_to_measure_with_have_captions_of_the_drawn_lengths(tmp_path: Path) -> None:
    import open_clip

    captions = write_images(tmp_path / "0000.tar", 40)
    ends = open_clip.get_tokenizer("ViT-L-14")(captions).argmax(1)
    assert torch.equal(ends + 1, draw_lengths(40))


def test_functions_take_turns_and_the_first_of_each_does_not_count() -> None:
    order: list[str] = []
    seconds = in_turns([lambda: order.append("ours"), lambda: order.append("peer")], CPU, repetitions=2)
    assert order == ["ours", "peer"] * 3 and len(seconds) == 2


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = {
        "step": lambda device: step("step/ViT-L-14", 8, device, captions=2, layers=1, heads=2, head_dim=4),
        "loader": lambda device: [Timing("loader", 7.0, 10.0, "pairs/s")],
    }
    monkeypatch.setattr(speed, "MEASUREMENTS", small)
    assert __main__.main(["speed", "--only", "loader,step", "--json", str(tmp_path / "speed.json"), "--device", "cpu"]) == 0
    rows = json.loads((tmp_path / "speed.json").read_text())
    assert [row["name"] for row in rows] == ["loader", "step/ViT-L-14", "step/ViT-L-14/padded-77"]
    assert rows[0].keys() == {"name", "ours", "peer", "ratio", "unit", "machine"}
    assert rows[0]["ratio"] == 0.7 and rows[0]["machine"]["torch"] == torch.__version__
    shown = capsys.readouterr().out
    assert "step/ViT-L-14/padded-77" in shown and "threads 1" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only", "step,lader"], "--only lader is not a measurement; choose among step, diffusion, loader, remote, embed"),
        (["--device", "tpu"], "device is 'tpu'; choose auto, cpu, cuda"),
        (["--json", "/nowhere/speed.json"], "there is no folder /nowhere"),
    ],
)
def test_bad_options(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["speed", *args]) == 2
    assert message in capsys.readouterr().err
