"""All images beside the page: what is copied, what the page says of them, and that foreign texts stay texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eclipse_pl.compbench.scorecard import write_rows
from eclipse_pl.reports.gallery.evidence import BOXES, shown_evidence
from eclipse_pl.reports.gallery.gallery import MOST_IMAGES, Gallery, extent
from eclipse_pl.reports.images import prompts_of
from eclipse_pl.reports.page import write_page
from eclipse_pl.reports.report import Report
from tests.helpers.compared_runs import compare, numbers, refused
from tests.helpers.evidence_folders import evidence_folder
from tests.helpers.html_page import HOSTILE, Page
from tests.helpers.scored_folders import edit_card, pipeline, rows_of, scored

SMALL = (32, 24)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    return (
        evidence_folder(tmp_path / "plain", 0, 6, 2, SMALL),
        evidence_folder(tmp_path / "grown", 3, 6, 2, SMALL),
    )


def data_of(text: str) -> dict[str, Any]:
    """What the page's script reads."""
    (content,) = re.findall(r'<script type="application/json" id="gallery-data">(.*?)</script>', text, re.DOTALL)
    assert not re.search("[<>&]", content), "nothing in it can end the script or begin a comment"
    found: dict[str, Any] = json.loads(content)
    return found


def images_of(data: dict[str, Any]) -> list[tuple[dict[str, Any], int, str, dict[str, Any]]]:
    """(prompt, seed, variant, image) of all images."""
    return [
        (prompt, seed, data["variants"][at][0], image)
        for prompt in data["prompts"]
        for seed, images in prompt["rows"]
        for at, image in enumerate(images)
    ]


def test_every_image_lies_beside_the_page_as_it_is(two, tmp_path):
    compare(*two)
    data = data_of(Path("compare/page.html").read_text())
    found = images_of(data)
    assert len(found) == 6 * 2 * 2
    files = {(name, row["id"], row["seed"]): row for name in ("plain", "grown") for row in rows_of(tmp_path / name)}
    for prompt, seed, variant, image in found:
        row = files[variant, prompt["id"], seed]
        assert Path("compare/images", image["file"]).read_bytes() == (tmp_path / variant / row["file"]).read_bytes()
        assert (image["width"], image["height"]) == SMALL
        values = {data["scorers"][of]: value for of, value, _ in image["scores"]}
        assert values == {scorer: score["value"] for scorer, score in row["scores"].items()}
        assert prompt["text"] == row["prompt"] and prompt["category"] == row["category"]
    assert data["variants"] == [["plain", "reference"], ["grown", ""]] and data["reference"] == 0


def test_the_page_that_is_written_again_keeps_no_image_of_the_former(two, tmp_path):
    compare(*two)
    before = set(Path("compare/images").iterdir())
    compare(two[0], "--images", "1")
    after = set(Path("compare/images").iterdir())
    assert after < before and len(after) == 4, "of one prompt of each of two categories"
    compare(two[0], "--images", "0")
    assert not list(Path("compare/images").iterdir())
    assert "gallery" not in Path("compare/page.html").read_text()


def test_one_file_holds_everything_and_has_no_folder(two):
    compare(*two, "--single-file")
    assert not Path("compare").exists()
    page = Page(Path("compare.html").read_text())
    assert len(page.elements("img")) == 2 * 3 * 2, "three prompts of each of two categories, of both variants"
    assert all(one["src"].startswith("data:image/") for one in page.elements("img"))


def test_the_folder_of_a_benchmark_is_not_written_to(two, tmp_path, capfd):
    files = sorted(two[0].rglob("*"))
    said = refused(capfd, *two, "--out", two[0])
    first = min((two[0] / "images").iterdir())
    assert f"{first} is a file that `compare` did not write. Choose another folder" in said
    assert sorted(two[0].rglob("*")) == files


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"])
def test_files_of_a_system_in_the_folder_of_a_page_are_left_alone(two, name):
    compare(two[0])
    Path("compare/images", name).write_bytes(b"a system's")
    compare(*two)
    assert Path("compare/images", name).read_bytes() == b"a system's"
    assert len(list(Path("compare/images").iterdir())) > 12


