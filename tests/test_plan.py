"""``python -m data_prep plan``: bytes against real shards, hours against figures, its commands, and what a mistake gets."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data_prep import plan
from data_prep.__main__ import main
from data_prep.quantities import in_bytes, in_hours, per_second
from data_prep.shard_bytes import ShardBytes
from eclipse_pl.data.chunk import Chunk
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.speed import shallow
from eclipse_pl.speed.inputs import draw_lengths, mean_length
from eclipse_pl.speed.rates import Rates
from eclipse_pl.speed.shallow import ShallowEncoder
from tests.test_readme import ROOT, read_arguments, reader  # noqa: F401 (a fixture)

RATES = Rates("ViT-L-14", "bfloat16", 12.0, 1e-3, 1e-4, 2e-3, 5e-5, 1e-5, {"gpu": "H100", "cores": 16})


@pytest.fixture
def figures(tmp_path: Path) -> str:
    RATES.save(tmp_path / "figures.json")
    return str(tmp_path / "figures.json")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["plan", *words]) == 0
    return capsys.readouterr().out


def written(folder: Path, lengths: np.ndarray, dim: int, width: int) -> int:
    """Bytes of a shard with captions of these lengths."""
    rng, pairs = np.random.default_rng(0), len(lengths)
    with ShardWriter(folder / "0000.tar") as writer:
        for start in range(0, pairs, 1024):
            part = lengths[start : start + 1024]
            chunk = Chunk(
                image_embed=rng.normal(size=(len(part), dim)),
                text_embed=rng.normal(size=(len(part), dim)),
                text_states=rng.normal(size=(int(part.sum()), width)),
                lengths=part,
                captions=["word " * int(max(length - 2, 0)) for length in part],
                keys=[f"{number:09d}" for number in range(start, start + len(part))],
            )
            writer.write(chunk, "train")
        return writer.close().bytes


@pytest.mark.parametrize(("dim", "width"), [(256, 256), (128, 64)])
def test_bytes_are_those_of_shards(tmp_path: Path, dim: int, width: int) -> None:
    lengths = draw_lengths(2500).numpy()
    sizes = ShardBytes(dim, width, float(lengths.mean()))
    assert sizes.of_set(2500, "states, float16") == pytest.approx(written(tmp_path, lengths, dim, width), rel=0.01)
    pooled = written(tmp_path, np.zeros_like(lengths), dim, width)
    assert ShardBytes(dim, width, 0).of_set(2500, "pooled only") == pytest.approx(pooled, rel=0.03)


def test_int8_and_token_ids_take_less() -> None:
    sizes = ShardBytes(768, 768, 13.5)
    states, int8, ids, pooled = (sizes.of_set(102_400, stored) for stored in plan.STORED)
    tokens = 102_400 * 13.5
    assert states - pooled == pytest.approx(tokens * 768 * 2, rel=0.001)
    assert int8 - pooled == pytest.approx(tokens * (768 + 2), rel=0.001)
    assert ids - pooled == pytest.approx(tokens * 4, rel=0.02)


def test_hours_are_those_of_the_figures(figures: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--pairs", "12e6", "--encoder", "ViT-L-14", "--figures", figures)
    rows = {line[2:22].strip(): line[22:].split() for line in text.splitlines() if line[2:22].strip() in plan.STORED}
    steps = plan.STEPS * plan.BATCH
    assert rows["states, float16"][4:6] == ["10", "min"] and rows["states, float16"][6:] == [
        f"{5e-5 * steps / 60:.2g}",
        "min",
    ]
    assert rows["states, int8"][4:] == rows["states, float16"][4:]
    assert rows["token ids"][4:6] == ["30", "min"] and rows["pooled only"][4:6] == ["2", "min"]
    assert rows["states, float16"][:2] == [f"{ShardBytes(768, 768, 12).of_set(12_000_000, 'states, float16') / 1e9:.3g}", "GB"]
    assert "In 1,200 shards" in text and "training takes 3.0 times as long" in text
    assert f"Embedding: {12e6 * 1.1e-3 / 3600:.1f} h on one device, 909 pairs/s, limited by the encoder" in text
    assert "500 images/s in each of 2 processes" in text and "Measured on another machine" in text


def test_where_decoding_is_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Rates(**{**asdict(RATES), "machine": {"gpu": "H100", "cores": 1}}).save(tmp_path / "f.json")
    text = printed(capsys, "--pairs", "3600", "--encoder", "ViT-L-14", "--figures", str(tmp_path / "f.json"))
    assert "500 pairs/s, limited by decoding" in text and "--workers 1 " in text


@pytest.mark.long
@pytest.mark.parametrize("encoder", ["ViT-L-14", "ViT-H-14", "ViT-bigG-14", "ViT-B-32", "local"])
def test_its_commands_are_understood(
    encoder: str,
    tmp_path: Path,
    clip_folder: Path,
    reader,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    encoder = f"local-dir:{clip_folder}" if encoder == "local" else encoder
    Rates(**{**asdict(RATES), "encoder": encoder}).save(tmp_path / "f.json")
    text = printed(capsys, "--pairs", "12e6", "--encoder", encoder, "--figures", str(tmp_path / "f.json"))
    commands = [shlex.split(line) for line in text.splitlines() if line.startswith("  python -m ")]
    assert [words[3] for words in commands] == ["embed", "verify", "fit"]
    for words in commands:
        read_arguments(words[2], words[3:], reader, monkeypatch)
        monkeypatch.undo()
        monkeypatch.chdir(ROOT)
    decoded = {
        "ViT-L-14": ("openai", "karlo"),
        "ViT-H-14": ("laion2b_s32b_b79k", "h14"),
        "ViT-bigG-14": ("laion2b_s39b_b160k", "kandinsky"),
    }
    known = decoded.get(encoder)
    assert ("no_images" in text) == (known is None)
    if known:
        assert f"--encoder.pretrained {known[0]} --encoder.precision bfloat16" in text
        assert f"--out data/{known[1]}" in text and f"experiments/eclipse_{known[1]}.yaml" in text


def test_steps_and_batch_are_those_of_the_experiments() -> None:
    trainer = yaml.safe_load((ROOT / "experiments/parts/trainer/four_gpus.yaml").read_text())
    assert trainer["max_steps"] == plan.STEPS
    for name in plan.EXPERIMENTS.values():
        data = yaml.safe_load((ROOT / f"experiments/parts/data/{name}.yaml").read_text())["init_args"]
        assert data["batch_size"] == plan.BATCH


@pytest.mark.long
def test_it_measures_here(clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--pairs", "1000", "--encoder", f"local-dir:{clip_folder}", "--tokens", "9", "--device", "cpu"]
    text = printed(capsys, *words, "--json", str(tmp_path / "f.json"))
    rates = json.loads((tmp_path / "f.json").read_text())
    assert "Measured here" in text and "E 16, W 32" in text and "9.0 tokens a caption" in text
    assert all(0 < rates[name] < 10 for name in ("image", "caption", "decoding", "training", "training_pooled"))
    assert rates["training_pooled"] < rates["training"] and rates["machine"]["torch"] == torch.__version__


def test_a_deep_tower_is_measured_with_few_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = ShallowEncoder("ViT-S-32-alt")
    assert len(clip.model.visual.transformer.resblocks) == len(clip.tower.transformer.resblocks) == shallow.MORE
    depths = []

    def in_turns(functions: list, device: torch.device, repetitions: int) -> list[float]:
        for function in functions:
            function()
            depths.append((len(clip.model.visual.transformer.resblocks), len(clip.tower.transformer.resblocks)))
        return [5.0, 9.0]  # 2 more a layer, and 3 for what is no layer

    monkeypatch.setattr(shallow, "in_turns", in_turns)
    assert clip.image_seconds(2) * 2 == 3 + 12 * 2
    assert clip.caption_seconds(torch.tensor([3, 9])) * 2 == 3 + 10 * 2
    assert depths == [(1, 3), (3, 3), (3, 1), (3, 3)]


def test_a_shallow_encoder_computes_what_the_encoder_computes(clip_folder: Path, clip_encoder: OpenClipEncoder) -> None:
    clip = ShallowEncoder(f"local-dir:{clip_folder}")
    clip.tower.transformer.resblocks = clip.tower.transformer.resblocks[:2]
    clip.model.load_state_dict(clip_encoder.model.state_dict())
    tokens = clip_encoder.tokenize(["a red circle", "two blue squares and a star"])
    ours, theirs = clip.encode_tokens(tokens), clip_encoder.encode_tokens(tokens)
    torch.testing.assert_close(ours.text_states, theirs.text_states)
    torch.testing.assert_close(ours.text_embed, theirs.text_embed)
    assert (clip.dim, clip.text_width, clip.context_length) == (16, 32, 77)


def test_mean_length_is_mscocos() -> None:
    assert mean_length() == pytest.approx(13.53, abs=0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--encoder", "ViT-L-15"], "open_clip has no model 'ViT-L-15'. Did you mean ViT-L-1"),
        (["--encoder", "ViT-B-16-SigLIP"], "The text tower of ViT-B-16-SigLIP is not causal"),
        (["--encoder", "coca_ViT-B-32"], "The text tower of coca_ViT-B-32 is not causal"),
        (["--encoder", "ViT-L-14", "--pretrained", "opnai"], "Did you mean openai"),
        (["--encoder", "ViT-S-32"], "open_clip has no weights for ViT-S-32"),
        (["--encoder", "local-dir:/no/such"], "There is no /no/such/open_clip_config.json"),
        (["--encoder", "ViT-L-14", "--tokens", "78"], "a caption of ViT-L-14 has 2 to 77 tokens"),
        (["--encoder", "ViT-L-14", "--pairs", "0"], "--pairs is 0"),
        (["--encoder", "ViT-L-14", "--device", "tpu"], "device is 'tpu'"),
        (
            ["--encoder", "local-dir:{clip}", "--pretrained", "openai"],
            "holds its weights, so pretrained='openai' has no effect",
        ),
        (["--encoder", "ViT-L-14", "--device", "cpu", "--figures", "{figures}"], "--device cpu has no effect with --figures"),
        (["--encoder", "ViT-L-14", "--json", "/no/such/f.json"], "there is no folder /no/such"),
        (["--encoder", "ViT-L-14", "--figures", "/no/such.json"], "/no/such.json is no file of figures"),
        (["--encoder", "ViT-H-14", "--figures", "{figures}"], "has figures for --encoder ViT-L-14, not ViT-H-14"),
        (["--encoder", "ViT-L-14", "--tokens", "13", "--figures", "{figures}"], "has figures for --tokens 12.0, not 13.0"),
        (["--encoder", "ViT-L-14", "--figures", "{speed}"], "is no file of figures"),
    ],
)
def test_mistakes(
    words: list[str], message: str, figures: str, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "speed.json").write_text('[{"name": "step/ViT-L-14", "ours": 3}]')
    words = [word.format(figures=figures, clip=clip_folder, speed=tmp_path / "speed.json") for word in words]
    assert main(["plan", *(words if "--pairs" in words else ["--pairs", "1e6", *words])]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (23_900, "23.9 kB"), (287e9, "287 GB"), (999.6e9, "1,000 GB"), (1.2e12, "1.2 TB")]
)
def test_bytes_in_words(count: float, text: str) -> None:
    assert in_bytes(count) == text


def test_rates_in_words() -> None:
    assert [per_second(seconds) for seconds in (38.4, 0.31, 1.1e-3, 5e-5)] == ["0.026", "3.23", "909", "20,000"]


def test_hours_in_words() -> None:
    assert [in_hours(seconds) for seconds in (30, 1800, 36_000, 3.6e6)] == ["0.5 min", "30 min", "10.0 h", "1,000 h"]
    assert re.fullmatch(r"\d+ h", in_hours(3.6e5))
