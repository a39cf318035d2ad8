"""The decoder without a network: it shows the scenes whose embeddings lie nearest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eclipse_pl.__main__ import main
from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.world.decoder import WorldDecoder
from eclipse_pl.world.drawing import render
from eclipse_pl.world.encoder import WorldEncoder
from eclipse_pl.world.nearest_scenes import NearestScenes


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "gallery"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def embeds_of(decoder: NearestScenes, numbers: list[int]) -> torch.Tensor:
    encoder = WorldEncoder(device="cpu")
    return encoder.encode_images(torch.stack([encoder.image_transform(render(decoder.scene(n))) for n in numbers]))


def test_the_embedding_of_a_scene_shows_that_scene_whatever_its_length_batch_and_seed() -> None:
    decoder, numbers = NearestScenes(scenes=60), [3, 59, 17]
    embeds = embeds_of(decoder, numbers)
    shown = decoder.decode(3.0 * embeds, seeds=[7, 8, 9])
    for image, number, embed in zip(shown, numbers, embeds, strict=True):
        assert image.tobytes() == render(decoder.scene(number)).tobytes() == decoder.decode(embed[None])[0].tobytes()


def test_the_seeds_of_a_prompt_show_the_neighbours_in_the_order_of_their_cosines() -> None:
    decoder = NearestScenes(scenes=60, neighbours=3)
    embed = embeds_of(decoder, [5])
    images = decoder.decode(embed.repeat(4, 1), seeds=[42, 43, 44, 45])
    places = [(42 + k) % 3 for k in range(4)]
    gallery = torch.nn.functional.normalize(embeds_of(decoder, list(range(60))), dim=1)
    order = (gallery @ embed[0]).argsort(descending=True)[:3].tolist()
    assert order[0] == 5
    expected = [render(decoder.scene(order[place])).tobytes() for place in places]
    assert [image.tobytes() for image in images] == expected
    assert images[0].tobytes() != images[1].tobytes()


def test_the_gallery_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = NearestScenes(scenes=24).gallery
    monkeypatch.setattr(NearestScenes, "_encode", lambda self: pytest.fail("made again"))
    np.testing.assert_array_equal(NearestScenes(scenes=24).gallery.numpy(), first.numpy())
    with pytest.raises(pytest.fail.Exception, match="made again"):
        _ = NearestScenes(scenes=24, seed=1).gallery


@pytest.mark.parametrize("decoder", [NearestScenes(scenes=24), WorldDecoder(steps=1, batch_size=2)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_image_belongs_to_an_embedding_that_is_not_finite(decoder: Decoder, value: float) -> None:
    embeds = torch.ones(3, decoder.dim)
    embeds[1, 5] = value
    with pytest.raises(ValueError, match=r"1 of 3 image embeddings hold NaN or infinity \(the first of them is number 1"):
        decoder.decode(embeds)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scenes": 0}, r"decoder.scenes is 0; it must be 1 or more"),
        ({"neighbours": 0}, r"decoder.neighbours is 0"),
        ({"scenes": 3, "neighbours": 4}, r"neighbours is 4, but the gallery has 3 scenes"),
    ],
)
def test_numbers_that_show_nothing_are_refused(options: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        NearestScenes(**options)


@pytest.mark.long
def test_a_benchmark_reads_the_true_image_embeddings_better_than_those_of_others(tmp_path: Path) -> None:
    """The true image's neighbours agree with its prompt more than the only scene that a gallery of one can show."""
    prompts = ["--protocol.prompts.per_category=5", "--protocol.prompts.categories=[colour,texture]"]
    values = []
    for scenes in (1, 600):
        decoder = [
            "--text_to_image.decoder=eclipse_pl.world.nearest_scenes.NearestScenes",
            f"--text_to_image.decoder.scenes={scenes}",
        ]
        out = tmp_path / str(scenes)
        words = ["benchmark", "--text_to_image=eclipse_pl.text_to_image.upper_bound.UpperBound", *decoder]
        assert main([*words, "--protocol", "experiments/parts/protocol/world_quick.yaml", *prompts, "--out", str(out)]) == 0
        card = json.loads((out / "scorecard.json").read_text())
        assert card["failed"] == 0
        rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
        values.append(np.mean([row["scores"]["oracle"]["value"] for row in rows]))
    assert values[1] > values[0] + 0.1
