"""NearestNeighbourPrior: a bank that is filled in one pass, kept in checkpoints, and looked up by cosine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eclipse_pl.loading import load_prior
from eclipse_pl.priors import LinearPrior, NearestNeighbourPrior
from tests.helpers.saved_runs import write_run
from tests.test_baselines import linear_pairs, make_batch, make_space


def filled(bank: int, batch: int = 30) -> NearestNeighbourPrior:
    text, image = linear_pairs()
    prior = NearestNeighbourPrior(make_space(image), bank=bank).train()
    for start in range(0, len(text), batch):
        prior.losses(make_batch(text[start : start + batch], image[start : start + batch]))
    prior.end_of_epoch()
    return prior


@pytest.mark.parametrize("bank", [1000, 200, 50])
def test_the_image_of_the_most_similar_caption(bank: int) -> None:
    text, image = linear_pairs()
    asked = torch.randn(20, 5, generator=torch.Generator().manual_seed(3))
    cosines = torch.nn.functional.cosine_similarity(asked[:, None], text[None, :bank].half().float(), dim=2)
    expected = image.half().float()[cosines.argmax(1)]
    predicted = filled(bank).sample(make_batch(asked, asked).text)
    assert torch.equal(predicted, expected)
    assert torch.equal(filled(bank).sample(make_batch(7 * asked, asked).text), expected)


@pytest.mark.parametrize("kind", [NearestNeighbourPrior, LinearPrior])
def test_autocast_changes_no_prediction(kind: type[NearestNeighbourPrior] | type[LinearPrior]) -> None:
    """Many captions are nearly as near as the nearest one."""
    text = torch.nn.functional.normalize(torch.randn(400, 5, generator=torch.Generator().manual_seed(4)), dim=1)
    image = torch.randn(400, 5, generator=torch.Generator().manual_seed(5))
    prior, batch = kind(make_space(image)).train(), make_batch(text, image)
    prior.losses(batch)
    prior.end_of_epoch()
    prior.eval()
    expected, loss = prior.sample(batch.text), prior.losses(batch)["total"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(prior.sample(batch.text), expected)
        assert torch.equal(prior.losses(batch)["total"], loss)


def test_before_the_end_of_a_pass_it_is_the_mean() -> None:
    text, image = linear_pairs()
    prior, batch = NearestNeighbourPrior(make_space(image)).train(), make_batch(text, image)
    expected = (image - image.mean(0)).square().mean()
    for _ in range(2):
        torch.testing.assert_close(prior.losses(batch)["total"], expected)
    prior.end_of_epoch()
    prior.eval()
    for _ in range(2):  # validation adds nothing
        assert prior.losses(batch)["total"] < 1e-3
        assert prior.kept.tolist() == [0, 400]


def test_another_pass_begins_a_new_bank() -> None:
    text, image = linear_pairs()
    prior = filled(1000)
    prior.losses(make_batch(text[:10], image[:10]))
    assert prior.kept.tolist() == [10, 0]
    prior.end_of_epoch()
    assert prior.kept.tolist() == [0, 10]


def test_the_bank_is_in_checkpoints(tmp_path: Path) -> None:
    prior = filled(50)
    run = write_run(tmp_path / "run", prior, {"bank": 50})
    text = make_batch(*linear_pairs()).text
    for again in (load_prior(str(run)), NearestNeighbourPrior(prior.space, bank=50, weights=str(run))):
        assert torch.equal(again.sample(text), prior.sample(text))
    with pytest.raises(ValueError, match="of another shape"):
        NearestNeighbourPrior(prior.space, bank=60, weights=str(run))


def test_an_empty_bank_is_refused() -> None:
    with pytest.raises(ValueError, match="bank is 0; it must be 1 or more"):
        NearestNeighbourPrior(make_space(linear_pairs()[1]), bank=0)
