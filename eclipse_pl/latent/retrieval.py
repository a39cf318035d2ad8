from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from eclipse_pl.data.chunk import image_numbers


class Gallery:
    """The images of a split, in which each prediction searches for its own.

    Pairs of one group show one image, and a match with any of them counts. Equal rows of image embeddings are one candidate.

    Args:
        image_embed: Image embeddings of all pairs of the split, in the type of the shards. Different rows are kept.
        group: Group of each pair; equal if pairs show one image.
        device: Device that computes similarities.
    """

    def __init__(
        self, image_embed: Float[Tensor, "pairs dim"], group: Int[Tensor, " pairs"], device: torch.device | str = "cpu"
    ) -> None:
        _, first, candidate = np.unique(image_numbers(image_embed.cpu().numpy()), return_index=True, return_inverse=True)
        self.images = image_embed.cpu()[torch.from_numpy(first)].to(device)
        _, self.group = torch.unique(group.cpu(), return_inverse=True)
        """Group of each pair, counted from 0."""
        # every candidate of every group, group by group
        shown = torch.unique(torch.stack([self.group, torch.from_numpy(candidate)], dim=1), dim=0)
        self.shown = shown[:, 1]
        self.counts = torch.bincount(shown[:, 0])
        self.starts = self.counts.cumsum(0) - self.counts

    def ranks(
        self, predicted: Float[Tensor, "rows dim"], pairs: Int[Tensor, " rows"], rows: int = 1024, candidates: int = 4096
    ) -> Float[Tensor, " rows"]:
        """Number of candidates of other images that are nearer to each prediction than its own image.

        Distance is by cosine, and ties count half.

        ``pairs`` are the predictions' places among the pairs of the split. At most ``rows`` by ``candidates`` similarities are
        held at a time. NaN if a prediction is not finite.
        """
        device = self.images.device
        with exact(device):
            blocks = zip(predicted.split(rows), pairs.split(rows), strict=True)
            return torch.cat([self._ranks(block.to(device), numbers.cpu(), candidates) for block, numbers in blocks]).cpu()

    def _ranks(self, predicted: Tensor, pairs: Tensor, candidates: int) -> Tensor:
        predicted = normalize(predicted.float(), dim=-1)
        rows, columns = self._own(pairs)
        row, column = rows.to(predicted.device), columns.to(predicted.device)
        similarity = (predicted[row] * self._unit(column)).sum(-1).cpu()  # scattering on a GPU is not deterministic
        own = torch.full((len(pairs),), -torch.inf).scatter_reduce(0, rows, similarity, "amax").to(predicted)[:, None]
        total = torch.zeros_like(own[:, 0])
        for start in range(0, len(self.images), candidates):
            block = predicted @ self._unit(slice(start, start + candidates)).T
            inside = (column >= start) & (column < start + candidates)
            block[row[inside], column[inside] - start] = -torch.inf  # the own image does not count as nearer
            # the sum of (1 + sign) / 2: 1 for each nearer candidate, 0.5 for each tie
            total += (block.shape[1] + block.sub_(own).sign_().sum(-1)) / 2
        return total.where(predicted.isfinite().all(-1), torch.nan)

    def _own(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """(row, candidate) for every candidate with the image of the pair in that row."""
        group = self.group[pairs]
        counts = self.counts[group]
        row = torch.arange(len(pairs)).repeat_interleave(counts)
        within = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
        return row, self.shown[self.starts[group][row] + within]

    def _unit(self, places: Tensor | slice) -> Tensor:
        return normalize(self.images[places].float(), dim=-1)


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Matrix products in full float32. The three digits of TF32 would change the ranks."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
