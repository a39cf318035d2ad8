import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.intervals import mean_interval, t_probability, t_quantile

PUBLISHED = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 29: 2.045, 30: 2.042, 120: 1.980}
"""NIST/SEMATECH e-Handbook, table 1.3.6.7.2, two-sided 95 %."""


@pytest.mark.parametrize("freedom", PUBLISHED)
def test_quantiles_are_the_published_ones(freedom):
    assert t_quantile(freedom, 0.95) == pytest.approx(PUBLISHED[freedom], abs=5e-4)
    assert t_probability(t_quantile(freedom, 0.9), freedom) == pytest.approx(0.9)


@given(st.integers(1, 60), st.floats(0.01, 50))
def test_probability_is_the_integral_of_students_density(freedom, t):
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    steps = 4000
    points = [(place + 0.5) * t / steps for place in range(steps)]
    area = sum((1 + point * point / freedom) ** (-(freedom + 1) / 2) for point in points) * t / steps
    assert t_probability(t, freedom) == pytest.approx(2 * scale * area, abs=1e-4)


def test_mean_interval():
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(4.303 / 3**0.5, abs=1e-3)
    mean, half = mean_interval([5.0])
    assert mean == 5
    assert math.isnan(half)