def test_the_wins_of_prompts_make_the_win_rate_of_the_table(two):
    compare(*two, "--csv", "numbers.csv")
    data = data_of(Path("compare/page.html").read_text())
    for at, scorer in enumerate(data["scorers"]):
        for category in ("colour", "spatial"):
            wins = [prompt["wins"][at] for prompt in data["prompts"] if prompt["category"] == category]
            assert {of_prompt[0] for of_prompt in wins} == {None}, "the reference has none against itself"
            rate, difference, pairs = map(list, zip(*(of_prompt[1] for of_prompt in wins), strict=True))
            row = numbers()["grown", "all", f"benchmark/{category}/{scorer}"]
            assert float(row["win_rate_mean"]) == pytest.approx(sum(rate) / 3)
            assert float(row["difference_mean"]) == pytest.approx(sum(difference) / 3, abs=1e-9)
            assert pairs == [2, 2, 2]


def test_scorers_that_nobody_wins_have_no_win_rates(two):
    """Of diversity, neither high nor low is better; the values are shown all the same."""
    for folder in two:
        edit_card(folder, lambda card: rename(card, "scores", "scorers"))
        write_rows(folder / "rows.jsonl", [rename(row, "scores") for row in rows_of(folder)])
    compare(*two, "--csv", "numbers.csv")
    data = data_of(Path("compare/page.html").read_text())
    assert data["scorers"] == ["diversity[tiny]", "asks[tiny]"]
    for prompt in data["prompts"]:
        assert prompt["wins"][0] == [None, None] and prompt["wins"][1][1] is not None
        assert [of for of, _, _ in prompt["rows"][0][1][1]["scores"]] == [0, 1]
    row = numbers()["grown", "all", "benchmark/colour/diversity[tiny]"]
    assert row["win_rate_mean"] == "" and row["difference_mean"], "as in the table"


def rename(written: dict[str, Any], *parts: str) -> dict[str, Any]:
    """What was written, with a scorer of diversity in place of `FindsRectangles`."""
    for part in parts:
        written[part] = {"diversity[tiny]" if name == "finder" else name: of for name, of in written[part].items()}
    return written


def test_boxes_and_questions_of_the_rows_are_those_of_the_page(two, tmp_path):
    compare(*two)
    data = data_of(Path("compare/page.html").read_text())
    files = {(row["id"], row["seed"]): row["scores"] for row in rows_of(tmp_path / "plain")}
    for prompt, seed, variant, image in images_of(data):
        if variant != "plain":
            continue
        scores, shown = files[prompt["id"], seed], {data["scorers"][of]: evidence for of, _, evidence in image["scores"]}
        boxes = scores["finder"]["evidence"]["boxes"]
        assert shown["finder"]["boxes"] == [[one["label"], one["confidence"], *one["box"]] for one in boxes]
        assert shown["finder"]["size"] == list(SMALL)
        assert ["rule", "area"] in shown["finder"]["facts"]
        (first, second) = shown["asks[tiny]"]["questions"]
        assert first[0] == f"Is there a {HOSTILE}?" and second == ["How many things are there?", "2", 0.5, "kind count"]


def test_nothing_from_rows_and_scorecards_becomes_markup(tmp_path):
    folder = scored(tmp_path / "hostile", identity=pipeline(HOSTILE.replace("/", "")))
    rows = rows_of(folder)
    end = "</script x</script><!--<script \u2028" + HOSTILE
    for row in rows:
        evidence = {end: end, "boxes": [{"label": end, "confidence": 1, "box": [0, 0, 1, 1]}]}
        row.update(prompt=end, category=end, subset=end, failed=end, scores={end: {"value": 1.0, "evidence": evidence}})
    write_rows(folder / "rows.jsonl", rows)

    def poison(card):
        card["scores"] = {end: {end: card["scores"]["blip_vqa@8"]["color"]}}
        card["scorers"] = {end: end}

    edit_card(folder, poison)
    compare(folder)
    text = Path("compare/page.html").read_text()
    page = Page(text)
    assert [one.get("id") for one in page.elements("script")] == ["gallery-data", None, None, None]
    assert {one["src"] for one in page.elements("img") if "src" in one} == set()
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    prompt, _, _, image = images_of(data_of(text))[0]
    assert prompt["text"] == end and image["failed"] == end and image["scores"][0][2]["boxes"][0][0] == end


def test_images_that_are_gone_broken_or_of_another_place(two, tmp_path):
    rows = rows_of(two[0])
    (two[0] / rows[0]["file"]).unlink()
    (two[0] / rows[1]["file"]).write_bytes((two[0] / rows[1]["file"]).read_bytes()[:60])
    (two[0] / rows[2]["file"]).write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    rows[3]["file"] = "../secret.png"
    write_rows(two[0] / "rows.jsonl", rows)
    compare(*two)
    data = data_of(Path("compare/page.html").read_text())
    found = {(prompt["id"], seed): image for prompt, seed, variant, image in images_of(data) if variant == "plain"}
    missing = [found[row["id"], row["seed"]].get("missing") for row in rows[:5]]
    assert missing == ["no image", "cannot be read", "cannot be read", "no image", None]
    assert found[rows[0]["id"], rows[0]["seed"]]["scores"], "its scores are shown all the same"


