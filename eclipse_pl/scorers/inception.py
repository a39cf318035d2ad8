"""The Inception-v3 of FID: the 2015 TensorFlow graph, in torchvision's blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 299


def fid_inception(weights: str | Path) -> nn.Module:
    """Build the network: (images, 3, height, width) uint8 -> (images, 2048), the pooled features.

    Args:
        weights: Safetensors or torch file (read with ``weights_only=True``) of the converted graph, as torch-fidelity and
            pytorch-fid publish it (``weights-inception-2015-12-05-6726825d.pth``). torchvision's weights belong to another
            network and give other numbers.
    """
    from torchvision.models.inception import BasicConv2d, Inception3, InceptionAux

    network = Inception3(1008, False, False, [BasicConv2d, *_blocks(), InceptionAux], init_weights=False)
    network.Mixed_7c.pool = _max_pool
    try:
        network.load_state_dict(_read(Path(weights).expanduser()))
    except RuntimeError as error:
        raise ValueError(
            f"{weights} does not hold the Inception-v3 of FID ({str(error).splitlines()[-1].strip()}). Use the converted "
            "graph: weights-inception-2015-12-05-6726825d.pth of torch-fidelity, or pt_inception-2015-12-05-6726825d.pth of "
            "pytorch-fid."
        ) from error
    network.fc = nn.Identity()
    return _Preprocessed(network)


class _Preprocessed(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: UInt8[Tensor, "images 3 height width"]) -> Float[Tensor, "images 2048"]:
        return self.network((resize_like_tensorflow_1(images.float(), SIDE) - 128) / 128)


def resize_like_tensorflow_1(images: Float[Tensor, "images 3 height width"], side: int) -> Float[Tensor, "images 3 side side"]:
    """Resize bilinearly from the corners of pixels, not their centres, as in the published numbers."""
    for axis in (2, 3):
        length = images.shape[axis]
        place = torch.arange(side, device=images.device) * (length / side)
        low = place.floor().long()
        high = (low + 1).clamp(max=length - 1)
        part = (place - low).view(-1, 1) if axis == 2 else place - low
        images = torch.lerp(images.index_select(axis, low), images.index_select(axis, high), part)
    return images


def _blocks() -> list[type[nn.Module]]:
    """Return torchvision's blocks A to E. Their average pools leave the padding out, as the graph's do."""
    from torchvision.models.inception import InceptionA, InceptionB, InceptionC, InceptionD, InceptionE

    def pooling(block: Any) -> Any:
        class Pooling(block):
            pool: Callable[[Tensor], Tensor] = staticmethod(_average_pool)

            def _forward(self, x: Tensor) -> list[Tensor]:
                return [*super()._forward(x)[:-1], self.branch_pool(self.pool(x))]

        return Pooling

    return [pooling(InceptionA), InceptionB, pooling(InceptionC), InceptionD, pooling(InceptionE)]


def _average_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _max_pool(x: Tensor) -> Tensor:
    """Pool as the graph's last block does. It is a slip in the graph, and all published numbers contain it."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ValueError(f"There is no file {path} with the weights of FID's Inception-v3.")
    try:
        return load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, SafetensorError) as error:
        raise ValueError(
            f"{path} cannot be read safely: it is damaged, or holds pickled objects, which are never loaded."
        ) from error
