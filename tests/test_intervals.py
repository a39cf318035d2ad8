"""Intervals against published tables and examples, against the density, and by what they must say in the plainest cases."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse_pl.intervals import (
    ALL_EQUAL,
    LEAST,
    LEVEL,
    TOO_FEW,
    Estimate,
    Groups,
    difference_interval,
    mean_interval,
    mean_of_independent,
    rate_interval,
    score_interval,
    t_quantile,
)

NODES, WEIGHTS = np.polynomial.legendre.leggauss(100)

# Abramowitz & Stegun, Table 26.10: two-sided 95 %
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize(("degrees", "quantile"), TABLE.items())
def test_quantiles_are_those_of_the_published_table(degrees, quantile):
    assert t_quantile(degrees) == pytest.approx(quantile, abs=5e-4)


@given(degrees=st.integers(1, 200))
@settings(deadline=None, max_examples=50)
def test_the_density_up_to_the_quantile_has_the_level_as_its_integral(degrees):
    t = t_quantile(degrees)
    points = t * (NODES + 1) / 2
    log_norm = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
    density = np.exp(log_norm - (degrees + 1) / 2 * np.log1p(points**2 / degrees))
    assert t * (WEIGHTS * density).sum() == pytest.approx(LEVEL, abs=1e-9)


def test_many_degrees_are_nearly_normal():
    assert t_quantile(100_000) == pytest.approx(1.959964, abs=1e-4)


def test_an_interval_by_hand():
    estimate = mean_interval([1.0, 2.0, 3.0])
    assert (estimate.mean, estimate.n) == (2, 3)
    assert estimate.high - 2 == pytest.approx(TABLE[2] / math.sqrt(3), abs=1e-3)
    assert estimate.excludes_zero is (estimate.low > 0)


@pytest.mark.parametrize(
    ("low", "high", "excluded"), [(0.0, 1.0, False), (-1.0, 0.0, False), (0.1, 1.0, True), (-1.0, -0.1, True)]
)
def test_an_interval_that_ends_at_zero_does_not_exclude_it(low, high, excluded):
    assert Estimate((low + high) / 2, low, high, 3).excludes_zero is excluded


def test_one_value_has_no_interval_and_nan_or_equal_ones_have_none():
    assert mean_interval([0.999, 0.999 + 1e-7]).has_interval
    assert not mean_interval([0.999, 0.999 + 1e-7], resolution=1e-6).has_interval
    for values in ([0.5], [0.5, math.nan], [0.5, 0.5, 0.5]):
        estimate = mean_interval(values)
        assert not estimate.has_interval
        assert not estimate.excludes_zero
        assert estimate.n == len(values)
    assert math.isnan(mean_interval([0.5, math.nan]).mean)


@pytest.mark.long
@given(n=st.integers(2, 8), mean=st.floats(-3, 3), deviation=st.floats(0.01, 10), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=15)
def test_the_interval_covers_the_truth_as_often_as_it_says(n, mean, deviation, seed):
    trials = 2000
    draws = np.random.default_rng(seed).normal(mean, deviation, (trials, n))
    covered = sum(one.low <= mean <= one.high for one in (mean_interval(row) for row in draws.tolist()))
    # five standard deviations of the number of hits: about one false alarm in a million examples
    assert abs(covered / trials - LEVEL) < 5 * math.sqrt(LEVEL * (1 - LEVEL) / trials)


# over groups


def single(values, groups=None):
    values = np.asarray(values, float)
    return score_interval([Groups.of(values[:, None], np.arange(len(values)) if groups is None else groups)])


def paired(first, second, groups=None):
    both = np.column_stack([first, second]).astype(float)
    return difference_interval([Groups.of(both, np.arange(len(both)) if groups is None else groups)])


def cells(both, first, second, neither):
    ours = [1] * (both + first) + [0] * (second + neither)
    return paired(ours, [1] * both + [0] * first + [1] * second + [0] * neither)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (8, 20, 0.1912, 0.6395),
        (45, 50, 0.7819, 0.9667),
    ],
)
def test_shares_have_the_exact_bounds_of_the_tables(hits, n, low, high):
    """Of Clopper and Pearson, as the F distribution gives them; and in Gaffke's form, by draws."""
    outcomes = [1] * hits + [0] * (n - hits)
    estimate = single(outcomes)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)
    assert (estimate.mean, estimate.n) == (hits / n, n)
    drawn = single(np.repeat(outcomes, 2), np.repeat(np.arange(n), 2))
    assert (drawn.low, drawn.high) == pytest.approx((low, high), abs=0.01)


