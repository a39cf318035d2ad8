"""The page: valid, whole, alone in its file, and safe whatever stands in configs."""

import re
from pathlib import Path

import pytest

from eclipse_pl.reports.latent_comparison import LatentComparison
from eclipse_pl.reports.latent_tables import cost_table, difference_table, main_table, win_table
from eclipse_pl.reports.metrics import METRICS
from eclipse_pl.reports.page import write_page
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.tables import settings_table
from tests.helpers.compared_runs import copy, edit_config, edit_report
from tests.helpers.html_page import HOSTILE, Page


def page_of(*places: Path, anyway: bool = False, command: str = "compare") -> tuple[str, LatentComparison]:
    report = Report.of([str(place) for place in places], anyway=anyway)
    assert report.latent is not None
    return write_page(report, command), report.latent


def test_the_page_holds_every_number_of_every_table(compared_runs):
    text, comparison = page_of(compared_runs)
    page = Page(text)
    tables = [cost_table(comparison), settings_table(comparison), win_table(comparison)]
    for subset in comparison.subsets:
        tables += [main_table(comparison, METRICS, subset), difference_table(comparison, METRICS, subset)]
    assert comparison.subsets == ["all", "seen", "unseen"]
    for table in tables:
        for row in table.rows:
            assert row.name in page.cells
            assert set(row.cells) <= set(page.cells)
    said = " ".join(page.texts)
    for word in ("9 runs"[2:], "16 pairs", "val", "What may not be concluded", "n = 3 seeds", "by these seeds", "data"):
        assert word in said


def test_the_page_needs_nothing_but_itself(compared_runs):
    text, _ = page_of(compared_runs)
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed", "base", "form", "audio", "video"}
    assert not [name for _, attributes in page.tags for name in attributes if name in ("src", "href", "srcset", "xlink:href")]
    assert not re.search(r"https?:|//[a-z]|url\(|@import|@font-face|fetch\(|XMLHttp|import\(", text.replace("file://", ""))
    (policy,) = [one for one in page.elements("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy["content"]
    assert [one for one in page.elements("meta") if one.get("name") == "viewport"]
    assert "prefers-color-scheme" in text
    assert [one for one in page.elements("button") if one["class"] == "theme"]
    assert len(text) < 400_000


def test_charts_have_axes_labels_titles_and_stay_inside(compared_runs):
    text, comparison = page_of(compared_runs)
    charts = [chart for chart in re.findall(r'<svg class="chart".*?</svg>', text, re.DOTALL)]
    curves = [chart for chart in charts if "<polyline" in chart]
    assert len(curves) == 2 * 7
    for chart in charts:
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', chart).groups())
        points = [pair.split(",") for points in re.findall(r'points="([^"]*)"', chart) for pair in points.split()]
        points += re.findall(r'<circle class="dot[^"]*" cx="([^"]*)" cy="([^"]*)"', chart)
        assert points
        assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in points)
        assert 'class="axis"' in chart
        assert 'class="label"' in chart
        assert "<title>" in chart
        assert 'aria-label="' in chart
        assert "nan" not in chart
    for label in ("samples seen", "training, s", "cosine"):
        assert any(f">{label}</text>" in chart for chart in curves)
    for number in range(len(comparison.variants)):
        assert any(f'class="line c{number}"' in chart and f'class="band c{number}"' in chart for chart in curves)


def test_nothing_from_a_config_becomes_markup(compared_runs, tmp_path):
    folder = copy(compared_runs, tmp_path / HOSTILE.replace("/", "_")[:60], "weight_0.0_seed_0", "weight_1.0_seed_0")
    edit_config(folder / "weight_1.0_seed_0", model__prior__init_args__noise=HOSTILE)

    def poison(report):
        report["stage"] = report["shards"]["folder"] = report["machine"]["cpu"] = HOSTILE
        report["shards"]["space"].update(name=HOSTILE, encoder=HOSTILE)
        report["rows"]["this prior"][HOSTILE] = report["rows"]["this prior"]["seen"]

    for run in folder.iterdir():
        edit_report(run, poison)
    text, comparison = page_of(folder, anyway=True, command=f"compare {HOSTILE}")
    plain, _ = page_of(compared_runs)
    assert HOSTILE in comparison.variants[1].name
    assert HOSTILE in comparison.subsets
    page = Page(text)
    assert len(page.elements("script")) == len(Page(plain).elements("script")) == 1
    assert not page.elements("img")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert sum(HOSTILE in words for words in page.texts) >= 3
    assert any(HOSTILE in cell for cell in page.cells)


def test_an_unfair_comparison_begins_with_why(compared_runs, tmp_path):
    folder = copy(compared_runs, tmp_path / "runs")
    edit_report(folder / "weight_1.0_seed_0", lambda report: report["shards"].update(sha256="0" * 64))
    text, comparison = page_of(folder, anyway=True)
    assert text.index("Not a fair comparison") < text.index("What may not be concluded") < text.index("<table")
    assert f"{comparison.variants[1].name} †" in Page(text).cells


def test_the_first_screen_has_the_reference_and_the_means(compared_runs):
    """Two sentences of each box are open, and the others fold, so that numbers follow at once."""
    text, comparison = page_of(compared_runs)
    top = text[text.index("<body>") : text.index("</table>")]
    folded = re.findall(r"<details>.*?</details>", top, re.DOTALL)
    assert folded and top.count("<li>") - "".join(folded).count("<li>") == 2
    assert f"differences from <b>{comparison.reference.name}</b> (--reference)" in top
    rows = re.findall(r'<tr class="(\w+)">', top)
    assert rows == ["context", "context", "context", "reference", "variant", "context"]


@pytest.mark.parametrize("names", [("weight_0.0_seed_0",), ("weight_0.0_seed_0", "weight_1.0_seed_1")])
def test_few_runs_make_a_whole_page_too(compared_runs, tmp_path, names):
    text, comparison = page_of(copy(compared_runs, tmp_path / "few", *names))
    page = Page(text)
    assert "no interval" in " ".join(page.texts)
    assert "±" not in "".join(cell for cell in page.cells)
    assert ("Against the reference" in text) == (len(comparison.variants) > 1)
