"""What only a CUDA device can show of encoders, decoders and scorers: `make gpu` runs these on the world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from eclipse_pl.scorers.clip_score import ClipScorer
from eclipse_pl.scorers.clip_towers import OpenClip
from eclipse_pl.world.decoder import WorldDecoder
from eclipse_pl.world.drawing import render
from eclipse_pl.world.encoder import FOLDER, WorldEncoder
from eclipse_pl.world.features import WorldFeatures
from eclipse_pl.world.oracle import OracleScorer
from eclipse_pl.world.pairs import write_pairs
from eclipse_pl.world.prompts import prompt_scenes, prompt_set
from tests.helpers.card import assert_near, card
from tests.helpers.raw_sets import embed, read_all

pytestmark = pytest.mark.gpu


@pytest.fixture
def device() -> torch.device:
    return card()


def images(count: int) -> list[Image.Image]:
    return [render(scene) for scene in prompt_scenes("complex", "seen", count)]


def test_embed_writes_the_shards_of_the_cpu(tmp_path: Path, device: torch.device) -> None:
    """To half precision, in which shards are stored: 2e-3 of the norm of every embedding."""
    tars = [str(path) for path in write_pairs(tmp_path / "raw", train=20, val=4, test=4, progress=False)]
    pairs: dict[str, dict[str, dict[str, Tensor]]] = {}
    for place in ("cpu", str(device)):
        embed(tars, WorldEncoder(device=place), tmp_path / place, batch_size=8, workers=1)
        pairs[place] = read_all(tmp_path / place)
        if str(device) == "cpu":
            break
    ours, theirs = pairs[str(device)], pairs["cpu"]
    assert ours.keys() == theirs.keys() and len(ours) == 28
    for key, pair in theirs.items():
        assert ours[key]["caption"] == pair["caption"] and ours[key]["split"] == pair["split"]
        for name in ("image", "text", "states"):
            assert_near(ours[key][name], pair[name], 2e-3, name=f"{name} of {key}")


def test_the_decoder_generates_the_images_of_the_cpu(device: torch.device) -> None:
    """With the same seeds, in float32, at four steps: two of 255 levels on average, and the oracle reads the same objects."""
    embeds = WorldEncoder(device="cpu").encode_images(
        torch.stack([WorldEncoder(device="cpu").image_transform(i) for i in images(4)])
    )
    made = []
    for place in ("cpu", str(device)):
        with WorldDecoder(steps=4, device=place) as decoder:
            made.append([np.asarray(image, dtype=np.float32) for image in decoder.decode(embeds, seeds=[0, 1, 2, 3])])
    assert made[0][0].std() > 10, "an image with something in it"
    for ours, theirs in zip(made[1], made[0], strict=True):
        assert np.abs(ours - theirs).mean() < 2


def test_scorers_give_the_scores_of_the_cpu(device: torch.device) -> None:
    """The oracle reads images that were decoded on the card; CLIP's features and scores are the CPU's to 1e-3."""
    prompts = prompt_set(n=1).prompts[:6]
    drawn = images(len(prompts))
    networks = [WorldFeatures(device=place) for place in (str(device), "cpu")]
    assert [network.load().type for network in networks] == [device.type, "cpu"]
    assert_near(*(network.features(drawn) for network in networks), 1e-3, name="features")
    scores = [
        [score.value for score in ClipScorer(OpenClip(f"local-dir:{FOLDER}", device=place)).score(drawn, prompts)]
        for place in (str(device), "cpu")
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3, abs=1e-3)
    with WorldDecoder(steps=2, device=str(device)) as decoder:
        decoded = decoder.decode(torch.randn(len(prompts), 128, generator=torch.Generator().manual_seed(0)))
    assert all(0 <= score.value <= 1 for score in OracleScorer().score(decoded, prompts))