def test_no_certainty_from_pairs_that_were_all_won():
    won, lost = single(np.ones(50)), single(np.zeros(50))
    assert (won.mean, won.high, lost.mean, lost.low) == pytest.approx((1, 1, 0, 0))
    assert won.low == pytest.approx(0.025 ** (1 / 50))
    assert lost.high == pytest.approx(1 - 0.025 ** (1 / 50))
    assert single([1]).method == TOO_FEW


def test_a_difference_of_shares_is_that_which_newcombe_published():
    """Statistics in Medicine 17 (1998) 2635, table III, method 10."""
    estimate = cells(36, 12, 2, 0)
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(lambda table: sum(table) > 1))
def test_differences_of_shares_are_by_newcombes_formula(table):
    """Of the four cells of a table of pairs, as the paper writes it."""
    a, b, c, d = table
    n = sum(table)
    product = (a + b) * (c + d) * (a + c) * (b + d)
    excess = a * d - b * c
    phi = (max(excess - n / 2, 0) if excess > 0 else excess) / math.sqrt(product) if product else 0.0
    (p, l1, u1), (q, l2, u2) = ((share, *wilson_roots(share, n)) for share in ((a + b) / n, (a + c) / n))
    low = p - q - math.sqrt(max(0, (p - l1) ** 2 - 2 * phi * (p - l1) * (u2 - q) + (u2 - q) ** 2))
    high = p - q + math.sqrt(max(0, (u1 - p) ** 2 - 2 * phi * (u1 - p) * (q - l2) + (q - l2) ** 2))
    estimate = cells(*table)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-7)


@pytest.mark.parametrize(
    ("first", "second", "sizes"),
    [
        # rows of a prompt that are alike, then half alike, then less alike than by chance: the fewest, some, all rows
        ([3, 0, 3, 0, 3], [3, 3, 0, 0, 0], (5, 5)),
        ([3, 1, 2, 1, 2], [0, 2, 1, 2, 1], (None, None)),
        ([1, 2, 1, 2, 1], [2, 1, 1, 2, 2], (15, 15)),
        ([3, 3, 3, 3, 3], [0, 2, 1, 2, 1], (5, None)),
    ],
)
def test_rows_of_prompts_count_as_the_independent_rows_that_vary_as_much(first, second, sizes):
    """Korn & Graubard (1998), by their formula: 5 prompts of 3 images, and how many of each are right."""
    n, images = 5, 3
    rows = [np.ravel([[1] * hits + [0] * (images - hits) for hits in counts]) for counts in (first, second)]
    estimate = paired(*rows, np.repeat(np.arange(n), images))
    bounds, shares = [], [np.mean(row) for row in rows]
    for counts, share, size in zip((first, second), shares, sizes, strict=True):
        design = np.var(np.array(counts) / images, ddof=1) / n
        if size is None:
            size = share * (1 - share) / design * (1.959964 / 2.776445) ** 2  # t of 4 degrees of freedom
            assert n < size < n * images
        bounds.append(wilson_roots(share, size))
    (p, q), ((l1, u1), (l2, u2)) = shares, bounds
    covariance = np.cov(first, second, bias=True)[0, 1] / images**2
    covariance = max(covariance - 1 / (2 * n), 0) if covariance > 0 else covariance
    deviations = np.std(first) * np.std(second) / images**2
    phi = covariance / deviations if deviations else 0
    assert estimate.low == pytest.approx(p - q - math.sqrt((p - l1) ** 2 - 2 * phi * (p - l1) * (u2 - q) + (u2 - q) ** 2))
    assert estimate.high == pytest.approx(p - q + math.sqrt((u1 - p) ** 2 - 2 * phi * (u1 - p) * (q - l2) + (q - l2) ** 2))


