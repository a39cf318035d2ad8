"""Every prompt of T2I-CompBench has what its category's scorers ask for. The real ones where they are on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from eclipse_pl.commands.benchmark import build_parser
from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.scorecard import score_name
from eclipse_pl.compbench.scoring import Scoring
from eclipse_pl.compbench.unit import units_of
from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.parser import NoParser
from eclipse_pl.prompts.prompt import Prompt, PromptSet
from eclipse_pl.prompts.source import PromptFiles
from eclipse_pl.scorers.atom_questions import atom_questions
from eclipse_pl.scorers.blip_vqa import BlipVqaScorer
from eclipse_pl.scorers.depth import DptDepth
from eclipse_pl.scorers.detector import DetectorScorer
from eclipse_pl.scorers.detectors import GroundingDino
from eclipse_pl.scorers.scorer import Score
from eclipse_pl.scorers.three_in_one import PARTS
from eclipse_pl.world.prompt_source import WorldPrompts
from tests.helpers.compbench_folder import write_compbench
from tests.helpers.real_data import RealData
from tests.helpers.rule_parser import RuleParser
from tests.helpers.scorers_for_images import Grey, MeanColour

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture(scope="module", params=["ours", "real"])
def prompts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, real_data: RealData) -> PromptSet:
    if request.param == "real":
        return load_prompts(real_data("compbench"), "compbench")
    return load_prompts(write_compbench(tmp_path_factory.mktemp("compbench")), "compbench", parser=RuleParser())


@pytest.mark.long
def test_scorers_find_what_they_ask_for(prompts: PromptSet) -> None:
    blip = BlipVqaScorer("nowhere")
    detector = DetectorScorer(GroundingDino("nowhere"), DptDepth("nowhere"))
    for prompt in prompts:
        if prompt.category in ("color", "shape", "texture", "complex"):
            assert blip.missing(prompt) is None, prompt
        if prompt.category in ("spatial", "3d_spatial", "numeracy") or "spatial" in PARTS.get(prompt.subset, ()):
            assert detector.missing(prompt) is None, prompt
        assert prompt.category != "complex" or prompt.subset in PARTS


def test_every_prompt_has_questions(prompts: PromptSet) -> None:
    for prompt in prompts:
        kinds = {atom.kind for atom in atom_questions(prompt)}
        wanted = {
            "numeracy": {"object", "count"}, "spatial": {"object", "relation"}, "3d_spatial": {"object", "relation"},
            "non_spatial": {"object"}, "complex": {"object"},
        }.get(prompt.category, {"object", "attribute"})  # fmt: skip
        assert wanted <= kinds, prompt


@pytest.mark.long
def test_the_papers_protocol_fails_no_prompt(prompts: PromptSet) -> None:
    """Failed rows count. Prompts outside of a scorer's protocol do not."""
    for scoring in read_protocol("paper").scorers:
        covered = [unit.prompt for unit in units_of(prompts, 1, 42) if scoring.covers(unit)]
        assert covered and all(scoring.scorer.missing(prompt) is None for prompt in covered), scoring.scorer.name
        if scoring.part and scoring.scorer.name.startswith("unidet_rules"):
            left_out = {prompt.subset for prompt in prompts if prompt.category == "complex" and prompt not in covered}
            assert left_out == {"action"}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(path.stem for path in (EXPERIMENTS / "parts/protocol").glob("*.yaml")))
def test_presets_are_built(name: str) -> None:
    assert read_protocol(name).scorers


def test_table_1_asks_for_a_metric_that_its_protocol_has() -> None:
    sweep = yaml.safe_load((EXPERIMENTS / "sweeps/table1.yaml").read_text())
    scorers = {score_name(scoring.scorer.name) for scoring in read_protocol("paper").scorers}
    assert sweep["metric"]["name"] in scorers


def read_protocol(name: str) -> Any:
    """As `benchmark --protocol` reads it; nothing is loaded yet."""
    words = ["--protocol", str(EXPERIMENTS / f"parts/protocol/{name}.yaml"), "--out=nowhere"]
    return build_parser().instantiate(build_parser().parse_args(words)).protocol


