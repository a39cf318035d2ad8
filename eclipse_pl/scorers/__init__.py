"""Image and prompt -> number."""

from eclipse_pl.scorers.blip_vqa import BlipVqaScorer
from eclipse_pl.scorers.clip_score import ClipScorer
from eclipse_pl.scorers.dependent_questions import QuestionScorer
from eclipse_pl.scorers.detector import DetectorScorer
from eclipse_pl.scorers.geneval import GenEvalScorer
from eclipse_pl.scorers.pick_score import HpsScorer, PickScorer
from eclipse_pl.scorers.reward import PairScorer, RewardScorer
from eclipse_pl.scorers.scorer import Score, Scorer
from eclipse_pl.scorers.vlm import AtomScorer, VqaScorer

__all__ = [
    "AtomScorer",
    "BlipVqaScorer",
    "ClipScorer",
    "DetectorScorer",
    "GenEvalScorer",
    "HpsScorer",
    "PairScorer",
    "PickScorer",
    "QuestionScorer",
    "RewardScorer",
    "Score",
    "Scorer",
    "VqaScorer",
]
