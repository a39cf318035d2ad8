"""Names, order and grouping of variants; ticks of axes; decimals."""

import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eclipse_pl.dotted_keys import flat, shortest
from eclipse_pl.intervals import Estimate
from eclipse_pl.reports.charts import COLOURS, axis, colour, dash, labels
from eclipse_pl.reports.comparison import Comparison, natural
from eclipse_pl.reports.parameter_plot import key_of, lines_of, value_at
from eclipse_pl.reports.run_record import RunRecord
from eclipse_pl.reports.score_record import ScoreRecord
from eclipse_pl.reports.tables import decimals_of, number
from eclipse_pl.reports.variants import NOT_COUNTED, group, names_of, rank
from tests.helpers.scored_folders import prior

PRIOR = "model.prior.init_args"


def run(name: str, seed: int = 0, **config: object) -> tuple[int, RunRecord]:
    keys = {key.replace("__", "."): value for key, value in config.items()}
    return 0, RunRecord(Path(name), {"seed_everything": seed, "data.init_args.seed": seed, **keys}, {}, Path(name))


def test_runs_that_differ_in_seeds_and_storage_are_one_variant():
    changed = {f"{key}.x" if "." not in key else key: number for number, key in enumerate(NOT_COUNTED)}
    runs = [run("a", 0), run("b", 1, **{key.replace(".", "__"): value for key, value in changed.items()})]
    (variant,), twice = group(runs)
    assert list(variant.runs) == [(0, 0), (1, 1)]
    assert not twice


@pytest.mark.parametrize("name", ["samples", "benchmark", "decoder"])
def test_what_is_generated_and_scored_makes_no_variant(name):
    key = f"{name}.init_args.steps".replace(".", "__")
    (variant,), _ = group([run("a", 0, **{key: 1}), run("b", 1, **{key: 2}), run("c", 2, **{name: None})])
    assert len(variant.runs) == 3


def test_scores_by_two_decoders_are_two_variants(tmp_path):
    trained = {"seed_everything": 0, "data.init_args.seed": 0, "run.experiment": "tiny"}
    records = [ScoreRecord({"text_to_image": prior("runs/tiny", steps)}, tmp_path) for steps in (20, 50)]
    named = [(at, RunRecord(Path(f"b{at}"), trained, {}, Path(f"b{at}"), {}, one, True)) for at, one in enumerate(records)]
    variants, twice = group(named)
    assert [variant.name for variant in variants] == ["steps=20", "steps=50"]
    assert not twice


def test_names_are_what_differs_in_the_shortest_clear_words():
    settings = [
        {"model.prior.class_path": "p.EclipsePrior", f"{PRIOR}.weight": 0.2, f"{PRIOR}.noise": "zero"},
        {"model.prior.class_path": "p.EclipsePrior", f"{PRIOR}.weight": 1.0, f"{PRIOR}.noise": "zero"},
        {"model.prior.class_path": "p.DiffusionPrior", f"{PRIOR}.steps": 25},
    ]
    assert names_of(settings) == ["EclipsePrior, weight=0.2", "EclipsePrior, weight=1.0", "DiffusionPrior"]
    assert names_of([{"a.lr": 1, "b.lr": 2}, {"a.lr": 2, "b.lr": 1}]) == ["a.lr=1, b.lr=2", "a.lr=2, b.lr=1"]
    assert names_of([{}, {"a.new": 1}]) == ["defaults", "new=1"]


words = st.sampled_from(["model", "prior", "init_args", "lr", "weight", "noise"])
keys = st.lists(words, min_size=1, max_size=4).map(".".join)
values = st.one_of(st.integers(-3, 3), st.floats(-1, 1), st.none(), st.booleans(), st.sampled_from(["a", "b.C"]))


