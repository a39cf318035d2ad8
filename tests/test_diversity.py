"""Diversity over seeds by prompt, similarity to reference images and distances of all images, through the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eclipse_pl.__main__ import main as command
from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.distances import Cmmd, FdDinov2
from eclipse_pl.compbench.distribution import Distribution
from eclipse_pl.compbench.diversity import Diversity
from eclipse_pl.compbench.reference_images import ImageFolder, ImagesOfPrompts, SceneImages
from eclipse_pl.compbench.scoring import Scoring
from eclipse_pl.compbench.similarity import SimilarityScorer
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.clip_towers import TransformersClip
from eclipse_pl.scorers.diversity import distances_to_others, vendi
from eclipse_pl.scorers.feature_extractors import ClipFeatures, CmmdFeatures, Dinov2Features
from eclipse_pl.scorers.features import extract, reference_features
from eclipse_pl.text_to_image.text_to_image import TextToImage
from eclipse_pl.world.features import WorldFeatures
from eclipse_pl.world.prompt_source import WorldPrompts
from tests.helpers.features_rank import Means, ModuleFeatures
from tests.helpers.scored_folders import card_of, rows_of
from tests.helpers.scorers_for_images import MeanColour
from tests.helpers.tiny_scorers import broken_image, tiny_clip, tiny_clip_vision, tiny_dinov2, tiny_image

DIVERSITY, VENDI = "diversity[means]", "vendi[means]"


@given(st.integers(2, 6), st.integers(0, 9))
def test_distances_of_an_image_are_those_of_its_pairs(n: int, seed: int) -> None:
    values = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = distances_to_others(values)
    for i in range(n):
        others = [
            1 - float(torch.cosine_similarity(values[i].double(), values[j].double(), dim=0)) for j in range(n) if j != i
        ]
        assert float(found[i]) == pytest.approx(np.mean(others), abs=1e-9)


@given(st.integers(2, 6), st.integers(1, 5))
def test_vendi_counts_different_images(distinct: int, copies: int) -> None:
    """Of images that have nothing in common, and of copies of them."""
    values = torch.eye(8)[:distinct].repeat(copies, 1)
    assert vendi(values) == pytest.approx(distinct, rel=1e-6)
    assert vendi(3 * values[:1].repeat(4, 1)) == pytest.approx(1, abs=1e-6)


class Noisy(TextToImage):
    """Images that differ from seed to seed, more for every prompt; those of the first prompt do not."""

    identity = {"text_to_image": "noisy"}  # noqa: RUF012

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        found = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            scale = 10 * int(prompt.id.rpartition("/")[2])
            pixels = 100 + scale * np.random.default_rng(seed).random((8, 8, 3))
            found.append(Image.fromarray(pixels.astype(np.uint8)))
        return found

    def require_ready(self) -> None:
        pass


def bench(*distribution: Distribution, images: int = 3, scorers: Sequence[Any] = (), per_category: int = 3) -> CompBench:
    prompts = WorldPrompts(per_category, categories=["shape"], compositions=["seen"])
    scorings = [Scoring(scorer) for scorer in scorers or [MeanColour()]]
    return CompBench(prompts, scorings, images_per_prompt=images, block=2, distribution=list(distribution))


def means() -> ModuleFeatures:
    return ModuleFeatures(Means(), "means")


def test_diversity_of_each_prompt(tmp_path: Path) -> None:
    """Blocks of two images cut the prompts of three."""
    bench(Diversity(means())).run(Noisy(), tmp_path, progress=False)
    card, rows = card_of(tmp_path), rows_of(tmp_path)
    assert card["scorers"] == {"mean_colour": "1", DIVERSITY: "means", VENDI: "means"} and "distribution" not in card
    by_prompt: dict[str, list[float]] = {}
    for prompt in dict.fromkeys(row["id"] for row in rows):
        files = {row["file"]: tmp_path / row["file"] for row in rows if row["id"] == prompt}
        unit = torch.nn.functional.normalize(extract(files, means())[0].values.double(), dim=1)
        pairs = [1 - float(unit[i] @ unit[j]) for i in range(3) for j in range(i)]
        scores = [row["scores"] for row in rows if row["id"] == prompt]
        by_prompt[prompt] = pairs
        assert np.mean([score[DIVERSITY]["value"] for score in scores]) == pytest.approx(np.mean(pairs), abs=1e-9)
        assert len({score[VENDI]["value"] for score in scores}) == 1 and scores[0][VENDI]["evidence"] == {"images": 3}
    first, *others = by_prompt.values()
    assert max(first) == pytest.approx(0, abs=1e-9) and min(map(max, others)) > 1e-5
    cell = card["scores"][DIVERSITY]["shape"]["all"]
    assert (cell["prompts"], cell["images"], cell["interval"]) == (3, 9, "too few")
    assert cell["mean"] == pytest.approx(np.mean([pair for pairs in by_prompt.values() for pair in pairs]), abs=1e-9)


def test_diversity_has_its_interval_over_prompts(tmp_path: Path) -> None:
    bench(Diversity(means()), images=2, per_category=20).run(Noisy(), tmp_path, progress=False)
    cell = card_of(tmp_path)["scores"][DIVERSITY]["shape"]["all"]
    assert cell["low"] < cell["mean"] < cell["high"] and cell["interval"] == "studentised bootstrap"


def test_one_readable_image_of_a_prompt_has_no_diversity(tmp_path: Path) -> None:
    one = bench(Diversity(means()), images=2)
    one.run(Noisy(), tmp_path, progress=False)
    (tmp_path / rows_of(tmp_path)[2]["file"]).write_bytes(b"no image")
    one.run(Noisy(), tmp_path, progress=False)
    rows = rows_of(tmp_path)
    assert "cannot be read" in rows[2]["scores"][DIVERSITY]["evidence"]["failed"]
    assert "is the only readable image of its prompt" in rows[3]["scores"][VENDI]["evidence"]["failed"]
    cell = card_of(tmp_path)["scores"][VENDI]["shape"]["all"]
    assert (cell["prompts"], cell["images"], cell["failed"]) == (2, 4, 2)


def test_one_image_a_prompt_has_no_diversity(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Diversity compares the images of one prompt, and images_per_prompt is 1: set it to"):
        bench(Diversity(means()), images=1).run(Noisy(), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_measures_of_one_name_are_not_mixed() -> None:
    with pytest.raises(ValueError, match=r"Two measures of the distribution are called diversity\[means\]"):
        bench(Diversity(means()), Diversity(means()))


@pytest.mark.long
def test_no_readable_image_has_no_distance(tmp_path: Path) -> None:
    clip = CmmdFeatures(str(tiny_clip_vision(tmp_path / "clip")), device="cpu")
    one = bench(Cmmd(clip, SceneImages()), images=1)
    one.run(Noisy(), tmp_path / "out", progress=False)
    for row in rows_of(tmp_path / "out"):
        (tmp_path / "out" / row["file"]).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"None of the 3 images in .* can be read, so CMMD has no image at all"):
        one.run(Noisy(), tmp_path / "out", progress=False)


def test_a_distance_needs_the_extractor_of_its_recipe(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"CMMD needs CmmdFeatures, and its extractor is WorldFeatures: .* Use Fid for any"):
        Cmmd(WorldFeatures("cpu"), SceneImages())
    with pytest.raises(ValueError, match="FD-DINOv2 needs Dinov2Features, and its extractor is CmmdFeatures"):
        FdDinov2(CmmdFeatures(str(tmp_path)), SceneImages())


@pytest.mark.long
def test_distances_that_have_too_few_images(tmp_path: Path) -> None:
    tiny_image().save(tmp_path / "one.png")
    folder = ImageFolder(str(tmp_path))
    dinov2 = Dinov2Features(str(tiny_dinov2(tmp_path / "dinov2")), device="cpu")
    with pytest.raises(ValueError, match=r"FD-DINOv2 of 16 features needs at least 17 images .* are 9 generated and 3 ref"):
        bench(FdDinov2(dinov2, SceneImages())).require_ready()
    clip = CmmdFeatures(str(tiny_clip_vision(tmp_path / "clip")), device="cpu")
    with pytest.raises(ValueError, match="CMMD needs at least 2 images on either side: there are 9 generated and 1 reference"):
        bench(Cmmd(clip, folder)).require_ready()
    cache = str(tmp_path / "features.safetensors")
    reference_features(Path(cache), {"other.png": tiny_image(9)}, clip)
    with pytest.raises(ValueError, match=r"features\.safetensors holds reference features of another hash of images"):
        bench(Cmmd(clip, SceneImages(), cache)).require_ready()


def similar(folder: Path, name: str = "means") -> SimilarityScorer:
    return SimilarityScorer(ModuleFeatures(Means(), name), ImagesOfPrompts(str(folder)), batch_size=2)


def write_references(folder: Path) -> list[str]:
    """One image for each prompt, and two for the last, which lie in a folder."""
    ids = [prompt.id for prompt in bench().source.load()]
    for number, place in enumerate([*(f"{id}.png" for id in ids[:-1]), f"{ids[-1]}/a.jpg", f"{ids[-1]}/b.jpg"]):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        tiny_image(number, (24, 16 + number)).save(folder / place)
    return ids


def test_similarity_is_the_mean_cosine_to_the_references_of_the_prompt(tmp_path: Path) -> None:
    ids = write_references(tmp_path / "references")
    bench(scorers=[similar(tmp_path / "references")]).run(Noisy(), tmp_path / "out", progress=False)
    row = rows_of(tmp_path / "out")[-1]
    score = row["scores"]["similarity[means]"]
    sources = [tmp_path / "out" / row["file"], *sorted((tmp_path / "references" / ids[-1]).iterdir())]
    image, *references = [extract({"": source}, means())[0].values[0] for source in sources]
    cosines = [float(torch.cosine_similarity(image, reference, dim=0)) for reference in references]
    assert score["value"] == pytest.approx(np.mean(cosines), abs=1e-6)
    stated = {f"{ids[-1]}/{name}.jpg": pytest.approx(cosines[i], abs=1e-4) for i, name in enumerate("ab")}
    assert score["evidence"]["references"] == stated
    assert len(rows_of(tmp_path / "out")[0]["scores"]["similarity[means]"]["evidence"]["references"]) == 1


def test_a_reference_folder_of_other_images(tmp_path: Path) -> None:
    ids = write_references(tmp_path / "references")
    bench(scorers=[similar(tmp_path / "references")]).run(Noisy(), tmp_path / "out", progress=False)
    tiny_image(99).save(tmp_path / "references" / f"{ids[0]}.png")
    with pytest.raises(ValueError, match=r"holds scores of another version of similarity\[means\]"):
        bench(scorers=[similar(tmp_path / "references")]).run(Noisy(), tmp_path / "out", progress=False)
    (tmp_path / "references" / f"{ids[0]}.png").rename(tmp_path / "references" / "else.png")
    with pytest.raises(
        ValueError, match=rf"references holds no reference image of prompt {ids[0]} \('.*'\): name it {ids[0]}.jpg"
    ):
        bench(scorers=[similar(tmp_path / "references")]).run(Noisy(), tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="nowhere holds no images"):
        bench(scorers=[similar(tmp_path / "nowhere")]).run(Noisy(), tmp_path / "new", progress=False)


def test_a_broken_reference_image(tmp_path: Path) -> None:
    ids = write_references(tmp_path)
    (tmp_path / f"{ids[0]}.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=rf"1 reference images cannot be read, {ids[0]}\.png among them"):
        similar(tmp_path).score([tiny_image()], list(bench().source.load())[:1])
    assert similar(tmp_path).score([broken_image()], list(bench().source.load())[1:2])[0].failure


@pytest.mark.long
def test_clip_image_similarity_is_the_cosine_of_image_embeddings(tmp_path: Path) -> None:
    clip = TransformersClip(str(tiny_clip(tmp_path / "clip")), device="cpu")
    ids = write_references(tmp_path / "references")
    scorer = SimilarityScorer(ClipFeatures(clip), ImagesOfPrompts(str(tmp_path / "references")))
    image, reference = tiny_image(7), Image.open(tmp_path / "references" / f"{ids[0]}.png")
    with torch.no_grad():
        expected = torch.cosine_similarity(*clip.embed_images([image, reference]).split(1))
    assert scorer.score([image], list(bench().source.load())[:1])[0].value == pytest.approx(float(expected), abs=1e-5)
    scorer.close()
    assert "model" not in clip.__dict__


@pytest.mark.long
def test_all_of_it_through_the_benchmark(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The world's part for diversity and the distances of tiny models, of the upper bound."""
    reference = {"class_path": "eclipse_pl.compbench.reference_images.SceneImages"}
    distances = [
        {
            "class_path": f"eclipse_pl.compbench.distances.{distance}",
            "init_args": {
                "extractor": {
                    "class_path": f"eclipse_pl.scorers.feature_extractors.{extractor}",
                    "init_args": {"path": str(write(tmp_path / extractor)), "device": "cpu"},
                },
                "reference": reference,
            },
        }
        for distance, extractor, write in (
            ("Cmmd", "CmmdFeatures", tiny_clip_vision),
            ("FdDinov2", "Dinov2Features", tiny_dinov2),
        )
    ]
    part = yaml.safe_load(Path("experiments/parts/protocol/world_diversity.yaml").read_text())
    part["init_args"]["distribution"] += distances
    part["init_args"]["prompts"]["init_args"] |= {"per_category": 20, "categories": ["shape"], "compositions": ["seen"]}
    part["init_args"]["images_per_prompt"] = 2
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(part))
    decoder = yaml.safe_load(Path("experiments/parts/decoder/world.yaml").read_text())
    decoder["init_args"] |= {"steps": 1, "device": "cpu"}
    (tmp_path / "decoder.yaml").write_text(yaml.safe_dump(decoder))
    upper_bound = ["--text_to_image=UpperBound", f"--text_to_image.decoder={tmp_path / 'decoder.yaml'}"]
    assert command(["benchmark", f"--protocol={tmp_path / 'protocol.yaml'}", *upper_bound, f"--out={tmp_path / 'out'}"]) == 0
    printed = capfd.readouterr().out
    assert "diversity[clip]" in printed and "(40 generated and 20 reference images)" in printed
    card = card_of(tmp_path / "out")
    assert list(card["scores"]) == ["oracle", "similarity[clip]", "diversity[clip]", "vendi[clip]"]
    cell = card["scores"]["diversity[clip]"]["shape"]["all"]
    assert 0 < cell["low"] < cell["mean"] < cell["high"] < 1 and (cell["prompts"], cell["images"]) == (20, 40)
    assert 1 < card["scores"]["vendi[clip]"]["shape"]["all"]["mean"] < 2
    measured = card["distribution"]
    assert measured["cmmd"] > 0 and measured["fd_dinov2"] > 0
    for name in ("cmmd", "fd_dinov2"):
        assert (measured["protocol"][name]["images"], measured["protocol"][name]["reference"]["images"]) == (40, 20)
    command(["compare", str(tmp_path / "out"), "--out", str(tmp_path / "page"), "--images", "0"])
    printed = capfd.readouterr().out
    assert "CMMD" in printed and "FD-DINOv2" in printed and "diversity[clip]" in printed
