"""The speed command with small sizes: rows, units and peers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from eclipse_pl import __main__
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embedding import TextCondition
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.priors import DiffusionPrior, EclipsePrior, Prior, PriorNetwork
from eclipse_pl.speed import command as speed
from eclipse_pl.speed import priors as speed_priors
from eclipse_pl.speed.buckets import padding, padding_share
from eclipse_pl.speed.data import embed, loader, remote
from eclipse_pl.speed.fit import fit
from eclipse_pl.speed.flops import matmul_peak, step_flops
from eclipse_pl.speed.inputs import draw_lengths, random_space, random_text, write_images, write_shards
from eclipse_pl.speed.steps import padded_step, steps
from eclipse_pl.speed.table import detail, number
from eclipse_pl.speed.timing import Timing, in_turns, in_turns_where_memory_suffices

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


TINY = {"layers": 2, "heads": 2, "head_dim": 16}


def test_steps() -> None:
    rows = [*steps("step/tiny", 32, CPU, (4, 16), **TINY), *padded_step("step/tiny", 32, CPU, 16, **TINY)]
    assert [(row.name, row.unit) for row in rows] == [
        ("step/tiny/4", "ms"),
        ("step/tiny/16", "ms"),
        ("step/tiny/16/padded-77", "ms"),
    ]
    for row, captions in zip(rows, (4, 16, 16), strict=True):
        assert row.ratio and row.ours and row.note == ""
        assert row.figures["samples_per_second"] == pytest.approx(1e3 * captions / row.ours)
        tflop = row.figures["tflop_per_second"]
        assert row.figures["share_of_peak"] == pytest.approx(1e12 * tflop / matmul_peak(CPU))
        assert "peak_memory_gb" not in row.figures, "torch counts no memory of a CPU"


def test_a_size_for_which_memory_does_not_suffice_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import PriorTransformer

    forward = PriorTransformer.forward

    def limited(network: PriorTransformer, noise: torch.Tensor, *more: object) -> object:
        if len(noise) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GB")
        return forward(network, noise, *more)

    monkeypatch.setattr(PriorTransformer, "forward", limited)
    small, large = steps("step/tiny", 32, CPU, (4, 16), **TINY)
    assert small.peer and small.note == ""
    assert large.ours and large.peer is None and large.ratio is None
    assert detail(large).endswith("peer out of memory") and number(large.peer) == "-"


def test_a_batch_for_which_memory_does_not_suffice_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from eclipse_pl.speed import buckets as buckets_module
    from eclipse_pl.speed import steps as steps_module

    def limited(dim: int, lengths: torch.Tensor) -> TextCondition:
        if len(lengths) > 4 and dim > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GB")
        return random_text(dim, lengths)

    for module in (steps_module, buckets_module):
        monkeypatch.setattr(module, "random_text", limited)
    large, small = steps("step/tiny", 32, CPU, (16, 4), **TINY)
    assert small.peer and large.ours is None and large.peer is None
    assert large.note == "ours out of memory, peer out of memory"
    (row,) = padded_step("step/tiny", 32, CPU, 16, **TINY)
    assert row.name == "step/tiny/16/padded-77" and row.ours is None
    (row,) = padding("padding/tiny", 8, CPU, 32, num_layers=1, num_attention_heads=2, attention_head_dim=4)
    assert row.ours is None and row.note == "out of memory" and row.figures["share_of_padding"] > 0


def test_an_error_loses_no_row_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(options: speed.Options) -> Iterator[Timing]:
        yield Timing("second", 1.0, 2.0, "ms")
        raise torch.OutOfMemoryError("too large")

    for name, measure in {"sample": lambda options: [Timing("first", 1.0, 2.0, "ms")], "fit": fails}.items():
        monkeypatch.setitem(speed.MEASUREMENTS, name, measure)
    with pytest.raises(torch.OutOfMemoryError, match="too large"):
        speed.main(["--only", "sample,fit", "--device", "cpu", "--json", str(tmp_path / "speed.json")])
    assert [row["name"] for row in json.loads((tmp_path / "speed.json").read_text())] == ["first", "second"]
    printed = capsys.readouterr().out
    assert "first" in printed and "second" in printed


@pytest.mark.parametrize("option", ["--batches=7", "--steps=100", "--compile=default", "--spaces=ViT-L-14"])
def test_an_option_that_changes_no_measurement_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=rf"{option.partition('=')[0]} has no effect on loader, sample: leave it out, or add"):
        speed.main(["--only", "loader,sample", option])


def test_what_is_out_of_memory_takes_no_turn() -> None:
    order: list[str] = []

    def too_large() -> None:
        order.append("too large")
        raise torch.OutOfMemoryError

    assert in_turns_where_memory_suffices([too_large, lambda: order.append("fits")], CPU, repetitions=2)[0] is None
    assert order == ["too large", "fits", "fits", "fits", "fits"]
    assert in_turns_where_memory_suffices([too_large], CPU) == [None]


@pytest.mark.parametrize(("time", "layers"), [(True, 3), (False, 3), (False, 1)])
def test_flops_are_those_that_torch_counts(time: bool, layers: int) -> None:
    """Captions of one length, which no kernel pads; torch counts the products inside attention where it is made of them."""
    network = PriorNetwork(12, 20, 77, layers, 2, 8, time_embedding=time)
    lengths = torch.full((3,), 5)
    text = TextCondition(torch.randn(3, 12), torch.randn(15, 20), lengths)
    times = torch.tensor([1, 2, 3]) if time else None
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.randn(3, 12), text, times).sum().backward()
    assert step_flops(network, lengths) == counter.get_total_flops()


def test_a_step_of_eclipse_at_batch_1024_is_three_tflop() -> None:
    with torch.device("meta"):
        network = PriorNetwork(768, 768)
    assert step_flops(network, draw_lengths(1024)) == pytest.approx(3e12, rel=0.1)


@pytest.mark.processes
@pytest.mark.long
def test_fit_takes_turns_with_the_bare_loop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = fit("fit/tiny", 16, CPU, (4,), 16, num_layers=1, num_attention_heads=2, attention_head_dim=8)
    assert (row.name, row.unit) == ("fit/tiny/4", "samples/s") and row.ours and row.peer
    assert row.figures["minutes_of_61_million_samples"] == pytest.approx(61e6 / row.ours / 60)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_fit_is_at_most_five_percent_slower_than_the_bare_loop() -> None:
    """ECLIPSE's size, 200 steps."""
    torch.set_num_threads(2)
    (row,) = speed.fit_timings(speed.Options(CPU, steps=200))
    assert row.ratio is not None and row.ratio > 0.95, row


