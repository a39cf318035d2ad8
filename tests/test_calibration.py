"""``benchmark --calibrate``: the world's oracle, a random scorer, and MSCOCO through tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from eclipse_pl.__main__ import main
from eclipse_pl.compbench.calibration import CONFUSES, NO_REFERENCE, TELLS, UNKNOWN, Calibration, SwappedCaptions, separation
from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.reference_images import SceneImages
from eclipse_pl.compbench.scoring import Scoring
from eclipse_pl.compbench.similarity import SimilarityScorer
from eclipse_pl.compbench.true_images import SWAPPED, CocoImages, WorldImages, read_caption
from eclipse_pl.prompts.prompt import Prompt, Relation, Required
from eclipse_pl.world.features import WorldFeatures
from eclipse_pl.world.prompt_source import WorldPrompts
from tests.helpers.compbench_folder import NOUNS
from tests.helpers.real_data import RealData
from tests.helpers.rule_parser import RuleParser
from tests.helpers.scorers_for_images import MeanColour
from tests.helpers.tiny_scorers import tiny_blip, tiny_grounding_dino

S = "eclipse_pl.scorers"
H = "tests.helpers.scorers_for_images"
WORLD = "experiments/parts/true_images/world.yaml"
PARSER = {"class_path": "tests.helpers.rule_parser.RuleParser"}


def part(path: Path, class_path: str, **init_args: Any) -> Path:
    path.write_text(yaml.safe_dump({"class_path": class_path, "init_args": init_args}))
    return path


def protocol(folder: Path, *scorers: dict[str, Any]) -> str:
    """The prompts of a protocol have no part in a calibration."""
    prompts = {"class_path": "eclipse_pl.world.prompt_source.WorldPrompts"}
    named = [{"scorer": scorer, "categories": ["elsewhere"]} for scorer in scorers]
    return str(part(folder / "protocol.yaml", "eclipse_pl.compbench.compbench.CompBench", prompts=prompts, scorers=named))


def calibrate(folder: Path, true_images: str | Path, *scorers: dict[str, Any]) -> dict[str, Any]:
    words = ["--calibrate", str(true_images), "--protocol", protocol(folder, *scorers), "--out", str(folder / "out")]
    assert main(["benchmark", *words]) == 0
    card: dict[str, Any] = json.loads((folder / "out" / "scorecard.json").read_text())
    return card


@pytest.mark.long
def test_the_oracle_tells_and_a_random_scorer_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scorers = ({"class_path": "eclipse_pl.world.oracle.OracleScorer"}, {"class_path": f"{H}.Random"})
    card = calibrate(tmp_path, WORLD, *scorers)
    oracle, random = card["calibration"]["oracle"], card["calibration"]["random"]
    assert oracle["auc"]["mean"] == oracle["own_caption_wins"]["mean"] == 1 and oracle["verdict"] == TELLS
    assert oracle["images"] == 80 and 0.9 < oracle["auc"]["low"] < 1
    assert random["auc"]["low"] < 0.5 < random["auc"]["high"] and random["verdict"] == UNKNOWN
    told = " ".join(capsys.readouterr().out.split())
    assert f"oracle 1.000 [{oracle['auc']['low']:.3f}, 1.000]" in told and UNKNOWN in told
    # every image is there once, and each of its rows has the evidence
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 160 and len(list((tmp_path / "out").rglob("*.png"))) == len({row["file"] for row in rows}) == 80
    wrong = next(row for row in rows if row["id"].endswith(SWAPPED))
    assert wrong["subset"] == "swapped" and wrong["scores"]["oracle"]["evidence"]["objects"]


def test_captions_are_swapped_within_a_kind() -> None:
    true_images = WorldImages(3)
    prompts = SwappedCaptions(true_images).load()
    half = len(prompts) // 2
    own = {prompt.id: prompt for prompt in prompts.prompts[:half]}
    assert half == 6 * 2 * 3
    given = [prompt.text for prompt in prompts.prompts[half:]]
    assert sorted(given) == sorted(prompt.text for prompt in own.values()), "every caption is given once"
    for prompt in prompts.prompts[half:]:
        image = own[prompt.id.removesuffix(SWAPPED)]
        assert prompt.text != image.text and prompt.category == image.category
        assert (prompt.relation is None) == (image.relation is None)
    assert prompts.sha256 == SwappedCaptions(WorldImages(3)).load().sha256


def test_the_seed_of_the_images_changes_the_swaps(tmp_path: Path) -> None:
    """Of the same captions: all that a folder has, so that the seed chooses none."""
    (tmp_path / "images").mkdir()
    entries = [{"id": number, "file_name": f"{number}.jpg"} for number in range(8)]
    annotations = [{"image_id": number, "caption": f"a red kettle {number}"} for number in range(8)]
    (tmp_path / "captions.json").write_text(json.dumps({"images": entries, "annotations": annotations}))
    for entry in entries:
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / str(entry["file_name"]))

    def swaps(seed: int) -> dict[str, str]:
        given = str(tmp_path / "captions.json"), str(tmp_path / "images")
        true_images = CocoImages(*given, count=None, seed=seed, parser=RuleParser())
        prompts, _ = Calibration(CompBench(WorldPrompts(), [Scoring(MeanColour())]), true_images).units()
        return {prompt.id: prompt.text for prompt in prompts}

    first, second = swaps(0), swaps(1)
    own = {name for name in first if not name.endswith(SWAPPED)}
    assert first == swaps(0) and len(own) == 8 and {first[name] for name in own} == {second[name] for name in own}
    assert first != second


def row(name: str, value: float | None) -> dict[str, Any]:
    return {"id": name, "scores": {"s": {"value": value}}}


def test_separation_by_hand() -> None:
    """Own captions score 3, 1, 2 and swapped ones 2, 1, 0: 6 pairs in order, 2 ties and one the other way."""
    rows = [row(f"x/{i}", value) for i, value in enumerate((3, 1, 2, None))]
    rows += [row(f"x/{i}{SWAPPED}", value) for i, value in enumerate((2, 1, 0, 5))]
    found = separation(rows, "s")
    assert found["auc"]["mean"] == pytest.approx((6 + 2 / 2) / 9) and found["own_caption_wins"]["mean"] == pytest.approx(
        2.5 / 3
    )
    assert (found["images"], found["failed"]) == (3, 1) and found["verdict"] == UNKNOWN
    backwards = [row(f"x/{i}", 0.0) for i in range(30)] + [row(f"x/{i}{SWAPPED}", 1.0) for i in range(30)]
    assert separation(backwards, "s")["verdict"] == CONFUSES
    assert separation([row("x/0", None), row(f"x/0{SWAPPED}", 1.0)], "s")["verdict"] == "no image could be scored"


def test_what_scorers_read_in_a_caption() -> None:
    nouns = {one: singular for singular, plural in NOUNS.items() for one in (singular, plural)}

    def read(text: str) -> Prompt:
        return read_caption(Prompt("coco/1", "coco", text), RuleParser().parse(text), nouns)

    placed = read("a red kettle on the left of two canoes")
    assert placed.phrases == ("a red kettle", "two canoes") and placed.adjectives == ("red",)
    assert placed.relation == Relation("kettle", "on the left of", "canoes")
    assert placed.required == (Required("canoe", 2),) or placed.required == (Required("kettle", 1), Required("canoe", 2))
    assert read("quickly near a table").relation is None and read("a table on top of a bench").relation is None
    assert read("softly").required == ()


@pytest.mark.long
def test_mscoco_through_tiny_models(tmp_path: Path, real_data: RealData, capsys: pytest.CaptureFixture[str]) -> None:
    """Random weights cannot tell captions apart; the rules apply to the captions that name what they need."""
    coco = real_data("coco")
    content = json.loads((coco / "captions_val2017_subset.json").read_text())
    texts = {entry["image_id"]: entry["caption"] for entry in reversed(content["annotations"])}  # the first one of an image
    placed = [number for number, text in texts.items() if " next to " in text][:2]
    kept = [*placed, *(number for number in texts if number not in placed)][:8]
    content["images"] = [entry for entry in content["images"] if entry["id"] in kept]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    (tmp_path / "captions.json").write_text(json.dumps(content))
    given = {"captions": str(tmp_path / "captions.json"), "images": str(coco / "val2017"), "count": None, "parser": PARSER}
    true_images = part(tmp_path / "coco.yaml", "eclipse_pl.compbench.true_images.CocoImages", **given)
    detector = {"class_path": f"{S}.detectors.GroundingDino"}
    detector["init_args"] = {"path": str(tiny_grounding_dino(tmp_path / "tiny-dino")), "device": "cpu"}
    blip = {"path": str(tiny_blip(tmp_path / "tiny-blip")), "device": "cpu", "resolution": 32}
    card = calibrate(
        tmp_path,
        true_images,
        {"class_path": f"{S}.blip_vqa.BlipVqaScorer", "init_args": blip},
        {"class_path": f"{S}.detector.DetectorScorer", "init_args": {"detector": detector}},
        {"class_path": f"{S}.geneval.GenEvalScorer", "init_args": {"detector": detector, "clip": CLIP}},
    )
    found = card["calibration"]
    assert found["blip_vqa@32"]["images"] == 8 and found["blip_vqa@32"]["failed"] == 0
    assert found["blip_vqa@32"]["auc"]["interval"] == "too few" and found["blip_vqa@32"]["verdict"] == UNKNOWN
    assert found["unidet_rules[tiny-dino]"]["images"] == 2, "those that name a relation"
    assert found["geneval_rules[tiny-dino]"]["verdict"] == "its rules apply to no caption"


CLIP = {"class_path": f"{S}.clip_towers.TransformersClip", "init_args": {"path": "nowhere/needed"}}


@pytest.mark.parametrize("words", [["--prior", "x"], ["--pipeline", "x"]])
def test_a_model_is_not_calibrated(tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--calibrate", WORLD, "--protocol", protocol(tmp_path, {"class_path": f"{H}.MeanColour"})]
    assert main(["benchmark", *given, *words, "--out", str(tmp_path / "out")]) == 2
    assert "--calibrate scores real images, not those of a model: leave out --prior" in capsys.readouterr().err


def test_scorers_that_need_reference_images_are_left_out(tmp_path: Path) -> None:
    """The references belong to the protocol's own prompts, of which a calibration has none."""
    similar = SimilarityScorer(WorldFeatures("cpu"), SceneImages())
    both = CompBench(WorldPrompts(), [Scoring(similar), Scoring(MeanColour())])
    true_images = WorldImages(1)
    card = Calibration(both, true_images).run(true_images, tmp_path, progress=False)
    assert card["calibration"][similar.name] == {"images": 0, "verdict": NO_REFERENCE}
    assert card["calibration"]["mean_colour"]["images"] > 0 and list(card["scores"]) == ["mean_colour"]
    with pytest.raises(ValueError, match=r"similarity\[clip\] compare with reference images, and a calibration has captions"):
        Calibration(CompBench(WorldPrompts(), [Scoring(similar)]), true_images)


