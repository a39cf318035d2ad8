"""Teacher shards: a prior's samples as a set of shards, through the command, the reader, `verify` and a training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.__main__ import main
from eclipse_pl.cli import main as cli
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.embed import teacher_shards as writing
from eclipse_pl.embed.teacher import noise_of
from eclipse_pl.loading import load_prior
from eclipse_pl.priors import DiffusionPrior, EclipsePrior
from eclipse_pl.priors.baselines import TextAsImagePrior
from eclipse_pl.world.encoder import WorldEncoder
from tests.helpers.compared_runs import compare
from tests.helpers.released_folders import TINY, write_pipeline
from tests.helpers.runs import write_experiment
from tests.helpers.saved_runs import make_run
from tests.helpers.shard_sets import make_shard_set
from tests.helpers.tiny_open_clip import write_open_clip

pytestmark = pytest.mark.long

SIZES = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
COLOURS, SHAPES = ("red", "green", "blue", "white", "pink"), ("circle", "square", "star", "heart")
CAPTIONS = [f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES]


@pytest.fixture(scope="module")
def encoder() -> WorldEncoder:
    return WorldEncoder(device="cpu")


@pytest.fixture(scope="module")
def priors(encoder: WorldEncoder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of runs with random weights in the world's space."""
    folder = tmp_path_factory.mktemp("priors")
    space = encoder.space(torch.zeros(encoder.dim), torch.ones(encoder.dim))
    made = {
        "diffusion": make_run(folder / "diffusion", DiffusionPrior, space, **SIZES, steps=2, guidance_scale=2.0),
        "eclipse": make_run(folder / "eclipse", EclipsePrior, space, **SIZES),
        "zero": make_run(folder / "zero", EclipsePrior, space, **SIZES, noise="zero"),
        "text": make_run(folder / "text", TextAsImagePrior, space),
    }
    return {name: str(run) for name, run in made.items()}


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command, expect one line and exit code 2, return the line."""

    def run(*args: str) -> str:
        capsys.readouterr()
        assert main(["distill", *args]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ") and told.count("\n") == 1, told
        return told

    return run


def write_captions(folder: Path, captions: list[str] = CAPTIONS) -> str:
    path = folder / "captions.txt"
    path.write_text("\n".join(captions) + "\n")
    return str(path)


def distill(out: Path, prior: str, captions: str, *args: str) -> ShardSet:
    assert main(["distill", "--prior", prior, "--captions", captions, "--out", str(out), "--device", "cpu", *args]) == 0
    return ShardSet(out, check="sha256")


def read(shards: ShardSet) -> dict[tuple[str, int], dict[str, Any]]:
    """{(caption, number of the sample): the pair}"""
    pairs = {}
    for record, entry in enumerate(shards.entries):
        chunk = shards.read_chunk(record)
        states = np.split(chunk.text_states, np.cumsum(chunk.lengths)[:-1])
        for row, caption in enumerate(chunk.captions):
            assert chunk.group is not None
            number = int(chunk.keys[row].rpartition("_")[2])
            pairs[caption, number] = {
                "split": entry.split,
                "key": chunk.keys[row],
                "image": chunk.image_embed[row],
                "text": chunk.text_embed[row],
                "states": states[row],
                "group": int(chunk.group[row]),
            }
    return pairs


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "embed.lock"}


def test_samples_are_those_of_the_prior_for_one_caption_alone(
    tmp_path: Path, priors: dict[str, str], encoder: WorldEncoder
) -> None:
    args = ["--samples", "3", "--seed", "5", "--val", "0.2", "--chunk", "8", "--shard-pairs", "24"]
    shards = distill(tmp_path / "set", priors["diffusion"], write_captions(tmp_path), *args)
    pairs = read(shards)
    assert set(pairs) == {(caption, number) for caption in CAPTIONS for number in range(3)}
    assert [len(shard.records) > 0 and shard.pairs for shard in shards.manifest.shards] == [24, 24, 12]
    prior = load_prior(priors["diffusion"])
    for caption in CAPTIONS[::7]:
        text = encoder([caption])
        for number in range(3):
            pair = pairs[caption, number]
            alone = prior.sample(text, [noise_of(caption, number, 5)])[0]
            np.testing.assert_allclose(pair["image"], alone.half().numpy(), rtol=2e-3, atol=2e-3)
            np.testing.assert_allclose(pair["text"], text.text_embed[0].numpy(), rtol=2e-3, atol=2e-3)
            np.testing.assert_allclose(pair["states"], text.text_states.numpy(), rtol=2e-3, atol=2e-3)
            assert pair["key"] == f"{CAPTIONS.index(caption)}_{number}"
    for caption in CAPTIONS:
        several = [pairs[caption, number] for number in range(3)]
        assert len({pair["split"] for pair in several}) == 1
        assert len({pair["group"] for pair in several}) == len({pair["image"].tobytes() for pair in several}) == 3
    assert 0 < shards.manifest.splits["val"] < 30


def test_the_noise_is_a_function_of_seed_caption_and_number() -> None:
    def drawn(*place: Any) -> float:
        return float(torch.randn((), generator=noise_of(*place)))

    assert drawn("a red star", 0, 0) == drawn(" A red  STAR", 0, 0)
    assert len({drawn(caption, number, seed) for caption in ("a", "b") for number in (0, 1) for seed in (0, 1)}) == 8


def test_neither_order_nor_other_captions_nor_batches_change_a_sample(tmp_path: Path, priors: dict[str, str]) -> None:
    kept = read(distill(tmp_path / "one", priors["diffusion"], write_captions(tmp_path), "--val", "0.2", "--samples", "2"))
    fewer = write_captions(tmp_path, CAPTIONS[:4:-1])
    args = ["--val", "0.2", "--samples", "2", "--batch-size", "3", "--shard-pairs", "7"]
    other = read(distill(tmp_path / "other", priors["diffusion"], fewer, *args))
    assert len(other) == 30
    for place, pair in other.items():
        np.testing.assert_allclose(pair["image"], kept[place]["image"], rtol=2e-3, atol=2e-3)
        assert pair["split"] == kept[place]["split"]


@pytest.mark.parametrize("whole", [0, 2])
def test_a_killed_run_resumes_to_the_same_bytes(
    tmp_path: Path, priors: dict[str, str], monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    captions = write_captions(tmp_path)
    args = ["--samples", "2", "--shard-pairs", "10", "--val", "0.2"]
    distill(tmp_path / "set", priors["diffusion"], captions, *args)
    expected = contents(tmp_path / "set")
    for path in (tmp_path / "set").iterdir():
        path.unlink()
    write, begun = writing._write_shard, []

    def killed(path: Path, *rest: Any) -> Any:
        begun.append(path.name)
        if len(begun) == whole + 1:
            path.with_name(path.name + ".partial").write_bytes(b"half")
            raise KeyboardInterrupt
        return write(path, *rest)

    monkeypatch.setattr(writing, "_write_shard", killed)
    command = ["distill", "--prior", priors["diffusion"], "--captions", captions, "--out", str(tmp_path / "set")]
    assert main([*command, "--device", "cpu", *args]) == 130
    assert len(list((tmp_path / "set").glob("*.tar"))) == whole and not (tmp_path / "set" / "manifest.json").exists()
    begun.clear()
    begun += ["never", "killed", "again"]
    distill(tmp_path / "set", priors["diffusion"], captions, *args)
    assert begun[3:] == [f"000{number}.tar" for number in range(whole, 4)]
    assert contents(tmp_path / "set") == expected


def test_a_damaged_shard_is_repaired_and_nothing_else_is_sampled(
    tmp_path: Path, priors: dict[str, str], error: Callable[..., str]
) -> None:
    captions = write_captions(tmp_path)
    distill(tmp_path / "set", priors["eclipse"], captions, "--shard-pairs", "5")
    expected = contents(tmp_path / "set")
    (tmp_path / "set" / "0001.tar").write_bytes(b"damaged")
    distill(tmp_path / "set", priors["eclipse"], captions, "--shard-pairs", "5")
    assert contents(tmp_path / "set") == expected
    command = ["--captions", captions, "--out", str(tmp_path / "set"), "--shard-pairs", "5", "--device", "cpu"]
    assert "seed: 0 there, 1 now" in error("--prior", priors["eclipse"], "--seed", "1", *command)
    assert "teacher_weights: " in error("--prior", priors["diffusion"], *command)
    half = ["--encoder", "eclipse_pl.world.encoder.WorldEncoder", "--encoder.device", "cpu", "--encoder.precision", "bfloat16"]
    assert "precision: float32 there, bfloat16 now" in error("--prior", priors["eclipse"], *half, *command)
    assert contents(tmp_path / "set") == expected


def test_shards_of_equal_weights_and_another_sampler_are_refused(
    tmp_path: Path, encoder: WorldEncoder, error: Callable[..., str]
) -> None:
    captions, space = write_captions(tmp_path), encoder.space(torch.zeros(encoder.dim), torch.ones(encoder.dim))
    one, other = tmp_path / "linspace", tmp_path / "trailing"
    for run in (one, other):
        torch.manual_seed(0)
        make_run(run, DiffusionPrior, space, **SIZES, steps=2, spacing=run.name)
    distill(tmp_path / "set", str(one), captions)
    command = ["--captions", captions, "--out", str(tmp_path / "set"), "--device", "cpu"]
    assert "(prior_options.spacing: linspace there, trailing now)" in error("--prior", str(other), *command)
    settings = tmp_path / "set" / "embed.json"
    old = {name: value for name, value in json.loads(settings.read_text()).items() if name != "prior_options"}
    settings.write_text(json.dumps(old))
    distill(tmp_path / "set", str(other), captions)  # a set of an earlier version, which does not name them


def test_captions_that_cannot_be_used_are_counted(tmp_path: Path, priors: dict[str, str]) -> None:
    rows = ["a red circle", None, "  ", "a\0b", "A  red circle", "a blue star"]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    args = ["--names.caption", "text", "--val", "0", "--test", "0"]
    shards = distill(tmp_path / "set", priors["eclipse"], str(tmp_path / "captions.jsonl"), *args)
    assert set(read(shards)) == {("a red circle", 0), ("a blue star", 0)}
    (shard,) = shards.manifest.shards
    assert [pair.key for pair in shard.skipped] == ["1", "2", "3", "4"]
    reasons = [pair.reason for pair in shard.skipped]
    assert reasons[:2] == ["no caption"] * 2 and "NUL" in reasons[2] and "occurs before" in reasons[3]


def test_samples_that_are_not_finite_are_skipped(
    tmp_path: Path, priors: dict[str, str], monkeypatch: pytest.MonkeyPatch, error: Callable[..., str]
) -> None:
    sample = EclipsePrior.sample

    def broken(self: EclipsePrior, *args: Any) -> torch.Tensor:
        embed = sample(self, *args)
        embed[0, 0], embed[1, 1], embed[2] = np.nan, 1e6, 0
        return embed if limit else torch.full_like(embed, np.nan)

    monkeypatch.setattr(EclipsePrior, "sample", broken)
    limit = True
    captions = write_captions(tmp_path)
    shards = distill(tmp_path / "set", priors["eclipse"], captions)
    assert len(shards) == 17
    assert {pair.key: pair.reason.partition(",")[0] for pair in shards.manifest.shards[0].skipped} == {
        "0_0": "its embedding is not finite in float16",
        "1_0": "its embedding is not finite in float16",
        "2_0": "its embedding is zero",
    }
    limit = False
    told = error("--prior", priors["eclipse"], "--captions", captions, "--out", f"{tmp_path}/none", "--device", "cpu")
    assert "no pair that could be embedded (20: its embedding is not finite" in told


def test_steps_and_guidance_are_those_of_the_prior_or_of_the_command(
    tmp_path: Path, priors: dict[str, str], encoder: WorldEncoder, error: Callable[..., str]
) -> None:
    captions = write_captions(tmp_path, CAPTIONS[:3])
    sampler = "DiffusionPrior, steps 2, guidance_scale 2, eta 1"
    own = distill(tmp_path / "own", priors["diffusion"], captions)
    assert own.manifest.images["sampler"] == sampler and own.manifest.images["teacher"] == priors["diffusion"]
    other = distill(tmp_path / "other", priors["diffusion"], captions, "--guidance-scale", "1", "--steps", "3")
    assert other.manifest.images["sampler"] == "DiffusionPrior, steps 3, guidance_scale 1, eta 1"
    prior = load_prior(priors["diffusion"])
    assert isinstance(prior, DiffusionPrior)
    prior.sample_with(steps=3, guidance_scale=1.0)
    alone = prior.sample(encoder([CAPTIONS[0]]), [noise_of(CAPTIONS[0], 0, 0)])[0].half().numpy()
    np.testing.assert_allclose(read(other)[CAPTIONS[0], 0]["image"], alone, rtol=2e-3, atol=2e-3)
    assert np.abs(read(own)[CAPTIONS[0], 0]["image"] - alone).max() > 0.1
    command = ["--captions", captions, "--out", f"{tmp_path}/none", "--device", "cpu"]
    said = error("--prior", priors["eclipse"], "--steps", "3", *command)
    assert "--steps is an option of a DiffusionPrior or FlowPrior" in said
    assert "steps is 0; it must be a whole number from 1 to" in error("--prior", priors["diffusion"], "--steps", "0", *command)


@pytest.mark.parametrize("prior", ["zero", "text"])
def test_a_deterministic_prior_has_one_sample(
    tmp_path: Path, priors: dict[str, str], error: Callable[..., str], prior: str
) -> None:
    captions = write_captions(tmp_path, CAPTIONS[:3])
    command = ["--prior", priors[prior], "--captions", captions, "--out", f"{tmp_path}/set", "--device", "cpu"]
    assert "gives a caption one embedding" in error(*command, "--samples", "2")
    assert len(distill(tmp_path / "set", priors[prior], captions)) == 3


def test_what_a_user_gets_wrong_is_one_sentence(tmp_path: Path, priors: dict[str, str], error: Callable[..., str]) -> None:
    captions = write_captions(tmp_path)
    usual = {"prior": priors["eclipse"], "captions": captions, "out": f"{tmp_path}/set", "device": "cpu"}

    def told(**changed: str) -> str:
        return error(*(word for name, value in {**usual, **changed}.items() for word in (f"--{name}", value)))

    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    (tmp_path / "model" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    assert "There is no" in told(captions=f"{tmp_path}/none.txt")
    assert "empty.txt holds no caption" in told(captions=f"{tmp_path}/empty.txt")
    assert "blank.txt holds no caption (no caption)" in told(captions=f"{tmp_path}/blank.txt")
    assert "holds a UNet2DConditionModel, not a PriorTransformer" in told(prior=f"{tmp_path}/model")
    assert "samples must be at least 1, got 0" in told(samples="0")
    assert "batch_size must be at least 1, got 0" in told(batch_size="0")
    assert "chunk must be at least 1, got 0" in told(chunk="0")
    assert "are fractions of the captions" in told(val="0.7", test="0.7")
    assert not (tmp_path / "set").exists()


def test_too_little_memory_is_one_sentence(
    tmp_path: Path, priors: dict[str, str], error: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(EclipsePrior, "sample", full)
    command = ["--captions", write_captions(tmp_path), "--out", f"{tmp_path}/set", "--device", "cpu"]
    told = error("--prior", priors["eclipse"], *command)
    assert "Memory ran out while 0000.tar was sampled (CUDA out of memory" in told and "Lower --batch-size" in told
    assert not list((tmp_path / "set").glob("*.tar*"))


def test_a_released_prior_and_the_captions_of_a_set_of_shards(tmp_path: Path) -> None:
    """diffusers' format with an open_clip model beside it; only training captions are taken."""
    clip = write_open_clip(tmp_path / "clip", text_cfg={"width": TINY["embedding_dim"]})
    pipeline = write_pipeline(tmp_path / "released", **TINY)
    make_shard_set(tmp_path / "shards", splits={"train": 10, "val": 5})
    encoder = ["--encoder", "eclipse_pl.encoders.openclip.OpenClipEncoder", "--encoder.pretrained", "null"]
    args = [*encoder, f"--encoder.model=local-dir:{clip}", "--encoder.device", "cpu", "--steps", "2"]
    shards = distill(tmp_path / "set", str(pipeline), str(tmp_path / "shards"), *args, "--samples", "2")
    assert {caption for caption, _ in read(shards)} == {f"caption number {number}" for number in range(10)}
    assert shards.manifest.images["sampler"] == "DiffusionPrior, steps 2, guidance_scale 4, eta 1"
    assert shards.space.dim == 16 and shards.space.empty_embed is not None
    train = [pair["image"] for pair in read(shards).values() if pair["split"] == "train"]
    np.testing.assert_allclose(shards.space.image_mean, np.stack(train).astype(np.float64).mean(0), atol=1e-4)


@pytest.mark.processes
def test_verify_reads_it_and_a_prior_trains_on_it(
    tmp_path: Path, priors: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["--samples", "4", "--val", "0.2", "--test", "0.2"]
    distill(tmp_path / "set", priors["diffusion"], write_captions(tmp_path), *args)
    assert main(["verify", str(tmp_path / "set")]) == 0
    assert "samples of a prior: " in capsys.readouterr().out
    experiment = write_experiment(tmp_path, data__init_args__folder=str(tmp_path / "set"), trainer__max_steps=4)
    cli(["fit", "--config", str(experiment)])
    run = tmp_path / "runs" / "tiny" / "version_0"
    (known,) = json.loads((run / "training_data.json").read_text())
    assert known["sha256"] == Manifest.load(tmp_path / "set").digest
    assert known["teacher"] == f"{priors['diffusion']} (DiffusionPrior, steps 2, guidance_scale 2, eta 1)"
    assert load_prior(str(run)).space.identity == load_prior(priors["diffusion"]).space.identity
    compare(run)
    told = Path("compare/page.html").read_text()
    assert "1 of 1 runs were trained on the samples of" in told and "and not on embeddings of images" in told