@pytest.mark.slow
def test_step_is_four_times_as_fast_as_diffusers() -> None:
    torch.set_num_threads(2)
    for row in speed.step_timings(speed.Options(CPU)):
        assert row.ratio is not None and row.ratio > (1 if row.name.endswith("padded-77") else 4), row


def test_padding() -> None:
    (row,) = padding("padding/tiny", 8, CPU, 32, num_layers=1, num_attention_heads=2, attention_head_dim=4)
    assert row.unit == "ms" and row.ours and row.peer
    assert 0 < row.figures["share_of_padding"] < 0.05
    one = [torch.tensor([9, 9])]  # of 64 rows in a bucket, 18 are tokens; each caption has three rows beside them
    assert padding_share(one, extra_tokens=3) == pytest.approx((64 - 18) / (64 + 6))


def test_one_pass() -> None:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}
    (row,) = speed_priors.one_pass("sample/tiny", 32, CPU, captions=4, **sizes)
    assert row.unit == "ms" and row.ratio and row.ours
    assert row.figures["samples_per_second"] == pytest.approx(1e3 / row.ours)


def test_captions_become_embeddings() -> None:
    (row,) = speed_priors.from_captions(
        "captions/tiny", CPU, captions=4, num_layers=1, num_attention_heads=2, attention_head_dim=8
    )
    assert row.unit == "ms" and row.ours > 0 and row.peer > 0


@pytest.mark.long
def test_diffusion() -> None:
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}
    kinds = [partial(kind, **sizes) for kind in (DiffusionPrior, EclipsePrior)]
    row = speed_priors.step_against("diffusion/step", *kinds, 32, CPU, captions=8)
    assert row.unit == "ms" and row.ours > 0
    rows = speed_priors.sampling("diffusion/sample", 32, CPU, captions=3, **sizes)
    assert [row.name for row in rows] == ["diffusion/sample", "diffusion/sample/kandinsky"]
    assert rows[0].ours == rows[1].ours and all(row.ratio > 0 for row in rows)


