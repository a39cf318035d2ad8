"""Retrieval against the plain formula, and what it takes for one image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity

from eclipse_pl.latent.retrieval import Gallery


def plain(predicted: Tensor, image: Tensor, group: Tensor) -> list[float]:
    """Pair by pair, in float64: every different image that the pair's group does not show, against the best that it shows."""
    candidates = {tuple(row): row for row in image.tolist()}
    ranks = []
    for row, embed in enumerate(predicted.double()):
        shown = {tuple(image[other].tolist()) for other in range(len(image)) if group[other] == group[row]}
        cosine = {
            key: float(cosine_similarity(embed, torch.tensor(value, dtype=torch.float64), dim=0))
            for key, value in candidates.items()
        }
        own = max(cosine[key] for key in shown)
        ranks.append(sum((value > own) + (value == own) / 2 for key, value in cosine.items() if key not in shown))
    return ranks


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    pairs=st.integers(1, 30),
    images=st.integers(1, 12),
    groups=st.integers(1, 12),
    rows=st.integers(1, 9),
    candidates=st.integers(1, 9),
)
def test_ranks_are_those_of_the_plain_formula(
    seed: int, pairs: int, images: int, groups: int, rows: int, candidates: int
) -> None:
    """Any images in any groups, some of them shared, searched in blocks of any size."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(images, 6, generator=generator).half()[torch.randint(images, (pairs,), generator=generator)]
    group = torch.randint(groups, (pairs,), generator=generator) * 10**15
    predicted = torch.randn(pairs, 6, generator=generator)
    found = Gallery(image, group).ranks(predicted, torch.arange(pairs), rows, candidates)
    assert found.tolist() == plain(predicted, image, group)
    some = torch.randperm(pairs, generator=generator)[: pairs // 2 + 1]  # what a rank predicted, in its own order
    assert Gallery(image, group).ranks(predicted[some], some, rows, candidates).tolist() == found[some].tolist()


def test_five_captions_of_one_image() -> None:
    image = torch.eye(3).half().repeat_interleave(5, dim=0)
    group = torch.arange(3).repeat_interleave(5)
    gallery = Gallery(image, group)
    assert len(gallery.images) == 3, "equal rows are one candidate"
    assert gallery.ranks(image.float(), torch.arange(15)).tolist() == [0] * 15
    other = image.float().roll(5, 0) + 0.1 * image.float()
    assert gallery.ranks(other, torch.arange(15)).tolist() == [1] * 15, "one wrong image, and not five"


def test_another_embedding_of_the_same_image_is_no_mistake() -> None:
    """Such as the flipped image, or the same one encoded on another device."""
    image = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]).half()
    predicted = torch.tensor([[0.9, 0.1]]).expand(3, 2)
    assert Gallery(image, torch.tensor([0, 0, 1])).ranks(predicted, torch.arange(3)).tolist() == [0, 0, 2]
    assert Gallery(image, torch.tensor([0, 1, 2])).ranks(predicted, torch.arange(3)).tolist() == [1, 0, 2]


def test_ties_count_half() -> None:
    image = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).half()
    assert Gallery(image, torch.arange(9)).ranks(torch.zeros(9, 4), torch.arange(9)).tolist() == [4] * 9


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_finds_nothing(value: float) -> None:
    image = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).half()
    predicted = image.float().clone()
    predicted[3, 1] = value
    ranks = Gallery(image, torch.arange(9)).ranks(predicted, torch.arange(9))
    assert ranks[3].isnan() and ranks[[0, 1, 2, 4, 5, 6, 7, 8]].tolist() == [0] * 8


def test_precision_of_products_is_that_of_the_training_afterwards() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        image = torch.eye(3).half()
        Gallery(image, torch.arange(3)).ranks(image.float(), torch.arange(3))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
