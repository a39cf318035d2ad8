"""Win rates: counted by hand, symmetric, the interval over prompts, equal rows required."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.intervals import rate_interval
from eclipse_pl.scorers.preference import prefer

A = {("p0", 0): 21.0, ("p0", 1): 20.0, ("p1", 0): 20.0, ("p1", 1): 19.0}
B = {("p1", 1): 19.0, ("p1", 0): 22.0, ("p0", 1): 19.0, ("p0", 0): 20.0}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_counts_and_rates() -> None:
    result = prefer(A, B)
    assert (result.wins, result.ties, result.losses, result.pairs, result.failed) == (2, 1, 1, 4, 0)
    assert result.probability == pytest.approx((2 * sigmoid(1) + sigmoid(-2) + 0.5) / 4)
    # prompt p0 won both of its pairs, p1 a quarter
    assert result.win_rate == rate_interval(np.array([1.0, 1.0, 0.0, 0.5]), ["p0", "p0", "p1", "p1"])
    assert (result.win_rate.mean, result.win_rate.n) == (2.5 / 4, 2)


def test_ties_are_near_probabilities() -> None:
    border = 2 * sigmoid(1) - 1  # how far the probabilities of a pair lie apart where its scores differ by 1
    assert prefer(A, B, tie_threshold=border - 1e-9).ties == 1
    near = prefer(A, B, tie_threshold=border + 1e-9)
    assert (near.wins, near.ties, near.losses, near.win_rate.mean) == (0, 3, 1, 1.5 / 4)
    everything = prefer(A, B, tie_threshold=1.0)
    assert everything.ties == 4 and everything.win_rate.mean == 0.5


def test_scale_changes_probabilities_and_not_wins() -> None:
    small = {key: value / 100 for key, value in A.items()}, {key: value / 100 for key, value in B.items()}
    assert prefer(*small, scale=100.0).probability == pytest.approx(prefer(A, B).probability)
    assert prefer(*small).win_rate == prefer(A, B).win_rate and prefer(*small).probability < 0.51


def test_pairs_that_were_not_scored_are_counted_apart() -> None:
    result = prefer({**A, ("p1", 0): math.nan}, {**B, ("p1", 1): math.nan})
    assert (result.failed, result.pairs, result.win_rate.n, result.win_rate.mean) == (2, 2, 1, 1.0)
    assert not result.win_rate.has_interval  # one prompt tells nothing of others
    with pytest.raises(ValueError, match="None of the 4 pairs can be compared"):
        prefer(dict.fromkeys(A, math.nan), B)


def test_equal_rows_are_required() -> None:
    with pytest.raises(ValueError, match="B lacks 1 of the rows that the other has, prompt p1 with seed 2 among them"):
        prefer({**A, ("p1", 2): 1.0}, B)
    with pytest.raises(ValueError, match="A lacks 2 of the rows"):
        prefer({}, {("p0", 0): 1.0, ("p0", 1): 1.0})
    with pytest.raises(ValueError, match="no rows to compare"):
        prefer({}, {})


scores = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 3)),
    st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)),
    min_size=1,
)


@given(scores, st.floats(0, 1))
def test_what_a_wins_b_loses(both: dict[tuple[str, int], tuple[float, float]], threshold: float) -> None:
    a, b = {key: value[0] for key, value in both.items()}, {key: value[1] for key, value in both.items()}
    there, back = prefer(a, b, threshold), prefer(b, a, threshold)
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.win_rate.mean + back.win_rate.mean == pytest.approx(
        1
    ) and there.probability + back.probability == pytest.approx(1)
    assert not there.win_rate.has_interval or 0 <= there.win_rate.low <= there.win_rate.high <= 1
