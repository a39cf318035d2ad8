"""ClipScorer, PickScorer and HpsScorer, against the libraries' own numbers; 3-in-1 joined by prompt and seed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from eclipse_pl.scorers.clip_score import ClipScorer, without
from eclipse_pl.scorers.clip_towers import OpenClip, TransformersClip
from eclipse_pl.scorers.pick_score import HpsScorer, PickScorer
from eclipse_pl.scorers.scorer import Score
from eclipse_pl.scorers.three_in_one import three_in_one
from tests.helpers.tiny_open_clip import write_open_clip
from tests.helpers.tiny_scorers import prompt, tiny_clip, tiny_image

IMAGES = [tiny_image(0), tiny_image(1, (40, 90)), tiny_image(2)]
PROMPTS = [prompt("a cat"), prompt("two dogs, running!"), prompt("a cat " * 40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


def logits_of_transformers(folder: Path) -> torch.Tensor:
    from transformers import CLIPModel, CLIPProcessor

    processor = CLIPProcessor.from_pretrained(folder)
    texts = [p.text for p in PROMPTS]
    inputs = processor(text=texts, images=IMAGES, padding=True, truncation=True, max_length=40, return_tensors="pt")
    with torch.no_grad():
        return CLIPModel.from_pretrained(folder).eval()(**inputs).logits_per_image.diagonal()


def test_pick_score_is_what_transformers_computes(folder: Path) -> None:
    scorer = PickScorer(str(folder), device="cpu")
    scores = [score.value for score in scorer.score(IMAGES, PROMPTS)]
    assert scores == pytest.approx(logits_of_transformers(folder).tolist(), abs=1e-4)
    assert scorer.name == "pick_score[tiny-clip]" and scorer.version.startswith("tiny-clip sha256-")


def test_a_local_folder_below_one_with_an_at_sign(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "ann@lab.org" / "vit-b-32"))
    assert TransformersClip(str(copied), device="cpu").name == "vit-b-32"
    assert TransformersClip("openai/clip-vit-base-patch32@refs/pr/3", device="cpu").name == "clip-vit-base-patch32"


def test_clip_score_is_the_raw_cosine(folder: Path) -> None:
    clip = TransformersClip(str(folder), device="cpu")
    scores = [score.value for score in ClipScorer(clip).score(IMAGES, PROMPTS)]
    assert scores == pytest.approx((logits_of_transformers(folder) / clip.scale).tolist(), abs=1e-5)
    assert all(-1 <= score <= 1 for score in scores) and clip.scale == pytest.approx(1 / 0.07, rel=0.2)


def test_the_processor_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    weights, processor = tmp_path / "weights", Path(shutil.copytree(folder, tmp_path / "processor"))
    (processor / "model.safetensors").unlink()
    weights.mkdir()
    for file in ("config.json", "model.safetensors"):
        shutil.copy(folder / file, weights)
    expected = PickScorer(str(folder), device="cpu").score(IMAGES, PROMPTS)
    elsewhere = PickScorer(str(weights), str(processor), device="cpu")
    elsewhere.require_ready()
    assert elsewhere.score(IMAGES, PROMPTS) == expected
    assert elsewhere.version == PickScorer(str(folder), device="cpu").version.replace("tiny-clip", "weights")
    with pytest.raises(ValueError, match="has no AutoTokenizer that can be loaded"):
        PickScorer(str(weights), device="cpu").require_ready()
    other = Path(shutil.copytree(processor, tmp_path / "other"))
    (other / "processor_config.json").write_text((other / "processor_config.json").read_text().replace("32", "28"))
    assert PickScorer(str(weights), str(other), device="cpu").version != elsewhere.version


@pytest.fixture(scope="module")
def open_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_open_clip(tmp_path_factory.mktemp("open_clip") / "tiny-open", embed_dim=32)


def test_open_clip(open_folder: Path) -> None:
    name = f"local-dir:{open_folder}"
    model, transform = open_clip.create_model_from_pretrained(name)
    with torch.no_grad():
        pixels = torch.stack([transform(image) for image in IMAGES])
        images, texts, _ = model.eval()(pixels, open_clip.get_tokenizer(name)([p.text for p in PROMPTS]))
    scorer = ClipScorer(OpenClip(name, device="cpu"))
    scores = [score.value for score in scorer.score(IMAGES, PROMPTS)]
    assert scores == pytest.approx((images * texts).sum(1).tolist(), abs=1e-5)
    assert scorer.name == "clip_score[tiny-open]" and "open_clip:local-dir:sha256-" in scorer.version
    assert OpenClip("ViT-B-32", "openai").version == "open_clip:ViT-B-32:openai"
    assert OpenClip("ViT-B-32", "openai").name == "ViT-B-32/openai"


def test_hps_reads_its_checkpoint_without_unpickling(
    open_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout of HPS_v2.1_compressed.pt: a torch file with ``state_dict``."""
    from safetensors.torch import load_file

    config = json.loads((open_folder / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "tiny-hps.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-hps.json")
    checkpoint = tmp_path / "HPS_v2.1_compressed.pt"
    torch.save({"state_dict": load_file(open_folder / "open_clip_model.safetensors")}, checkpoint)
    scorer = HpsScorer(str(checkpoint), "tiny-hps", device="cpu")
    expected = ClipScorer(OpenClip(f"local-dir:{open_folder}", device="cpu")).score(IMAGES, PROMPTS)
    scores = scorer.score(IMAGES, PROMPTS)
    assert [s.value for s in scores] == pytest.approx([s.value for s in expected], abs=1e-5)
    assert scorer.name == "hps[HPS_v2.1_compressed]" and "sha256-" in scorer.version

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(ValueError, match="weights_only=True"):
        HpsScorer(str(tmp_path / "bomb.pt"), "tiny-hps", device="cpu").score(IMAGES, PROMPTS)
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(ValueError, match=r"There is no file laion2b_s32b_b79k\. Download HPS's checkpoint"):
        HpsScorer("laion2b_s32b_b79k")


@pytest.mark.parametrize(
    ("text", "words", "left"),
    [
        ("The red hat was on top of the brown coat rack.", ("red", "brown"), "The hat was on top of the coat rack."),
        ("Red reddish RED red", ("red",), "reddish "),
        ("the crystal-clear mid-air jump", ("clear", "mid"), "the crystal--air jump"),  # "crystal", "-", "-", "air", "jump"
        ("the rough-edged rocks", ("rough", "edged"), "the -rocks"),
        ("the blue.", ("blue",), "the ."),
        ("a (very) big dog", (), "a (very) big dog"),
        ("c++ (old)", ("(old)",), "c++ "),
    ],
)
def test_adjectives_are_left_out(text: str, words: tuple[str, ...], left: str) -> None:
    assert without(text, words) == left


def test_complex_prompts_lose_their_adjectives_where_asked(folder: Path) -> None:
    clip, hat = TransformersClip(str(folder), device="cpu"), prompt("the red hat", adjectives=("red",))
    (plain,) = ClipScorer(clip).score([tiny_image()], [hat])
    (short,) = ClipScorer(clip, drop_adjectives=True).score([tiny_image()], [hat])
    assert (plain.evidence["text"], short.evidence["text"]) == ("the red hat", "the hat") and plain.value != short.value
    assert ClipScorer(clip).version != ClipScorer(clip, drop_adjectives=True).version


ATTRIBUTE, SPATIAL, CLIP = 0.9, 0.6, 0.3
COMPLEX = [
    prompt("a", 0, "complex", subset="spatial"),
    prompt("b", 1, "complex", subset="action"),
    prompt("c", 2, "complex", subset="spatialaction"),
]


def rows(
    value: float, numbers: tuple[int, ...] = (0, 1, 2), seeds: tuple[int, ...] = (42, 43)
) -> dict[tuple[str, int], Score]:
    # in another order than the prompts, and each row with a value of its own
    keys = [(f"complex/{number:04d}", seed) for seed in seeds for number in reversed(numbers)]
    return {(id_, seed): Score(value + 0.001 * int(id_[-1]) + 0.01 * (seed - 42)) for id_, seed in keys}


def test_three_in_one_by_subset() -> None:
    joined = three_in_one(COMPLEX, [42, 43], rows(ATTRIBUTE), rows(SPATIAL, (0, 2)), rows(CLIP, (1, 2)))
    assert list(joined) == [(p.id, seed) for p in COMPLEX for seed in (42, 43)]
    means = [(ATTRIBUTE + SPATIAL) / 2, (ATTRIBUTE + CLIP) / 2, (ATTRIBUTE + SPATIAL + CLIP) / 3]
    for number, mean in enumerate(means):
        for seed in (42, 43):
            expected = mean + 0.001 * number + 0.01 * (seed - 42)
            assert joined[f"complex/{number:04d}", seed].value == pytest.approx(expected)
    assert joined["complex/0001", 42].evidence == {"attribute": pytest.approx(0.901), "clip": pytest.approx(0.301)}


def test_three_in_one_refuses_what_it_cannot_join() -> None:
    with pytest.raises(ValueError, match=r"The spatial scores lack prompt complex/0002 with seed 42\. 3-in-1 needs"):
        three_in_one(COMPLEX, [42], rows(ATTRIBUTE), rows(SPATIAL, (0, 1)), rows(CLIP))
    with pytest.raises(ValueError, match="The attribute scores lack prompt complex/0000 with seed 44"):
        three_in_one(COMPLEX, [42, 44], rows(ATTRIBUTE), rows(SPATIAL), rows(CLIP))
    with pytest.raises(ValueError, match=r"color/0000 is of subset ''; 3-in-1 is defined for spatial, action, spatialaction"):
        three_in_one([prompt()], [42], {}, {}, {})


def test_three_in_one_of_a_failed_row_is_failed() -> None:
    spatial = rows(SPATIAL)
    spatial["complex/0002", 42] = Score.failed("no relation")
    joined = three_in_one(COMPLEX, [42], rows(ATTRIBUTE), spatial, rows(CLIP))
    assert joined["complex/0002", 42].failure == "spatial: no relation" and math.isnan(joined["complex/0002", 42].value)
    assert joined["complex/0000", 42].failure is None