@pytest.mark.long
def test_each_objective_stands_beside_a_simpler_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made, training_step = [], speed_priors.training_step

    def noted(prior: Prior, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        made.append((type(prior).__name__, getattr(prior, "projection", ""), getattr(prior, "samples", 1)))
        return training_step(prior, loss)

    monkeypatch.setattr(speed_priors, "training_step", noted)
    rows = list(speed_priors.objectives("tiny", 32, CPU, 8, num_layers=1, num_attention_heads=2, attention_head_dim=16))
    assert [row.name for row in rows] == ["energy/step/tiny", "flow/step/tiny", "mean_flow/step/tiny"]
    assert all(row.unit == "ms" and row.ours > 0 and row.peer > 0 for row in rows)
    assert made[:2] == [("EclipsePrior", "energy", 2), ("EclipsePrior", "squared", 1)]
    assert [name for name, *_ in made[2:]] == ["FlowPrior", "DiffusionPrior", "MeanFlowPrior", "FlowPrior"]


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
    step, sample, _ = speed.diffusion_timings(speed.Options(CPU))
    assert step.ratio > 0.9 and sample.ratio > 2.5


@pytest.mark.processes
def test_remote(tmp_path: Path) -> None:
    rows = remote(tmp_path, shards=2, records=3, chunk=8, dim=4, batch_size=6, rate=1e6, latency=0.0)
    assert [(row.name, row.unit) for row in rows] == [("remote/cold", "MB/s"), ("remote/warm", "pairs/s")]
    assert all(row.ours > 0 and row.peer > 0 for row in rows) and rows[0].peer == 1


@pytest.mark.processes
def test_loader(tmp_path: Path) -> None:
    rows = loader(tmp_path, shards=2, records=3, chunk=8, dim=4, batch_size=6, device=torch.device("cpu"))
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
        "step": lambda options: steps("step/ViT-L-14", 8, options.device, options.batches, layers=1, heads=2, head_dim=4),
        "loader": lambda options: [Timing("loader", 7.0, 10.0, "pairs/s"), Timing("bound", 5.0, None, "pairs/s", note="why")],
    }
    monkeypatch.setattr(speed, "MEASUREMENTS", small)
    monkeypatch.setattr("eclipse_pl.speed.table.commit", lambda: "v0-1-gabc")
    monkeypatch.setenv("COLUMNS", "160")
    words = ["--only", "loader,step", "--json", str(tmp_path / "speed.json"), "--device", "cpu", "--batches", "2,3"]
    assert __main__.main(["speed", *words]) == 0
    rows = json.loads((tmp_path / "speed.json").read_text())
    assert [row["name"] for row in rows] == ["loader", "bound", "step/ViT-L-14/2", "step/ViT-L-14/3"]
    assert rows[0].keys() == {"name", "ours", "peer", "ratio", "unit", "figures", "note", "machine"}
    assert rows[1]["ratio"] is None and rows[1]["note"] == "why"
    assert rows[2]["figures"].keys() == {"samples_per_second", "tflop_per_second", "share_of_peak"}
    assert rows[0]["machine"]["commit"] == "v0-1-gabc"
    assert rows[0]["ratio"] == 0.7 and rows[0]["machine"]["torch"] == torch.__version__
    shown = capsys.readouterr().out
    assert "step/ViT-L-14/3" in shown and "threads 1" in shown and "of peak" in shown and "v0-1-gabc" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--only", "step,lader"],
            "--only lader is not a measurement; choose among step, compiled, padding, fit, sample, captions, diffusion",
        ),
        (["--batches", "256,many"], "--batches 256,many is no list of batch sizes. Give numbers from 1, such as 256,1024"),
        (["--batches", "0"], "--batches 0 is no list"),
        (["--spaces", "ViT-L-14,world"], "--spaces world is not one of ViT-L-14, ViT-bigG-14"),
        (["--steps", "3"], "--steps is 3; fit is measured over 8 steps or more"),
        (["--device", "tpu"], "device is 'tpu'; choose auto, cpu, cuda"),
        (["--json", "/nowhere/speed.json"], "there is no folder /nowhere"),
        (["--json", "/"], "--json / is a folder. Name a file in it, such as /speed.json"),
        (["--json=~/nowhere/speed.json"], "there is no folder /home/of/somebody/nowhere"),
    ],
)
def test_bad_options(
    args: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert __main__.main(["speed", *args]) == 2
    assert message in capsys.readouterr().err


def test_compiled_needs_a_compiler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    gpu = speed.Options(torch.device("cuda"))
    with pytest.raises(ValueError, match=r"^compiled needs Triton on a GPU.* or leave compiled out of --only"):
        speed.measurements_of(gpu, ["step", "compiled"])
    assert speed.measurements_of(gpu, ["step"]) == ["step"]
    assert speed.measurements_of(gpu, None) == [name for name in speed.MEASUREMENTS if name != "compiled"]
    assert capsys.readouterr().out.startswith("compiled is left out: compiled needs Triton on a GPU")
    with pytest.raises(ValueError, match=r"^--compile needs Triton"):
        speed.measurements_of(speed.Options(torch.device("cuda"), compile="default"), ["fit"])


class Events:
    """CUDA events whose time is the number of calls made so far, in seconds."""

    calls = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = Events.calls

    def synchronize(self) -> None:
        """The device has nothing to do."""

    def elapsed_time(self, end: Events) -> float:
        return 1e3 * 0.01 * (end.at - self.at)


def test_turns_on_a_gpu_are_many_calls_between_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: 10 ms a call, so 20 calls are a turn of 0.2 seconds."""
    monkeypatch.setattr("torch.cuda.Event", Events)
    monkeypatch.setattr("torch.cuda.device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr("torch.cuda.synchronize", lambda *device: None)

    def call() -> None:
        Events.calls += 1

    assert in_turns([call], torch.device("cuda"), repetitions=3) == [pytest.approx(0.01)]
    assert Events.calls == 2 + 3 * 20


def test_a_gpu_without_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Tesla V100")
    with pytest.raises(ValueError, match="Tesla V100 has no bfloat16"):
        speed.require_bfloat16(torch.device("cuda"))