class Even(MeanColour):
    """Says one number of every image; a detector's rule for what it covers."""

    def __init__(self, name: str, value: float, all_prompts: bool = True) -> None:
        super().__init__()
        self.name, self.value, self.all_prompts = name, value, all_prompts  # type: ignore[misc]

    def covers(self, prompt: Prompt) -> bool:
        return self.all_prompts or prompt.subset != "action"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        return [Score(self.value)] * len(images)


def test_the_runner_joins_three_in_one(tmp_path: Path) -> None:
    """Subsets have their own parts, and a prompt that has no place for the detector is no failure."""
    write_compbench(tmp_path / "prompts", lines=2, parts=(2, 3, 1))
    scorers = [
        Scoring(Even("attribute", 0.25), ["complex"], "attribute"),
        Scoring(Even("spatial", 0.75, all_prompts=False), ["complex", "spatial"], "spatial"),
        Scoring(Even("clip", 0.5), ["complex"], "clip"),
    ]
    prompts = PromptFiles(str(tmp_path / "prompts"), categories=["complex", "spatial"], parser=RuleParser())
    card = CompBench(prompts, scorers, images_per_prompt=2).run(Grey(), tmp_path / "out", progress=False)
    (name,) = [scorer for scorer in card["scores"] if scorer.startswith("3_in_1")]
    cells = card["scores"][name]["complex"]
    assert {subset: (cell["mean"], cell["images"]) for subset, cell in cells.items()} == {
        "all": (pytest.approx((2 * 0.5 + 3 * 0.375 + 1 * 0.5) / 6), 12),
        "spatial": (0.5, 4), "action": (0.375, 6), "spatialaction": (0.5, 2),
    }  # fmt: skip
    assert card["failed"] == 0 and card["scores"]["spatial"]["complex"]["all"]["images"] == 6


@pytest.mark.parametrize(
    ("part", "categories", "match"),
    [
        ("attribute", ["color"], r"score of attribute \(part attribute\) .* leave out 6 of them, complex/0000 first"),
        ("spatial", ["spatial"], r"score of spatial \(part spatial\) .* leave out 3 of them, .* Add 'complex' to its"),
    ],
)
def test_parts_that_leave_out_complex_prompts_are_refused(
    tmp_path: Path, part: str, categories: list[str], match: str
) -> None:
    """Before any image is generated: without these scores there would be no scorecard."""
    write_compbench(tmp_path / "prompts", lines=2, parts=(2, 3, 1))
    prompts = PromptFiles(str(tmp_path / "prompts"), categories=["complex", "spatial", "color"], parser=RuleParser())
    scorers = [
        Scoring(Even(name, 0.5, name != "spatial"), categories if name == part else ["complex"], name)
        for name in ("attribute", "spatial", "clip")
    ]
    with pytest.raises(ValueError, match=match):
        CompBench(prompts, scorers).run(Grey(), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    CompBench(prompts, [*scorers, Scoring(Even(part, 0.5, part != "spatial"), ["complex"])]).require_ready()


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"a": "attribute", "b": "spatial"}, r"There is a \(part attribute\) and b \(part spatial\), and none of clip: add"),
        ({"a": "clip"}, r"There is a \(part clip\), and none of attribute and spatial: add a scorer with `part: attribute`"),
        ({"a": "attribute", "b": "attribute", "c": "spatial", "d": "clip"}, "a and b both are part attribute of 3-in-1"),
    ],
)
def test_parts_that_make_no_three_in_one_are_refused(parts: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        CompBench(WorldPrompts(1), [Scoring(Even(name, 0.5), [], part) for name, part in parts.items()])


def test_one_scorer_may_be_a_part_in_several_categories() -> None:
    parts = {"color": "attribute", "complex": "attribute", "spatial": "spatial", "action": "clip"}
    CompBench(WorldPrompts(1), [Scoring(Even(part, 0.5), [category], part) for category, part in parts.items()])


def test_a_scorer_that_could_score_nothing_is_refused(tmp_path: Path) -> None:
    """Prompts without noun phrases, and BLIP: every row would fail, after all images are generated."""
    (tmp_path / "prompts.txt").write_text("a red car\na blue boat\n")
    prompts = PromptFiles(str(tmp_path / "prompts.txt"), "file", parser=NoParser())
    with pytest.raises(ValueError, match=r"blip_vqa@480 could score none of its 2 prompts: .*'a red car'.* no noun phrases"):
        CompBench(prompts, [Scoring(BlipVqaScorer("nowhere"))]).run(Grey(), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