@pytest.mark.long
def test_a_page_of_1500_images_has_at_most_5_megabytes(tmp_path):
    """With as much evidence as a scorecard of a detector and a VLM has: 10 boxes and 8 questions an image."""
    folder = evidence_folder(tmp_path / "plain", count=750, size=(16, 12))
    rows = rows_of(folder)
    for row in rows:
        scores = row["scores"]
        boxes = scores["finder"]["evidence"]["boxes"]
        boxes[:] = [{**boxes[n % 2], "box": [one + n + 0.7 for one in boxes[n % 2]["box"]]} for n in range(10)]
        atoms = scores["asks[tiny]"]["evidence"]["atoms"]
        atoms[:] = [{**atoms[1], "question": f"Is there a small red umbrella to the left of object {n}?"} for n in range(8)]
        scores["clip"] = {"value": 0.312345678, "evidence": {"text": row["prompt"]}}
    write_rows(folder / "rows.jsonl", rows)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("rows.jsonl", "scorecard.json", "benchmark.json"):
        (other / name).write_bytes((folder / name).read_bytes())
    (other / "images").symlink_to(folder / "images")
    edit_card(other, lambda card: card.update(text_to_image={"pipeline": "other"}))
    compare(folder, other)
    text = Path("compare/page.html").read_bytes()
    assert len(images_of(data_of(text.decode()))) == 1500
    assert len(text) < 5e6


def test_unasked_a_page_has_a_limited_number_of_images(tmp_path):
    folder = evidence_folder(tmp_path / "plain", count=24, images_per_prompt=3, size=(16, 12))
    report = Report.of([str(folder)])
    assert report.scores is not None
    prompts = prompts_of(report.scores)
    assert extent(None, prompts, 3, 1) == (12, 3)
    assert extent(None, prompts * 50, 3, 1) == (600, 1), "fewer images of each prompt first"
    assert extent(None, prompts * 50, 3, 5) == (MOST_IMAGES // 10, 1), "then fewer prompts"
    assert extent(7, prompts, 3, 1) == (7, 3)
    gallery = Gallery.of(Report.of([str(folder)], images=4))
    assert gallery is not None and gallery.count == 2 * 4 * 3
    assert "Shown are 8 of 24 prompts" in write_page(report, "compare", gallery)


Evidence = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["box", "boxes", "question", "questions", "yes", "answer", "probability", "size"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["boxes", "questions", "question", "yes", "size", "atoms", "failed"]), Evidence))
def test_any_evidence_is_shown_and_is_strict_json(evidence):
    shown = shown_evidence(evidence)
    json.dumps(shown, allow_nan=False)
    assert all(len(box) == 6 for box in shown.get("boxes", []))
    assert all(len(asked) == 4 and isinstance(asked[0], str) for asked in shown.get("questions", []))
    names = {name for name, _ in shown.get("facts", [])}
    dropped = set(evidence) - names - {"failed", "size", "boxes", "questions", "question", "yes", "atoms"}
    assert not dropped


@pytest.mark.parametrize(
    ("evidence", "questions"),
    [
        (
            {"questions": ["a bowl?", "a bench?"], "yes": [0.91234, 1.0]},
            [["a bowl?", "yes", 0.9123, ""], ["a bench?", "yes", 1, ""]],
        ),
        ({"question": "Does it?", "yes": 0.25}, [["Does it?", "yes", 0.25, ""]]),
        ({"asked": [{"question": "Any?", "answer": None, "words": "maybe"}]}, [["Any?", "none", None, "words maybe"]]),
    ],
)
def test_the_forms_of_questions(evidence, questions):
    assert shown_evidence(evidence) == {"questions": questions}


def test_the_most_confident_boxes_are_drawn():
    boxes = [{"label": "bowl", "confidence": n / 1000, "box": [0, 0, n, 1]} for n in range(3 * BOXES)]
    shown = shown_evidence({"boxes": boxes, "size": [200, 100]})
    assert [box[4] for box in shown["boxes"]] == list(range(3 * BOXES - 1, 2 * BOXES - 1, -1))
    assert shown["facts"] == [["boxes", f"the {BOXES} most confident of {3 * BOXES}"]]
    assert shown_evidence({"boxes": [{"label": "bowl"}]}) == {"facts": [["boxes", "label bowl"]]}
