"""Timing of `BlipVqa`, which encodes an image once for all questions about it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from eclipse_pl.scorers.blip_vqa import BlipVqa
from eclipse_pl.speed.inputs import WORDS, smooth_image
from eclipse_pl.speed.timing import Timing, in_turns


class RandomBlip(BlipVqa):
    """BLIP with random weights and a vocabulary of a few words, neither of which changes the timing."""

    def __init__(self, config: Any, folder: Path, resolution: int, device: torch.device) -> None:
        from transformers import BertTokenizer

        super().__init__(str(folder), "official", resolution, device=str(device))
        self.config = config
        vocabulary = folder / "vocab.txt"
        vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no", "?", *WORDS]))
        self.tokenizer = BertTokenizer(str(vocabulary))

    def build(self) -> Any:
        from transformers import BlipForQuestionAnswering

        return BlipForQuestionAnswering(self.config)


def random_blip_vqa(device: torch.device) -> list[Timing]:
    from transformers import BlipConfig

    with tempfile.TemporaryDirectory(prefix="eclipse_pl_speed_") as folder:
        blip = RandomBlip(BlipConfig(), Path(folder), 480, device)
        return blip_vqa(blip, count=1 if device.type == "cpu" else 32, questions=8)


def blip_vqa(blip: BlipVqa, count: int, questions: int) -> list[Timing]:
    """Time a batch of ``count`` images with ``questions`` each, in milliseconds per image.

    The peer runs the whole model once per question, as T2I-CompBench's script does.
    """
    images = [smooth_image(512, seed) for seed in range(count)]
    asked = [f"a {adjective} {noun}?" for adjective in ("red", "big", "white", "near") for noun in ("dog", "bus")][:questions]

    @torch.inference_mode()
    def ours() -> None:
        blip.probability_of_yes(images, [asked] * count)

    @torch.inference_mode()
    def peer() -> None:
        for question in asked:
            blip.probability_of_yes(images, [[question]] * count)

    seconds, full = in_turns([ours, peer], blip.load(), repetitions=2)
    return [Timing("blip-vqa", 1e3 * seconds / count, 1e3 * full / count, "ms")]