def test_scorers_whose_rules_apply_to_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vlm = {"class_path": f"{S}.dependent_questions.QuestionScorer", "init_args": {"path": "nowhere/vlm", "device": "cpu"}}
    given = ["--calibrate", WORLD, "--protocol", protocol(tmp_path, vlm), "--out", str(tmp_path / "out")]
    assert main(["benchmark", *given]) == 2
    assert "The rules of questions[vlm] apply to none of the 80 captions" in capsys.readouterr().err


def test_damaged_sets(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    entries = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)]
    annotations = [{"image_id": number, "caption": f"a red kettle {number}"} for number in (1, 2)]
    captions = tmp_path / "captions.json"

    def made(content: dict[str, Any]) -> CocoImages:
        captions.write_text(json.dumps(content))
        return CocoImages(str(captions), str(images), parser=RuleParser())

    with pytest.raises(ValueError, match=r"2 of 2 images of .* are missing, first .*1\.jpg"):
        made({"images": entries, "annotations": annotations}).captions()
    for number in (1, 2):
        Image.new("RGB", (8, 8)).save(images / f"{number}.jpg")
    (images / "2.jpg").write_bytes(b"no image")
    coco = made({"images": entries, "annotations": annotations})
    assert [prompt.id for prompt in coco.captions()] == ["coco/000000000001", "coco/000000000002"]
    with pytest.raises(ValueError, match=r"2\.jpg cannot be read"):
        coco.image("coco/000000000002")
    with pytest.raises(ValueError, match="an entry lacks 'caption'"):
        made({"images": entries, "annotations": [{"image_id": 1}]}).captions()
    with pytest.raises(ValueError, match="is Karpathy's JSON"):
        made({"images": [{"sentences": []}]}).captions()
    with pytest.raises(ValueError, match="count is 1; captions can be swapped from 2 images on"):
        CocoImages("x", "y", count=1)