def wilson_roots(share, n):
    """Where the score test is just not refused: (p - share)^2 = z^2 p (1 - p) / n."""
    z = 1.959963984540054
    roots = np.roots([1 + z * z / n, -2 * share - z * z / n, share**2])
    return min(roots.real), max(roots.real)


@pytest.mark.parametrize("n", [4, 10, 50, 300])
@pytest.mark.parametrize("right", [0.0, 0.5, 1.0])
def test_two_that_agree_everywhere_may_differ_either_way(n, right):
    """Zero to 0.6 for four prompts, which is Clopper and Pearson's interval for a share, claims what nobody can know."""
    ours = np.arange(n) < right * n
    estimate = paired(ours, ours)
    assert estimate.mean == 0 and estimate.low == pytest.approx(-estimate.high) and 0 < estimate.high < 1
    if n >= 10:
        assert estimate.high < 4 / n


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 4))
@settings(max_examples=50)
def test_differences_turn_round_with_their_sides(seed, n, images):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 2, (2, n * images))
    groups = np.repeat(np.arange(n), images)
    there, back = paired(first, second, groups), paired(second, first, groups)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert -1 - 1e-9 <= there.low <= there.mean <= there.high <= 1 + 1e-9


def test_rows_of_a_group_that_are_alike_are_worth_one():
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 2, (2, 40))
    names = [f"p{i:03}" for i in range(40)]
    for one, ten in (
        (single(ours), single(np.repeat(ours, 10), np.repeat(names, 10))),
        (
            single(ours + rng.random(40)),
            single(np.repeat(ours + np.random.default_rng(0).random(40), 10), np.repeat(names, 10)),
        ),
    ):
        assert one.n == ten.n == 40
        assert one.high - one.low == pytest.approx(ten.high - ten.low, rel=0.15)
    one, ten = paired(ours, theirs), paired(np.repeat(ours, 10), np.repeat(theirs, 10), np.repeat(names, 10))
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high), abs=0.02)
    alone = paired(np.repeat(ours, 10), np.repeat(theirs, 10))
    assert alone.high - alone.low < 0.4 * (ten.high - ten.low)


def test_rows_of_a_group_that_differ_hold_more_information():
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 2, (2, 400))
    names = np.repeat(np.arange(40), 10)
    ten, one = paired(ours, theirs, names), paired(ours[::10], theirs[::10])
    assert ten.high - ten.low < 0.5 * (one.high - one.low)


def test_larger_groups_weigh_more():
    values, groups = [1.0, 0.0, 0.0, 0.0, 1.0], ["a", "b", "b", "b", "b"]
    assert single(values, groups).mean == pytest.approx(0.4)
    assert paired(values, [0.0] * 5, groups).mean == pytest.approx(0.4)
    groups = np.repeat(np.arange(LEAST), 3)
    values = np.random.default_rng(1).random(3 * LEAST)
    assert single(np.append(values, 9.0), np.append(groups, 0)).mean == pytest.approx(np.append(values, 9.0).mean())


def test_scores_have_an_interval_that_leans_as_they_do():
    values = np.random.default_rng(0).exponential(1, 40)
    estimate = single(values)
    assert estimate.high - estimate.mean > 1.2 * (estimate.mean - estimate.low)
    student = mean_interval(values.tolist())
    assert estimate.low <= student.low + 1e-12 and estimate.high >= student.high - 1e-12
    symmetric = single(np.random.default_rng(0).normal(0, 1, 3000))
    assert symmetric.high - symmetric.mean == pytest.approx(1.96 / math.sqrt(3000), rel=0.06)
    assert single(values) == estimate, "the same numbers, the same interval"


