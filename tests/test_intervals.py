"""Intervals against published tables, against the density, and by how often they cover the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse_pl.intervals import LEVEL, bootstrap_interval, bootstrap_over_groups, mean_interval, t_central, t_quantile

NODES, WEIGHTS = np.polynomial.legendre.leggauss(100)

# Abramowitz & Stegun, Table 26.10: two-sided 95 %
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize(("degrees", "quantile"), TABLE.items())
def test_quantiles_are_those_of_the_published_table(degrees, quantile):
    assert t_quantile(0.975, degrees) == pytest.approx(quantile, abs=5e-4)


@given(degrees=st.integers(1, 60), t=st.floats(0.01, 20))
@settings(deadline=None, max_examples=50)
def test_the_series_is_the_integral_of_the_density(degrees, t):
    points = t * (NODES + 1) / 2
    log_norm = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
    density = np.exp(log_norm - (degrees + 1) / 2 * np.log1p(points**2 / degrees))
    assert t_central(t, degrees) == pytest.approx(t * (WEIGHTS * density).sum(), abs=1e-9)


@given(degrees=st.integers(1, 200), probability=st.floats(0.51, 0.9999))
@settings(deadline=None, max_examples=50)
def test_the_quantile_inverts_the_probability(degrees, probability):
    assert t_central(t_quantile(probability, degrees), degrees) == pytest.approx(2 * probability - 1, abs=1e-12)


def test_many_degrees_are_nearly_normal():
    assert t_quantile(0.975, 100_000) == pytest.approx(1.959964, abs=1e-4)


def test_an_interval_by_hand():
    estimate = mean_interval([1.0, 2.0, 3.0])
    assert (estimate.mean, estimate.n) == (2, 3)
    assert estimate.high - 2 == pytest.approx(TABLE[2] / math.sqrt(3), abs=1e-3)
    assert estimate.excludes_zero is (estimate.low > 0)


def test_one_value_has_no_interval_and_nan_or_equal_ones_have_none():
    assert mean_interval([0.999, 0.999 + 1e-7]).has_interval
    assert not mean_interval([0.999, 0.999 + 1e-7], resolution=1e-6).has_interval
    for values in ([0.5], [0.5, math.nan], [0.5, 0.5, 0.5]):
        estimate = mean_interval(values)
        assert not estimate.has_interval
        assert not estimate.excludes_zero
        assert estimate.n == len(values)
    assert math.isnan(mean_interval([0.5, math.nan]).mean)


@given(n=st.integers(2, 8), mean=st.floats(-3, 3), deviation=st.floats(0.01, 10), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=15)
def test_the_interval_covers_the_truth_as_often_as_it_says(n, mean, deviation, seed):
    trials = 2000
    draws = np.random.default_rng(seed).normal(mean, deviation, (trials, n))
    covered = sum(one.low <= mean <= one.high for one in (mean_interval(row) for row in draws.tolist()))
    # five standard deviations of the number of hits: about one false alarm in a million examples
    assert abs(covered / trials - LEVEL) < 5 * math.sqrt(LEVEL * (1 - LEVEL) / trials)


@given(seed=st.integers(0, 2**32 - 1), rate=st.floats(0.2, 0.8))
@settings(deadline=None, max_examples=10)
def test_the_bootstrap_covers_the_truth_nearly_as_often(seed, rate):
    rng = np.random.default_rng(seed)
    trials, pairs = 400, 300
    won = rng.choice([0.0, 0.5, 1.0], size=(trials, pairs), p=[1 - rate, 0.0, rate])
    won[:, ::3] = 0.5
    truth = (2 * rate + 0.5) / 3
    covered = sum(one.low <= truth <= one.high for one in (bootstrap_interval(row, 500) for row in won))
    assert LEVEL - 0.08 < covered / trials <= 1


def test_the_bootstrap_depends_on_its_seed_alone():
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 200)
    first, again, other = (bootstrap_interval(values, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    shuffled = bootstrap_interval(np.random.default_rng(1).permutation(values))
    assert (shuffled.low, shuffled.high) == (first.low, first.high)
    assert first.low < values.mean() < first.high


def test_the_bootstrap_is_that_of_drawing_pairs():
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 100)
    drawn = np.random.default_rng(5).choice(values, (20_000, 100)).mean(1)
    estimate = bootstrap_interval(values, 20_000)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([estimate.low, estimate.high], abs=0.006)


def test_no_certainty_from_pairs_that_were_all_won():
    won, lost = bootstrap_interval(np.ones(50)), bootstrap_interval(np.zeros(50))
    assert (won.mean, won.high, lost.mean, lost.low) == (1, 1, 0, 0)
    assert lost.high == pytest.approx(1 - won.low)
    assert won.low == pytest.approx(0.025 ** (1 / 50))
    equal = bootstrap_interval(np.full(50, 0.5))
    assert equal.low == equal.high == 0.5
    assert not bootstrap_interval(np.ones(1)).has_interval


def test_rows_of_a_group_are_drawn_together():
    """Ten equal pictures of each prompt are worth one; and rows that stand alone are what they are without groups."""
    outcomes = np.random.default_rng(0).integers(0, 2, 100).astype(float)
    names = [f"p{i}" for i in range(100)]
    one, ten = (
        bootstrap_over_groups(outcomes, names),
        bootstrap_over_groups(np.repeat(outcomes, 10), list(np.repeat(names, 10))),
    )
    assert (ten.mean, ten.n) == (one.mean, one.n) == (outcomes.mean(), 100)
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high), abs=0.011)
    alone = bootstrap_interval(np.repeat(outcomes, 10))
    assert alone.high - alone.low < 0.4 * (ten.high - ten.low)
    # groups come in the order of their names, whose draws differ from those of the rows
    assert (one.low, one.high) == pytest.approx(
        (bootstrap_interval(outcomes).low, bootstrap_interval(outcomes).high), abs=0.011
    )


def test_larger_groups_weigh_more():
    estimate = bootstrap_over_groups(np.array([1.0, 0.0, 0.0, 0.0, 1.0]), ["a", "b", "b", "b", "b"])
    assert (estimate.mean, estimate.low, estimate.high, estimate.n) == (0.4, 0.25, 1.0, 2)
    values, names = np.random.default_rng(1).random(60), [str(i // 3) for i in range(60)]
    first, again, other = (bootstrap_over_groups(values, names, seed=seed) for seed in (3, 3, 4))
    assert first == again != other and first.low < first.mean < first.high


def test_groups_that_all_won_leave_a_doubt():
    won = bootstrap_over_groups(np.ones(100), [str(i // 2) for i in range(100)])
    assert (won.low, won.high, won.n) == (bootstrap_interval(np.ones(50)).low, 1.0, 50)
    assert not bootstrap_over_groups(np.array([0.0, 1.0]), ["a", "a"]).has_interval
