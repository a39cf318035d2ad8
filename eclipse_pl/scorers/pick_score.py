"""PickScorer and HpsScorer: models that were trained on people's choices between images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.scorers.clip_towers import OpenClip, TransformersClip
from eclipse_pl.scorers.network_scorer import NetworkScorer
from eclipse_pl.scorers.scorer import Score


class PickScorer(NetworkScorer):
    """PickScore (Kirstain et al., 2023): exp(logit scale) times the cosine.

    Only scores of one prompt can be compared. `preference.prefer` computes the number to report.

    Args:
        path: Folder or hub id of the weights (``yuvalkirstain/PickScore_v1``).
        processor: Folder or hub id of tokenizer and image processor (``laion/CLIP-ViT-H-14-laion2B-s32B-b79K``). The default
            is ``path``.
        batch_size: Images scored at a time.
        **options: Those of PretrainedNetwork.
    """

    def __init__(self, path: str, processor: str | None = None, batch_size: int = 32, **options: Any) -> None:
        self.clip = TransformersClip(path, processor, **options)
        super().__init__([self.clip], batch_size)

    @property
    def name(self) -> str:
        return f"pick_score[{self.clip.name}]"

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        scores = self.clip.scale * self.clip.cosines(images, [prompt.text for prompt in prompts])
        return [Score(score) for score in scores.tolist()]


class HpsScorer(NetworkScorer):
    """HPS v2.1 (Wu et al., 2023): the cosine of a ViT-H/14. Others print it times 100.

    Versions 2.0 and 2.1 are not comparable, so the scorer's name includes the checkpoint.

    Args:
        checkpoint: ``HPS_v2.1_compressed.pt`` of the hub's ``xswu/HPSv2``, loaded with ``weights_only=True``.
        model: The name of its architecture in open_clip.
        batch_size: Images scored at a time.
        device: ``auto`` takes a GPU where there is one.
    """

    def __init__(self, checkpoint: str, model: str = "ViT-H-14", batch_size: int = 32, device: str = "auto") -> None:
        file = Path(checkpoint).expanduser()
        if not file.is_file():
            raise ValueError(
                f"There is no file {checkpoint}. Download HPS's checkpoint: "
                "`hf download xswu/HPSv2 HPS_v2.1_compressed.pt --local-dir FOLDER`."
            )
        self.clip = OpenClip(model, str(file), device)
        super().__init__([self.clip], batch_size)

    @property
    def name(self) -> str:
        return f"hps[{Path(self.clip.pretrained or '').stem}]"

    def score_batch(self, images: list[Image.Image], prompts: list[Prompt]) -> list[Score]:
        return [Score(cosine) for cosine in self.clip.cosines(images, [prompt.text for prompt in prompts]).tolist()]
