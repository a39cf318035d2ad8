"""Images of the page: those of the same prompts and seeds, inside the page, small, and safe whatever stands in rows."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eclipse_pl.compbench.scorecard import write_rows
from eclipse_pl.reports.images import MOST_BYTES, MOST_IMAGES, SIDE, data_uri
from eclipse_pl.reports.page import write_page
from eclipse_pl.reports.report import Report
from tests.helpers.html_page import HOSTILE, Page
from tests.helpers.scored_folders import edit_card, pipeline, rows_of, scored


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    return scored(tmp_path / "plain"), scored(tmp_path / "light", light=5)


def page_of(*folders: Path, images: int = 3, anyway: bool = False) -> str:
    return write_page(Report.of([str(one) for one in folders], anyway=anyway, images=images), "compare")


def shown(text: str) -> list[tuple[str, np.ndarray]]:
    """{the text of each image: its pixels}, as pairs."""
    found = []
    for attributes in Page(text).elements("img"):
        kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", attributes["src"]).groups()
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            assert image.format.lower() == kind
            assert (int(attributes["width"]), int(attributes["height"])) == image.size
            found.append((attributes["alt"], np.asarray(image.convert("RGB"))))
    return found


def test_images_of_one_prompt_and_seed_stand_side_by_side(two):
    found = shown(page_of(*two))
    assert len(found) == 2 * 3 * 2, "categories, prompts, variants"
    files = {
        f"{folder.name}: {row['prompt']}": folder / row["file"]
        for folder in two
        for row in rows_of(folder)
        if row["seed"] == 42
    }
    for alt, pixels in found:
        with Image.open(files[alt]) as image:
            assert np.array_equal(pixels, np.asarray(image)), "a small image is not touched"
    prompts = [alt.partition(": ")[2] for alt, _ in found]
    assert prompts[::2] == prompts[1::2]
    assert len(set(prompts)) == 6
    assert {alt.partition(":")[0] for alt, _ in found[::2]} == {"plain"}


def test_images_are_spread_over_subsets_and_say_what_scorers_said(two):
    text = page_of(*two, images=2)
    page = Page(text)
    subsets = re.findall(r"<small>(\S+) · (\w+) · seed 42</small>", text.replace("<wbr>", ""))
    assert sorted(subset for id, subset in subsets if id.startswith("color/")) == ["seen", "unseen"]
    alt, _ = shown(text)[0]
    row = next(row for row in rows_of(two[0]) if alt == f"plain: {row['prompt']}")
    assert f"{row['scores']['blip_vqa@8']['value']:.3g}" in page.texts
    assert "image-rendering: pixelated" in text


def test_no_images_where_none_are_wanted_or_known(two):
    assert "<img" not in page_of(*two, images=0)
    (two[0] / "rows.jsonl").unlink()
    assert len(shown(page_of(*two))) == 6
    assert Page(page_of(*two)).texts.count("not generated") == 6
    (two[1] / "rows.jsonl").unlink()
    assert "<h2>Images" not in page_of(*two)


def test_a_page_holds_a_limited_number_of_images(tmp_path):
    folders = [scored(tmp_path / f"p{n:03d}", n, images_per_prompt=1) for n in range(3)]
    text = page_of(*folders, images=10_000)
    assert len(shown(text)) == 2 * 4 * 3, "all there are"
    assert f"at most {MOST_IMAGES} images" in " ".join(Page(text).texts)


def test_images_that_are_gone_broken_or_of_another_place(two, tmp_path):
    rows = [row for row in rows_of(two[0]) if row["seed"] == 42]
    (two[0] / rows[0]["file"]).unlink()
    (two[0] / rows[1]["file"]).write_bytes(b"no image")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    everything = rows_of(two[0])
    for row in everything:
        if row["id"] == rows[2]["id"]:
            row["file"] = "../secret.png"
        if row["id"] == rows[3]["id"]:
            row["failed"] = HOSTILE
    write_rows(two[0] / "rows.jsonl", everything)
    text = page_of(*two, images=4)
    page = Page(text)
    assert page.texts.count("no image") == 2, "the missing one, and the one outside the folder"
    assert page.texts.count("cannot be read") == 1
    assert len(shown(text)) == 16 - 3
    assert [one["title"] for one in page.elements("span") if "title" in one] == [HOSTILE]


def test_nothing_from_rows_and_scorecards_becomes_markup(tmp_path):
    folder = scored(tmp_path / "hostile", identity=pipeline(HOSTILE.replace("/", "")))
    rows = rows_of(folder)
    for row in rows:
        row.update(prompt=HOSTILE, category=HOSTILE, subset=HOSTILE)
        row["scores"] = {HOSTILE: row["scores"]["blip_vqa@8"]}
    write_rows(folder / "rows.jsonl", rows)

    def poison(card):
        cells = card["scores"]["blip_vqa@8"]["color"]
        card["scores"] = {HOSTILE: {HOSTILE: cells, "other": cells}}
        card["scorers"] = {HOSTILE: HOSTILE}
        card["prompts"].update(name=HOSTILE, parser=HOSTILE)

    edit_card(folder, poison)
    text = page_of(folder)
    page = Page(text)
    assert len(page.elements("script")) == 1
    assert all(one["src"].startswith("data:image/") for one in page.elements("img")) and page.elements("img")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert sum(HOSTILE in words for words in page.texts) >= 5


def test_the_page_loads_nothing(two):
    text = page_of(*two)
    page = Page(text)
    assert not [one for _, one in page.tags for name in one if name in ("href", "srcset")]
    (policy,) = [one for one in page.elements("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert "img-src data:" in policy["content"] and "default-src 'none'" in policy["content"]
    assert not re.search(r"https?:|url\(|@import", text)


@pytest.mark.parametrize("size", [(300, 200), (512, 512), (64, 900)])
def test_large_images_become_small_and_keep_their_shape(tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    source, (width, height) = data_uri(tmp_path, "noise.png")
    assert len(base64.b64decode(source.partition(",")[2])) <= MOST_BYTES
    assert max(width, height) <= SIDE
    assert width / height == pytest.approx(size[0] / size[1], rel=0.05)
