"""Every prompt of T2I-CompBench has what its category's judges ask for. The real ones where they are on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from eclipse_pl.prompts.load import load_prompts
from eclipse_pl.prompts.prompt import PromptSet
from eclipse_pl.scorers.atom_questions import atom_questions
from eclipse_pl.scorers.blip_vqa import BlipVqaScorer
from eclipse_pl.scorers.depth import DptDepth
from eclipse_pl.scorers.detector import DetectorScorer
from eclipse_pl.scorers.detectors import GroundingDino
from eclipse_pl.scorers.three_in_one import PARTS
from tests.compbench_folder import write_compbench

REAL = Path(__file__).parents[2] / "shared/data/compbench"
real = pytest.param(
    "real", marks=pytest.mark.skipif(not REAL.is_dir(), reason="T2I-CompBench's files are not on this machine")
)


@pytest.fixture(scope="module", params=["ours", real])
def prompts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PromptSet:
    folder = REAL if request.param == "real" else write_compbench(tmp_path_factory.mktemp("compbench"))
    return load_prompts(folder, "compbench")


def test_judges_find_what_they_ask_for(prompts: PromptSet) -> None:
    blip = BlipVqaScorer("nowhere")
    detector = DetectorScorer(GroundingDino("nowhere"), DptDepth("nowhere"))
    for prompt in prompts:
        if prompt.category in ("color", "shape", "texture", "complex"):
            assert blip.lack(prompt) is None, prompt
        if prompt.category in ("spatial", "3d_spatial", "numeracy") or "spatial" in PARTS.get(prompt.subset, ()):
            assert detector.lack(prompt) is None, prompt
        assert prompt.category != "complex" or prompt.subset in PARTS


def test_every_prompt_has_questions(prompts: PromptSet) -> None:
    for prompt in prompts:
        kinds = {atom.kind for atom in atom_questions(prompt)}
        wanted = {
            "numeracy": {"object", "count"}, "spatial": {"object", "relation"}, "3d_spatial": {"object", "relation"},
            "non_spatial": {"object"}, "complex": {"object"},
        }.get(prompt.category, {"object", "attribute"})  # fmt: skip
        assert wanted <= kinds, prompt
