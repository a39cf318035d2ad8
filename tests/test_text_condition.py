"""TextCondition: its rows of padding, which no caption owns, and sizes that follow from numbers of the host."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.embedding import TextCondition
from tests.test_network import captions

LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=5)


def with_padding(lengths: list[int], padding: int, seed: int = 0) -> TextCondition:
    """Captions with bounds, and rows of padding whose content shows wherever it is read."""
    text = captions(lengths, 3, seed=seed)
    states = torch.cat([text.text_states, torch.full((padding, 3), torch.nan)])
    return TextCondition(text.text_embed, states, text.lengths, (min(lengths), max(lengths)))


def require_equal(text: TextCondition, expected: TextCondition) -> None:
    """The same captions; padding aside."""
    tokens = int(expected.lengths.sum())
    assert torch.equal(text.lengths, expected.lengths)
    assert torch.equal(text.text_embed, expected.text_embed)
    assert torch.equal(text.text_states[:tokens], expected.text_states[:tokens])
    if text.bounds is not None:
        assert text.bounds[0] <= text.lengths.min() <= text.lengths.max() <= text.bounds[1]


@given(LENGTHS, st.integers(0, 4))
def test_split_leaves_padding_out(lengths: list[int], padding: int) -> None:
    text, plain = with_padding(lengths, padding), captions(lengths, 3)
    for one, expected in zip(text.split(), plain.split(), strict=True):
        assert len(one.text_states) == len(expected.text_states)
        require_equal(one, expected)


@given(st.lists(st.tuples(LENGTHS, st.integers(0, 4), st.booleans()), min_size=1, max_size=4))
def test_join_moves_padding_to_the_end(parts: list[tuple[list[int], int, bool]]) -> None:
    made = [
        with_padding(lengths, padding, seed) if known else captions(lengths, 3, seed=seed)
        for seed, (lengths, padding, known) in enumerate(parts)
    ]
    joined = TextCondition.join(made)
    require_equal(joined, TextCondition.join([captions(lengths, 3, seed=seed) for seed, (lengths, *_) in enumerate(parts)]))
    assert (joined.bounds is None) == (not all(known for *_, known in parts))
    assert len(joined.text_states) == sum(len(part.text_states) for part in made)


@given(LENGTHS, st.integers(0, 4), st.data())
def test_replaced_has_a_known_size_where_it_is_compiled(lengths: list[int], padding: int, data: st.DataObject) -> None:
    rows = torch.tensor([data.draw(st.booleans()) for _ in lengths])
    other = with_padding([data.draw(st.integers(0, 6))], 0, seed=1)
    expected = captions(lengths, 3).replaced(rows, captions(other.lengths.tolist(), 3, seed=1))
    text = with_padding(lengths, padding)
    exact = text.replaced(rows, other)
    require_equal(exact, expected)
    assert len(exact.text_states) == len(expected.text_states)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        fixed, none = (text.replaced(chosen, other) for chosen in (rows, torch.zeros_like(rows)))
    require_equal(fixed, expected)
    require_equal(none, text)
    assert len(fixed.text_states) == len(none.text_states)
