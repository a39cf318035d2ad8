"""Every scorer is a part that a YAML names by class_path; building it loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from eclipse_pl.scorers.scorer import Scorer

S = "eclipse_pl.scorers"
CLIP = {"class_path": f"{S}.clip_towers.TransformersClip", "init_args": {"path": "openai/clip-vit-base-patch32"}}
DINO = {"class_path": f"{S}.detectors.GroundingDino", "init_args": {"path": "IDEA-Research/grounding-dino-tiny"}}
DPT = {"class_path": f"{S}.depth.DptDepth", "init_args": {"path": "Intel/dpt-hybrid-midas@refs/pr/7"}}
SCORERS: dict[str, dict[str, Any]] = {
    "blip_vqa@480": {
        "class_path": f"{S}.blip_vqa.BlipVqaScorer",
        "init_args": {"path": "Salesforce/blip-vqa-capfilt-large", "max_noun_phrases": 2, "enc_token": "hf"},
    },
    "unidet_rules[grounding-dino-tiny]": {
        "class_path": f"{S}.detector.DetectorScorer",
        "init_args": {"detector": DINO, "depth": DPT, "official_cutoff": False},
    },
    "geneval_rules[mask2former-swin-small-coco-instance]": {
        "class_path": f"{S}.geneval.GenEvalScorer",
        "init_args": {
            "detector": {
                "class_path": f"{S}.mask2former.Mask2Former",
                "init_args": {"path": "facebook/mask2former-swin-small-coco-instance"},
            },
            "clip": {
                "class_path": f"{S}.clip_towers.OpenClip",
                "init_args": {"model": "ViT-L-14", "pretrained": "openai"},
            },
        },
    },
    "clip_score[clip-vit-base-patch32]": {
        "class_path": f"{S}.clip_score.ClipScorer",
        "init_args": {"clip": CLIP, "drop_adjectives": True},
    },
    "pick_score[PickScore_v1]": {
        "class_path": f"{S}.pick_score.PickScorer",
        "init_args": {"path": "yuvalkirstain/PickScore_v1", "processor": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"},
    },
    "vqa_score[Qwen3-VL-4B-Instruct]": {
        "class_path": f"{S}.vlm.VqaScorer",
        "init_args": {"path": "Qwen/Qwen3-VL-4B-Instruct"},
    },
    "atoms_arithmetic[Qwen3-VL-4B-Instruct]": {
        "class_path": f"{S}.vlm.AtomScorer",
        "init_args": {"path": "Qwen/Qwen3-VL-4B-Instruct", "mean": "arithmetic"},
    },
    "questions_one_level[Qwen3-VL-4B-Instruct]": {
        "class_path": f"{S}.dependent_questions.QuestionScorer",
        "init_args": {"path": "Qwen/Qwen3-VL-4B-Instruct", "cascade": False},
    },
    "reward[UnifiedReward-qwen-7b]": {
        "class_path": f"{S}.reward.RewardScorer",
        "init_args": {"path": "CodeGoat24/UnifiedReward-qwen-7b", "max_tokens": 256},
    },
    "wins_over_base[UnifiedReward-qwen-7b]": {
        "class_path": f"{S}.reward.PairScorer",
        "init_args": {"path": "CodeGoat24/UnifiedReward-qwen-7b", "reference": "scores/base"},
    },
}


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_are_parts(name: str, tmp_path: Path) -> None:
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--scorer", type=Scorer)
    file = tmp_path / "scorer.yaml"
    file.write_text(yaml.safe_dump({"scorer": SCORERS[name]}))
    built = parser.instantiate_classes(parser.parse_args(["--config", str(file)]))
    assert built.scorer.name == name
    built.scorer.close()
