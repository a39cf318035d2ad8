"""Batches in buckets: padding changes neither losses nor gradients nor samples, and shapes repeat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from eclipse_pl.embedding import EmbeddingBatch, TextCondition
from eclipse_pl.priors import DiffusionPrior, EclipsePrior, Prior
from eclipse_pl.speed.inputs import draw_lengths
from tests.helpers.every_prior import CONTEXT, SIZES, batch_of, build, cases
from tests.test_network import captions


def in_buckets(batch: EmbeddingBatch) -> EmbeddingBatch:
    """Its padding holds numbers that show wherever they are read."""
    text = batch.text.bucketed(CONTEXT)
    text.text_states[len(batch.text.text_states) :] = 50
    return replace(batch, text=text)


def results(prior: Prior, batch: EmbeddingBatch) -> list[Tensor]:
    """The losses, a sample, and the gradient as one vector, with the same random numbers each time."""
    torch.manual_seed(5)
    losses = prior.train().losses(batch)
    trained = [parameter for parameter in prior.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(losses["total"], trained, allow_unused=True) if trained else []
    gradient = torch.cat([torch.zeros(1), *(each.flatten() for each in gradients if each is not None)])
    return [*(loss.detach() for loss in losses.values()), prior.eval().sample(batch.text), gradient]


def require_equal(prior: Prior, batch: EmbeddingBatch, padded: EmbeddingBatch) -> None:
    expected = results(prior, batch)
    for one, other in zip(results(prior, padded), expected, strict=True):
        assert one.isfinite().all()
        assert (one - other).norm() <= 5e-6 * other.norm().clamp(min=1)  # sums of other lengths are rounded in another way


@pytest.mark.parametrize(("kind", "options"), cases())
def test_padding_changes_nothing(kind: type[Prior], options: dict[str, Any]) -> None:
    batch = batch_of([3, 0, CONTEXT, 5, 5])
    require_equal(build(kind, options), batch, in_buckets(batch))


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "options"), [(EclipsePrior, SIZES), (DiffusionPrior, SIZES | {"condition_dropout": 0.5, "steps": 2})]
)
@settings(max_examples=25)
@given(lengths=st.lists(st.integers(0, CONTEXT), min_size=1, max_size=5), known=st.booleans(), compiled=st.booleans())
@example(lengths=[CONTEXT] * 4, known=True, compiled=False)
@example(lengths=[0, 0], known=False, compiled=True)
@example(lengths=[5, 1, 9, 0], known=False, compiled=False)
def test_padding_changes_nothing_whatever_the_lengths(
    kind: type[Prior], options: dict[str, Any], lengths: list[int], known: bool, compiled: bool
) -> None:
    batch = batch_of(lengths)
    given_text = batch.text if known else replace(batch.text, bounds=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: compiled)  # dropped captions leave padding, then
        require_equal(build(kind, options), batch, in_buckets(replace(batch, text=given_text)))


@given(st.lists(st.integers(0, 77), min_size=1, max_size=200), st.booleans())
def test_a_bucket_is_little_larger_than_its_captions(lengths: list[int], known: bool) -> None:
    text = captions(lengths, 2)
    bucket = (replace(text, bounds=(min(lengths), max(lengths))) if known else text).bucketed(77)
    padding = len(bucket.text_states) - sum(lengths)
    assert 0 <= padding < max(64, len(lengths)) and len(bucket.text_states) % max(64, len(lengths)) == 0
    assert torch.equal(bucket.text_states[: sum(lengths)], text.text_states) and not bucket.text_states[sum(lengths) :].any()
    assert bucket.bounds is not None and bucket.bounds[0] <= min(lengths)
    assert max(lengths) <= bucket.bounds[1] <= min(77, max(lengths) + 7)


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("batch_size", [64, 256, 1024])
def test_shapes_repeat(batch_size: int, grouped: bool) -> None:
    """Without buckets the 200 batches have 26 shapes if they are grouped, and about 200 otherwise."""
    assert len(shapes(batch_size, grouped)) <= 15 < len(shapes(batch_size, grouped, bucketed=False))


def lengths_of(batches: int, batch_size: int, grouped: bool) -> np.ndarray:
    """Lengths of MSCOCO's captions in batches, sorted as in one window of the training order."""
    lengths = draw_lengths(batches * batch_size).numpy()
    return (np.sort(lengths) if grouped else lengths).reshape(batches, batch_size)


def shapes(batch_size: int, grouped: bool, bucketed: bool = True) -> set[tuple[int, tuple[int, int] | None]]:
    found = set()
    for lengths in lengths_of(200, batch_size, grouped):
        bounds = int(lengths.min()), int(lengths.max())
        text = TextCondition(torch.empty(batch_size, 1), torch.empty(lengths.sum(), 1), torch.from_numpy(lengths), bounds)
        text = text.bucketed(77) if bucketed else text
        found.add((len(text.text_states), text.bounds))
    return found
