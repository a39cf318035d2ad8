from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.data.together import components, numbered

NAMES = st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=30)


@given(NAMES)
def test_components_are_those_of_a_walk(rows: list[tuple[int, int, int]]) -> None:
    expected = [-1] * len(rows)
    for start in range(len(rows)):
        waiting = [start] if expected[start] < 0 else []
        while waiting:
            pair = waiting.pop()
            if expected[pair] < 0:
                expected[pair] = start
                waiting += [n for n, row in enumerate(rows) if any(a == b for a, b in zip(row, rows[pair], strict=True))]
    assert components(*np.array(rows).T).tolist() == expected


def test_a_long_chain_in_any_order() -> None:
    chain = np.arange(100_000) + np.arange(2)[:, None]
    mixed = np.random.default_rng(0).permutation(100_000)
    for order in (slice(None), slice(None, None, -1), mixed):
        assert not components(chain[0, order] // 2, chain[1, order] // 2).any()


def test_names_are_numbered_by_what_they_are() -> None:
    assert numbered(["a", "b", "a", None]).tolist() == [0, 1, 0, 2]
    assert components(numbered([])).tolist() == []
