"""What each of two processes does in `test_distribution`; apart, so that they begin without the libraries of other tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, distributed, nn

from eclipse_pl.scorers.feature_extractors import FeatureExtractor
from eclipse_pl.scorers.features import extract, gather_features


class Means(nn.Module):
    """Mean colour of each quarter."""

    num_features = 12

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.uint8
        return nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)


class ModuleFeatures(FeatureExtractor):
    """Features by a module, under a name."""

    name = version = ""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__("cpu")
        self.module, self.name, self.version = module, name, name

    def build(self) -> nn.Module:
        return self.module


def images(n: int = 5) -> dict[str, Path | Image.Image]:
    rng = np.random.default_rng(0)
    return {f"{i}.png": Image.fromarray(rng.integers(0, 256, (40 + 20 * (i % 2), 40, 3), dtype=np.uint8)) for i in range(n)}


def run(rank: int, folder: str) -> None:
    """Uneven shares with one image on both ranks; then all on one rank and none on the other."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    shown, extractor = list(images(7).items()), ModuleFeatures(Means(), "means")
    for number, share in enumerate((shown[:5] if rank == 0 else shown[4:], shown if rank == 0 else [])):
        gather_features(extract(dict(share), extractor)[0]).save(Path(folder) / f"{number}-of-rank{rank}")
    distributed.destroy_process_group()