@pytest.mark.long
@given(st.lists(st.dictionaries(keys, values, max_size=4), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_no_two_variants_share_a_name(settings_of_all):
    assert len(set(names_of(settings_of_all))) == len(settings_of_all)
    every = {key for one in settings_of_all for key in one}
    assert len(set(shortest(every).values())) == len(every)


@given(st.lists(values, max_size=8), st.lists(values, max_size=8))
def test_settings_can_be_sorted_whatever_they_are(left, right):
    assert sorted([rank(value) for value in left + right]) == sorted([rank(value) for value in right + left])


def test_numbers_sort_by_size_also_in_names_of_folders():
    runs = [run(str(value), steps=value) for value in (100, 5, 25, "all", 1)]
    variants, _ = group(runs)
    assert [variant.settings["steps"] for variant in variants] == [1, 5, 25, 100, "all"]
    assert sorted([Path("v_10"), Path("v_9"), Path("v"), Path("10_v")], key=natural)[-1] == Path("v_10")


def test_equal_numbers_are_one_value():
    variants, _ = group([run("a", 0, weight=1), run("b", 1, weight=1.0)])
    assert len(variants) == 1


def test_dotted_keys_are_flags():
    assert flat({"a": {"b": {"c": 1, "d": [1, 2]}}, "e": {}, "f": None}) == {"a.b.c": 1, "a.b.d": [1, 2], "e": {}, "f": None}


finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=1, max_size=6), st.lists(finite, max_size=4))
@example([1e6], [999999.9999999999])
@example([0.0, 5e-324], [])
@example([1.0, 1.0000000000000002], [])
@settings(max_examples=200, deadline=None)
def test_axes_hold_all_values_and_have_a_few_round_ticks(points, bounds):
    scale = axis(points, bounds, 0, 100)
    assert scale.low <= min(points) <= max(points) <= scale.high
    assert 2 <= len(scale.ticks) <= 9
    assert all(-1e-6 <= scale.at(tick) <= 100 + 1e-6 for tick in scale.ticks)
    texts = [text for _, text in labels(scale.ticks)]
    assert len(set(texts)) == len(texts)


@given(st.lists(st.tuples(st.floats(1e-4, 100), st.floats(1e-5, 10)), min_size=1, max_size=5))
def test_intervals_are_printed_with_two_digits(pairs):
    estimates = [Estimate(mean, mean - half, mean + half, 3) for mean, half in pairs]
    halves = sorted(half for _, half in pairs)
    typical = halves[len(halves) // 2]
    digits = decimals_of(estimates)
    assert 0 <= digits <= 6
    if 1e-4 < typical < 9:
        assert float(number(typical, digits).replace(",", "")) == pytest.approx(typical, rel=0.051)


def test_lines_differ_in_colour_or_dashes():
    looks = [(colour(number), dash(number)) for number in range(4 * COLOURS)]
    assert len(set(looks)) == len(looks)
    assert len(set(map(colour, range(COLOURS)))) == COLOURS


def test_numbers_as_people_read_them():
    assert number(-0.0001, 2, sign=True) == "0.00"
    assert number(-1234.5, 1) == "−1,234.5"
    assert number(0.5, 2, sign=True) == "+0.50"
    assert number(math.nan, 2) == "–"


def comparison(*runs: tuple[int, RunRecord]) -> Comparison:
    variants, _ = group(list(runs))
    return Comparison(variants, variants[0], [], [])


def test_a_plot_has_a_line_for_each_setting_that_its_parameter_does_not_decide():
    made = comparison(
        *(run(f"{x}{y}", weight=x, twice=2 * x, noise=y) for x in (1, 3, 2) for y in ("zero", "gaussian")),
        run("other", **{"model__prior__class_path": "p.MLPPrior"}),
    )
    key = key_of(made, "weight")
    values = {variant.name: value_at(variant, key) for variant in made.variants}
    lines = lines_of(made, key, values)
    assert {name: [values[variant.name] for variant in line] for name, line in lines.items()} == {
        "noise=gaussian": [1, 2, 3],
        "noise=zero": [1, 2, 3],
    }
    assert list(values.values()).count(None) == 1, "a level across the image"


def test_a_plot_draws_no_line_from_one_method_to_another():
    made = comparison(*(run(name, **{"model__prior__class_path": f"p.{name}"}, steps=at) for at, name in enumerate("AB")))
    key = key_of(made, "steps")
    values = {variant.name: value_at(variant, key) for variant in made.variants}
    assert sorted(lines_of(made, key, values)) == ["A", "B"]
