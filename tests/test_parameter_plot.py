"""Images of a metric against a parameter can be read: no two names on each other, no two lines alike."""

from __future__ import annotations

from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from eclipse_pl.reports.parameter_plot import COLOURS, MARKERS, draw_levels, scale


def test_names_of_close_levels_do_not_lie_on_each_other():
    axes = Figure(figsize=(5.6, 3.9), dpi=150).add_subplot()
    axes.plot([0, 1], [0.90, 0.94])
    levels = {"ridge: all": 0.9342, "ridge: 6000": 0.9330, "ridge: 2000": 0.9309, "far": 5.0}
    draw_levels(axes, levels)
    assert [text.get_text() for text in axes.texts] == ["ridge: 2000", "ridge: 6000", "ridge: all"]  # none that squeezes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert all(lower.y1 <= upper.y0 for lower, upper in pairwise(boxes))


def test_every_chosen_value_stands_below_the_axis_and_costs_do_not():
    chosen, costs = Figure().add_subplot(), Figure().add_subplot()
    scale(chosen, [0.0, 0.2, 1.0], each=True)
    assert [label.get_text() for label in chosen.get_xticklabels()] == ["0", "0.2", "1"]
    places = scale(costs, [864_000, 897_152, 2_330_624], each=False)
    costs.plot(list(places.values()), [1, 2, 3])
    costs.figure.draw_without_rendering()
    labels = [label.get_text() for label in costs.get_xticklabels()]
    assert "1 M" in labels or "1.0 M" in labels
    assert not any(str(cost) in label for cost in places for label in labels)


def test_eight_lines_look_different():
    assert len(set(COLOURS)) == len(COLOURS) == len(set(MARKERS)) == len(MARKERS) == 8


@pytest.mark.parametrize(("values", "kind"), [([1, 2, 100], "log"), ([1, 2, 3], "linear"), ([0, 50, 100], "linear")])
def test_wide_spans_are_logarithmic(values, kind):
    axes = Figure().add_subplot()
    scale(axes, values, each=True)
    assert axes.get_xscale() == kind


def test_words_below_the_axis_are_no_formula():
    axes = Figure().add_subplot()
    scale(axes, ["from $5 to $9", "other"], each=True)
    assert not any(label.get_parse_math() for label in axes.get_xticklabels())
