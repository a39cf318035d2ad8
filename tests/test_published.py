"""Figures of the paper with ours: all of them, as printed, each marked, and only where the same is measured."""

from __future__ import annotations

import pytest

from eclipse_pl.reports.page import write_page
from eclipse_pl.reports.published import RULES, published, published_tables
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.tables import markdown
from tests.helpers.html_page import Page
from tests.helpers.scored_folders import edit_card, scored


@pytest.fixture
def report(tmp_path) -> Report:
    return Report.of([str(scored(tmp_path / "one")), str(scored(tmp_path / "two", 5))])


def test_the_figures_are_whole():
    source, (first, second) = published()
    assert "2312.04655" in source
    assert [len(first.rows), len(second.rows)] == [12, 15]
    for table in (first, second):
        assert {len(row) for row in table.rows} == {1 + len(table.columns)}
        for row in table.rows:
            scores = dict(zip(table.columns, row[1:], strict=True))
            assert all(0 < scores[name] < 1 for name in RULES if name in scores)
    assert [row[0] for row in first.rows if str(row[4]).endswith("*")] == ["SD 1.4", "SD 2.1", "Würstchen", "DALL-E 2"]
    assert [row[0] for row in first.rows if str(row[4]).endswith("ψ")] == [
        "ECLIPSE, Karlo decoder, MSCOCO",
        "ECLIPSE, Kandinsky 2.2 decoder, MSCOCO",
    ]


def test_columns_add_up_to_the_sums_of_the_papers_columns():
    """Added up from the paper, in which no digit may differ."""
    sums = [
        [sum(float(str(value).rstrip("*ψ")) for value in column) for column in list(zip(*table.rows, strict=True))[1:]]
        for table in published()[1]
    ]
    assert sums[0] == pytest.approx([6967.0, 19.95, 4557.7, 237.35, 6.2288, 5.785, 6.6897, 1.7409, 3.7512])
    assert sums[1] == pytest.approx([7.8608, 7.2151, 8.0736, 2.2187])


def test_both_tables_say_the_same_of_the_same_priors():
    _, (first, second) = published()
    one = {tuple(sorted(row[0].split(", "))): row[5:9] for row in first.rows if row[0].startswith("ECLIPSE")}
    other = {tuple(sorted(row[0].split(", "))): row[1:] for row in second.rows if row[0].startswith("ECLIPSE")}
    assert one.keys() == other.keys() and len(one) == 5
    for name, scores in one.items():
        assert scores == pytest.approx(other[name], abs=1.01e-4), "they differ by 0.0001 for CC3M, in the paper too"


def test_what_the_paper_concludes_from_them():
    """ECLIPSE is above projection everywhere, and above the diffusion baseline but for colours on CC3M."""
    _, (_, table) = published()
    for projection, diffusion, eclipse in zip(*[iter(table.rows)] * 3, strict=True):
        assert [row[0].partition(",")[0] for row in (projection, diffusion, eclipse)] == [
            "Projection", "Diffusion-Baseline", "ECLIPSE",
        ]  # fmt: skip
        assert all(ours > theirs for ours, theirs in zip(eclipse[1:], projection[1:], strict=True))
        below = [name for name, a, b in zip(table.columns, eclipse[1:], diffusion[1:], strict=True) if a <= b]
        assert below == (["color"] if "CC3M" in eclipse[0] else [])


@pytest.mark.long
def test_every_published_row_is_marked_wherever_it_is_shown(report):
    tables = published_tables(report.scores)
    count = sum(row.kind == "published" for table in tables for row in table.rows)
    assert count == 27
    assert "\n".join(map(markdown, tables)).count("(published) |") == count
    text = write_page(report, "compare")
    assert text.count("<small>published</small>") == text.count('<tr class="published">') == count
    for table in tables:
        for row in table.rows:
            assert set(row.cells) <= set(Page(text).cells)


def test_ours_are_shown_with_those_of_the_same_rule(report):
    table, _ = published_tables(report.scores)
    ours = {row.name: dict(zip(table.header, row.cells, strict=True)) for row in table.rows if row.name.endswith("(ours)")}
    assert list(ours) == ["one (ours)", "two (ours)"]
    for cells in ours.values():
        assert {name for name, cell in cells.items() if cell != "–"} == {"color", "shape"}, "and no FID, which is of MS-COCO"
    assert "Ours: color by blip_vqa@8; shape by blip_vqa@8." in table.note


def test_nothing_published_is_shown_with_other_prompts(tmp_path):
    folder = scored(tmp_path / "one")
    edit_card(folder, lambda card: card["prompts"].update(name="world"))
    report = Report.of([str(folder)])
    assert published_tables(report.scores) == []
    assert "Published figures" not in write_page(report, "compare")
