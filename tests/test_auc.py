"""AUC against its definition, and its interval: exact at the ends, and right by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.intervals import EXACT, STUDENTISED, TOO_FEW, t_quantile
from eclipse_pl.scorers.auc import auc

SCORES = st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0, 7.0])] * 2), min_size=2, max_size=12)


@given(SCORES)
def test_it_is_the_probability_of_the_right_order(pairs: list[tuple[float, float]]) -> None:
    high, low = np.array(pairs).T
    counted = np.mean([[1.0 if one > other else 0.5 if one == other else 0.0 for other in low] for one in high])
    estimate = auc(high, low)
    assert estimate.mean == pytest.approx(counted) and auc(low, high).mean == pytest.approx(1 - counted)
    assert auc(np.exp(high), np.exp(low)).mean == pytest.approx(counted), "only the order counts"
    assert not estimate.has_interval or 0 <= estimate.low <= estimate.mean <= estimate.high <= 1


def test_scores_that_never_overlap_have_an_exact_interval() -> None:
    estimate = auc(np.linspace(2, 3, 40), np.linspace(0, 1, 40))
    assert (estimate.mean, estimate.high, estimate.method) == (1.0, 1.0, EXACT)
    assert estimate.low == pytest.approx(0.025 ** (1 / 40))
    assert auc(np.zeros(40), np.ones(40)).high == pytest.approx(1 - 0.025 ** (1 / 40))


def test_the_interval_is_as_wide_as_leaving_out_one_image_at_a_time_says() -> None:
    """The jackknife. What images have in common moves both of their scores, and tells the captions apart no worse."""
    rng, n = np.random.default_rng(0), 120
    image = rng.normal(0, 1, n)
    own, other = image + rng.normal(0.3, 0.3, n), image + rng.normal(0, 0.3, n)
    areas = np.array([auc(np.delete(own, one), np.delete(other, one)).mean for one in range(n)])
    error = np.sqrt((n - 1) / n * np.square(areas - areas.mean()).sum())
    estimate = auc(own, other)
    assert estimate.high - estimate.low == pytest.approx(2 * t_quantile(n - 1) * error, rel=0.1)


def test_few_images_have_no_interval() -> None:
    assert auc(np.array([1.0, 0.0, 2.0]), np.array([0.5, 0.5, 3.0])).method == TOO_FEW
    constant = auc(np.ones(50), np.ones(50))
    assert constant.mean == 0.5 and not constant.has_interval


@pytest.mark.long
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_cover_the_truth(shift: float) -> None:
    """Scores of one image are alike, and one normal distribution is ``shift`` above the other."""
    from scipy.stats import norm

    truth = norm.cdf(shift / 2**0.5)
    rng = np.random.default_rng(0)
    covered, widths = 0, []
    for _ in range(80):
        image = rng.normal(0, 0.6**0.5, 60)
        own, other = (image + rng.normal(mean, 0.4**0.5, 60) for mean in (shift, 0))
        estimate = auc(own, other)
        assert estimate.method == STUDENTISED
        covered += estimate.low <= truth <= estimate.high
        widths.append(estimate.high - estimate.low)
    assert covered >= 0.9 * 80 and np.mean(widths) < 0.25