def test_scores_of_several_parts_have_equal_weights_and_lose_a_degree_of_freedom_each():
    """Few scores, skewed to the right: on the left Student's t is the wider one."""
    parts = [[0.1, 0.2, 0.3, 0.5, 3.0], [0.2, 0.0, 0.4, 0.3, 5.0], [1.0, 1.1, 1.2, 1.4, 4.0], [0.6, 0.5, 0.7, 0.8, 3.5, 0.4]]
    estimate = score_interval([Groups.of(np.array(part)[:, None], np.arange(len(part))) for part in parts])
    error = math.sqrt(sum(np.var(part, ddof=1) / len(part) for part in parts)) / 4
    assert (estimate.mean, estimate.n) == (pytest.approx(np.mean([np.mean(part) for part in parts])), 21)
    assert estimate.mean - estimate.low == pytest.approx(t_quantile(21 - 4) * error)
    assert estimate.high - estimate.mean > 1.2 * (estimate.mean - estimate.low)


def test_too_few_scores_and_equal_ones_have_no_interval():
    values = np.random.default_rng(0).random(LEAST)
    assert single(values).has_interval and single(values[1:]).method == TOO_FEW
    assert single(np.full(50, 0.3)).method == ALL_EQUAL
    assert paired(np.append(values, 1), np.append(values, 1)).method == ALL_EQUAL
    odd = np.zeros(LEAST)
    odd[0] = 0.5
    assert single(odd).method == TOO_FEW, "one that differs does not tell how much others do"


def test_win_rates_with_ties():
    even = rate_interval(np.full(300, 0.5), np.arange(300))
    assert even.low == pytest.approx(1 - even.high, abs=1e-3) and 0.48 < even.low < 0.5
    tied = rate_interval(np.r_[np.ones(60), np.zeros(40), np.full(200, 0.5)], np.arange(300))
    clear = rate_interval(np.r_[np.ones(160), np.zeros(140)], np.arange(300))
    assert tied.mean == pytest.approx(clear.mean) and tied.high - tied.low < 0.75 * (clear.high - clear.low)
    assert rate_interval(np.array([0.0, 1.0]), ["a", "a"]).method == TOO_FEW


# of independent parts


def test_half_widths_of_independent_parts_add_by_their_squares():
    parts = [Estimate(0.2, 0.1, 0.4, 10), Estimate(0.6, 0.3, 0.7, 20), Estimate(0.4, 0.2, 0.5, 5)]
    joined = mean_of_independent(parts)
    assert (joined.mean, joined.n) == (pytest.approx(0.4), 35)
    assert joined.low == pytest.approx(0.4 - math.sqrt(0.1**2 + 0.3**2 + 0.2**2) / 3)
    assert joined.high == pytest.approx(0.4 + math.sqrt(0.2**2 + 0.1**2 + 0.1**2) / 3)


@given(st.integers(1, 12), st.floats(0.01, 1), st.floats(0.01, 1))
def test_equal_parts_are_as_much_surer_as_so_many_more_data(count, below, above):
    joined = mean_of_independent([Estimate(0.5, 0.5 - below, 0.5 + above, 7)] * count)
    assert 0.5 - joined.low == pytest.approx(below / math.sqrt(count))
    assert joined.high - 0.5 == pytest.approx(above / math.sqrt(count))


def test_parts_of_normal_means_make_the_interval_of_their_mean():
    """Known deviations: the interval of a mean of means is known in closed form."""
    deviations, sizes = np.array([1.0, 3.0, 0.5]), np.array([20, 50, 10])
    errors = deviations / np.sqrt(sizes)
    joined = mean_of_independent([Estimate(0.0, -1.96 * e, 1.96 * e, int(n)) for e, n in zip(errors, sizes, strict=True)])
    assert joined.high == pytest.approx(1.96 * math.sqrt((errors**2).sum()) / 3)
    means = np.random.default_rng(0).normal(0, errors, (20_000, 3)).mean(1)
    assert np.mean(np.abs(means) <= joined.high) == pytest.approx(LEVEL, abs=0.008)


def test_a_part_without_an_interval_leaves_the_mean_without_one():
    joined = mean_of_independent([Estimate(0.2, 0.1, 0.4, 10), Estimate.without(0.4, 3, TOO_FEW)])
    assert (joined.mean, joined.n, joined.method, joined.has_interval) == (pytest.approx(0.3), 13, TOO_FEW, False)
