"""The baselines, and ridge regression against its closed form and on real pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn import functional as F

from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition
from eclipse_pl.priors import LinearPrior, MeanImagePrior, Prior, TextAsImagePrior
from tests.helpers.real_data import RealData


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make_batch(text_embed: Tensor, image_embed: Tensor) -> EmbeddingBatch:
    """Pairs without token states."""
    pairs, dim = text_embed.shape
    text = TextCondition(text_embed, torch.zeros(0, dim), torch.zeros(pairs, dtype=torch.long))
    return EmbeddingBatch(text, image_embed, torch.arange(pairs))


def make_space(image_embed: Tensor) -> ClipSpace:
    dim = image_embed.shape[1]
    return ClipSpace("tiny", dim, dim, 77, "tiny", False, image_embed.mean(0), image_embed.std(0))


def linear_pairs(pairs: int = 200, dim: int = 5, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    text = torch.randn(pairs, dim, generator=draw) * torch.linspace(0.5, 2, dim) + 1
    image = text @ torch.randn(dim, dim, generator=draw) + 3 + noise * torch.randn(pairs, dim, generator=draw)
    return text, image


def fitted(prior: LinearPrior, text: Tensor, image: Tensor, batch: int = 64) -> LinearPrior:
    for start in range(0, len(text), batch):
        prior.accumulate(make_batch(text[start : start + batch], image[start : start + batch]))
    prior.solve()
    return prior


@pytest.mark.parametrize("baseline", [TextAsImagePrior, MeanImagePrior])
def test_baselines(baseline: type[Prior]) -> None:
    text, image = linear_pairs()
    batch, prior = make_batch(text, image), baseline(make_space(image))
    expected = text if baseline is TextAsImagePrior else image.mean(0).expand(200, 5)
    torch.testing.assert_close(prior.sample(batch.text), expected)
    losses = prior.losses(batch)
    torch.testing.assert_close(losses["total"], F.mse_loss(expected, image))
    assert not list(prior.parameters())


def test_ridge_is_the_textbook_solution() -> None:
    text, image = linear_pairs()
    prior = fitted(LinearPrior(make_space(image), ridge=0.3), text, image)
    x, y = text.double() - text.double().mean(0), image.double() - image.double().mean(0)
    penalty = 0.3 * x.square().sum() / 5
    weight = torch.linalg.solve(x.T @ x + penalty * torch.eye(5, dtype=torch.float64), x.T @ y)
    expected = (text.double() - text.double().mean(0)) @ weight + image.double().mean(0)
    torch.testing.assert_close(prior.sample(make_batch(text, image).text).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pairs", [40, 12])  # of few pairs the degrees of freedom choose another penalty
def test_generalised_cross_validation_is_the_written_out_one(pairs: int) -> None:
    """GCV needs the residuals and the trace of the hat matrix; ours has only the moments."""
    text, image = linear_pairs(pairs, noise=2.0)
    prior = fitted(LinearPrior(make_space(image)), text, image)
    x, y = text.double() - text.double().mean(0), image.double() - image.double().mean(0)
    errors = {}
    for ridge in np.logspace(-6, 2, 65):
        gram = x.T @ x + ridge * x.square().sum() / 5 * torch.eye(5, dtype=torch.float64)
        hat = x @ torch.linalg.solve(gram, x.T) + 1 / pairs
        errors[float(ridge)] = float((y - hat @ y).square().sum() / (1 - hat.trace() / pairs) ** 2)
    assert prior.chosen_ridge == pytest.approx(min(errors, key=lambda ridge: errors[ridge]), rel=1e-6)
    assert 1e-6 < prior.chosen_ridge < 100


def test_more_dimensions_than_pairs() -> None:
    draw = torch.Generator().manual_seed(0)
    text, image = torch.randn(20, 64, generator=draw), torch.randn(20, 64, generator=draw)
    prior = fitted(LinearPrior(make_space(image)), text, image)
    unseen = prior.sample(make_batch(torch.randn(50, 64, generator=draw), image[:1].expand(50, -1)).text)
    # There is nothing to learn from noise: better than the mean image on the fitted pairs would be overfitting.
    assert (unseen - image.mean(0)).square().mean() < 0.5 * image.var()


@pytest.mark.parametrize("scale", [1.0, 0.1, 14.347])
def test_constant_text_gives_the_mean_image(scale: float) -> None:
    text, image = scale * torch.linspace(1, 2, 4).expand(30, 4), torch.randn(30, 4) + 60
    prior = fitted(LinearPrior(make_space(image)), text, image)
    torch.testing.assert_close(prior.sample(make_batch(text, image).text), image.mean(0).expand(30, 4), atol=1e-5, rtol=1e-5)
    assert prior.weight.abs().max() == 0


def test_batches_do_not_matter() -> None:
    text, image = linear_pairs()
    one, other = (fitted(LinearPrior(make_space(image)), text, image, batch) for batch in (200, 7))
    torch.testing.assert_close(one.weight, other.weight, atol=1e-6, rtol=1e-5)


def test_training_loop_fits_it_in_one_epoch() -> None:
    """`losses` in training mode and `end_of_epoch` are all that a training loop calls."""
    text, image = linear_pairs()
    prior, batch = LinearPrior(make_space(image)), make_batch(text, image)
    before = prior.losses(batch)["total"]
    torch.testing.assert_close(before, F.mse_loss(image.mean(0).expand_as(image), image))
    prior.end_of_epoch()
    prior.eval()
    after = prior.losses(batch)["total"]
    assert after < 0.02 * before
    first_epoch = prior.weight.clone()
    prior.train()
    prior.losses(batch)
    prior.end_of_epoch()
    torch.testing.assert_close(prior.weight, first_epoch, atol=0, rtol=0)


def test_interrupted_pass_continues_from_its_state() -> None:
    text, image = linear_pairs()
    whole = fitted(LinearPrior(make_space(image)), text, image, 100)
    first, second = LinearPrior(make_space(image)), LinearPrior(make_space(image))
    first.losses(make_batch(text[:100], image[:100]))
    second.load_state_dict(first.state_dict())
    second.losses(make_batch(text[100:], image[100:]))
    second.end_of_epoch()
    torch.testing.assert_close(second.weight, whole.weight, atol=0, rtol=0)


def test_too_few_pairs() -> None:
    _, image = linear_pairs()
    with pytest.raises(ValueError, match="was given 0 pairs"):
        LinearPrior(make_space(image)).end_of_epoch()


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_ridge(ridge: float) -> None:
    with pytest.raises(ValueError, match="it must be above 0"):
        LinearPrior(make_space(torch.randn(4, 4)), ridge=ridge)


def _one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    text, image = linear_pairs()
    rows = slice(0, 130) if rank == 0 else slice(130, None)
    shared, alone = LinearPrior(make_space(image)), LinearPrior(make_space(image))
    shared.losses(make_batch(text[rows], image[rows]))
    shared.end_of_epoch()
    # Every rank has seen all pairs here, so nothing must be shared.
    alone.accumulate(make_batch(text, image))
    alone.solve()
    torch.save([shared.weight, alone.weight], f"{folder}/weights{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.processes
def test_ranks_share_their_moments(tmp_path: Path) -> None:
    multiprocessing.spawn(_one_rank, args=(str(tmp_path),), nprocs=2)
    text, image = linear_pairs()
    alone = fitted(LinearPrior(make_space(image)), text, image)
    for rank in range(2):
        for weight in torch.load(tmp_path / f"weights{rank}.pt", weights_only=True):
            torch.testing.assert_close(weight, alone.weight, atol=1e-6, rtol=1e-6)


@pytest.mark.long
def test_real_pairs(real_data: RealData) -> None:
    """500 MSCOCO pairs of ViT-B/16, 400 to fit and 100 to test, mean of 10 splits: (cosine, R@1 among the 100)."""
    arrays = np.load(real_data("coco500/coco500_clip_vitb16.npz"), allow_pickle=False)
    text, image = torch.from_numpy(arrays["text_embed"]), torch.from_numpy(arrays["image_embed"])
    rng = np.random.default_rng(0)
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in range(10):
        train, test = torch.from_numpy(rng.permutation(500)).split([400, 100])
        space = make_space(image[train])
        ridge = fitted(LinearPrior(space), text[train], image[train])
        for prior in (TextAsImagePrior(space), MeanImagePrior(space), ridge):
            prediction = prior.sample(make_batch(text[test], image[test]).text)
            cosines = F.normalize(prediction, dim=1) @ F.normalize(image[test], dim=1).T
            first = (cosines.argmax(1) == torch.arange(100)).float().mean()
            rows.setdefault(type(prior).__name__, []).append((float(cosines.diag().mean()), float(first)))
    means = {name: np.mean(values, axis=0) for name, values in rows.items()}
    assert means["TextAsImagePrior"] == pytest.approx([0.31, 0.71], abs=0.02)
    assert means["MeanImagePrior"] == pytest.approx([0.73, 0.01], abs=0.01)
    assert means["LinearPrior"] == pytest.approx([0.81, 0.21], abs=0.015)
