"""The world's CLIP: trained through the front door, and the shipped weights against what was promised of them."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

import eclipse_pl.world
from data_prep.__main__ import main
from data_prep.world_models.clip import END, clip_config, normalised, retrieval, vocabulary
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.world.drawing import render
from eclipse_pl.world.splits import encoder_scenes, held_out_scenes

SHIPPED = Path(eclipse_pl.world.__file__).parent / "models" / "clip"


@pytest.fixture(scope="module")
def world() -> OpenClipEncoder:
    return OpenClipEncoder(f"local-dir:{SHIPPED}", None, device="cpu", name="world")


def test_three_steps_of_training_make_a_model_that_open_clip_loads(tmp_path: Path) -> None:
    options = ["--clip.steps", "3", "--clip.batch-size", "8", "--clip.test", "20"]
    assert main(["world-models", "--out", str(tmp_path), "--only", "clip", *options]) == 0
    encoder = OpenClipEncoder(f"local-dir:{tmp_path / 'clip'}", None, device="cpu", name="world")
    assert encoder.dim == encoder.text_width == 128
    assert encoder.encode_text(["a red circle"]).text_embed.isfinite().all()
    assert {path.name for path in (tmp_path / "clip").iterdir()} == {path.name for path in SHIPPED.iterdir()}
    assert "--only clip --clip.steps 3 --clip.batch-size 8" in (tmp_path / "clip" / "README.md").read_text()
    config = json.loads((tmp_path / "clip" / "open_clip_config.json").read_text())
    assert config == json.loads((SHIPPED / "open_clip_config.json").read_text())
    assert (tmp_path / "clip" / "tokenizer.json").read_bytes() == (SHIPPED / "tokenizer.json").read_bytes()


@pytest.mark.long
def test_shipped_model_finds_its_images(world: OpenClipEncoder) -> None:
    pairs = list(held_out_scenes("test", 1000))
    assert len({pair.caption for pair in pairs}) == 1000
    to_image, to_text = retrieval(world, pairs)
    assert to_image >= 0.80 and to_text >= 0.80


def test_shipped_model_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 4_000_000


@pytest.mark.long
def test_shipped_model_binds_attributes(world: OpenClipEncoder) -> None:
    """A caption is nearer to its image than to the one with two attributes swapped, clearly more often than by chance."""
    pairs = [pair for pair in held_out_scenes("test", 300) if pair.negative]
    text = world.encode_text([pair.caption for pair in pairs]).text_embed
    own, swapped = (
        world.encode_images(normalised(scenes)) for scenes in zip(*((p.scene, p.negative) for p in pairs), strict=True)
    )
    similar = torch.nn.functional.cosine_similarity
    assert (similar(text, own) > similar(text, swapped)).float().mean() > 0.7


def test_training_pixels_are_those_of_the_image_transform(world: OpenClipEncoder) -> None:
    scene = next(encoder_scenes()).scene
    torch.testing.assert_close(normalised([scene])[0], world.image_transform(render(scene)))


def test_the_tokenizer_knows_every_caption_and_survives_any_other(world: OpenClipEncoder) -> None:
    words = vocabulary()
    assert words[-1] == END and len(words) == clip_config(len(words))["model_cfg"]["text_cfg"]["vocab_size"]
    captions = [pair.caption for pair in islice(encoder_scenes(), 600)]
    tokens = world.tokenize(captions)
    assert not (tokens.ids == words.index("<unk>")).any() and not tokens.cut.any()
    assert tokens.lengths.tolist() == [len(caption.replace(",", " ,").split()) + 2 for caption in captions]
    odd = world.tokenize(["A RED Circle", "a red circle", "a shiny elephant", "", "red " * 30, "red " * 31, "<end> red"])
    assert torch.equal(odd.ids[0], odd.ids[1])
    assert odd.ids[2, :5].tolist() == [words.index(word) for word in ("<start>", "a", "<unk>", "<unk>", END)]
    assert odd.lengths.tolist()[:6] == [5, 5, 5, 2, 32, 32]
    assert odd.cut.tolist()[:6] == [False, False, False, False, False, True]
    assert (odd.ids[:6].max(1).values == len(words) - 1).all()
