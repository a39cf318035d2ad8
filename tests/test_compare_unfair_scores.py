"""Scorecards that cannot be compared, and folders that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.compared_runs import compare, flowing, numbers, refused
from tests.helpers.scored_folders import edit_card, pipeline, prior, scored


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


SCORE = "benchmark/color/blip_vqa@8"


def distribution(side: int) -> dict[str, object]:
    return {"fid": 1.0, "kid": [0.1, 0.1], "protocol": {"fid": {"side": side, "extractor": "inception"}}}


@pytest.mark.parametrize(
    ("options", "what", "told"),
    [
        ({"per_category": 3}, "other prompts", "T2I-CompBench, 8 prompts, sha256"),
        ({"images_per_prompt": 1}, "another number of images a prompt", "2 against 1"),
        ({"seed": 7}, "other seeds of the images", "42 and on against 7 and on"),
        ({"version": "2"}, "other scorers", "blip_vqa@8 1 against blip_vqa@8 2"),
        ({"identity": prior("org/second", steps=20)}, "another decoder", "steps 50 against steps 20"),
    ],
)
def test_what_was_generated_or_scored_otherwise_is_refused_or_marked(tmp_path, capfd, options, what, told):
    first = scored(tmp_path / "first", identity=prior("org/first"))
    second = scored(tmp_path / "second", 5, **{"identity": prior("org/second"), **options})
    said = refused(capfd, first, second)
    assert f"{first} and {second} cannot be compared fairly, because they were measured with {what}: " in said
    assert told in said and "--anyway" in said
    compare(first, second, "--anyway", "--csv", "numbers.csv")
    assert "Not a fair comparison" in flowing(capfd)
    assert "org/second †" in Path("compare/page.html").read_text().replace("<wbr>", "")
    row = numbers()["org/second", "all", "benchmark/color/blip_vqa@8"]
    assert row["marked"] == "yes" and row["mean"]


def test_as_many_prompts_of_other_words_are_other_prompts(tmp_path, capfd):
    one, other = scored(tmp_path / "one"), scored(tmp_path / "other", 5)
    edit_card(other, lambda card: card["prompts"].update(sha256="0" * 64))
    assert "with other prompts: T2I-CompBench" in refused(capfd, one, other)


def with_decoder(name: str, **settings: object) -> dict:
    identity = prior(name)
    return {**identity, "decoder": {**identity["decoder"], **settings}}


@pytest.mark.long
@pytest.mark.parametrize("key", ["decoder.guidance", "guidance", "decoder"])
def test_a_studied_difference_of_decoders_is_named_and_no_problem(tmp_path, capfd, key):
    low, high = (
        scored(tmp_path / name, light, with_decoder("org/prior", guidance=guidance))
        for name, light, guidance in (("low", 0, 4.0), ("high", 5, 7.5))
    )
    said = refused(capfd, low, high)
    assert "another decoder: guidance 4.0 against guidance 7.5" in said and "--vary decoder.guidance" in said
    compare(low, high, "--vary", key, "--csv", "numbers.csv", "--plot", "plot.svg", "--x", "guidance", "--y", SCORE)
    said = flowing(capfd)
    assert "Not a fair comparison" not in said and "Whole systems" not in said
    names = ("org/prior (guidance=4.0)", "org/prior (guidance=7.5)")
    assert [numbers()[name, "all", SCORE]["decoder.guidance"] for name in names] == ["4.0", "7.5"]
    assert not any(row["marked"] for row in numbers().values())
    assert numbers()[names[1], "all", SCORE]["difference_mean"]
    assert Path("plot.svg").is_file()


def test_a_studied_difference_stands_in_every_name(tmp_path):
    one = scored(tmp_path / "one", identity=with_decoder("org/one", guidance=4.0))
    other = scored(tmp_path / "other", 5, with_decoder("org/other", guidance=7.5))
    compare(one, other, "--vary", "decoder.guidance", "--csv", "numbers.csv")
    assert {name for name, _, metric in numbers() if metric == SCORE} == {"org/one, guidance=4.0", "org/other, guidance=7.5"}


def test_what_is_not_named_is_refused_still(tmp_path, capfd):
    one = scored(tmp_path / "one", identity=with_decoder("org/prior", guidance=4.0))
    other = scored(tmp_path / "other", 5, with_decoder("org/prior", guidance=7.5, precision="float16"))
    said = refused(capfd, one, other, "--vary", "decoder.guidance")
    assert "another decoder: nothing more against precision float16" in said and "--vary decoder.precision" in said
    compare(one, other, "--vary", "decoder.guidance,decoder.precision")
    Path("compare/page.html").unlink()
    said = refused(capfd, one, other, "--vary", "decoder.stesp")
    assert "--vary decoder.stesp: decoders and configs of the compared runs do not differ in it, but in decoder.guid" in said


def test_prompts_are_nothing_that_can_be_varied(tmp_path, capfd):
    one, other = scored(tmp_path / "one"), scored(tmp_path / "other", 5, per_category=3)
    said = refused(capfd, one, other, "--vary", "prompts")
    assert "do not differ in it, nor in anything else. What runs are measured on cannot be varied." in said
    assert "with other prompts: T2I-CompBench, 8 prompts" in refused(capfd, one, other)


def test_decoders_of_two_spaces_could_not_have_been_the_same(tmp_path, capsys):
    one = scored(tmp_path / "one", identity=prior("org/one"))
    other = scored(tmp_path / "other", 5, prior("org/other", steps=20, encoder="other-8"))
    compare(one, other, scored(tmp_path / "pipeline", 3))
    assert "Whole systems are compared here, not priors alone" in flowing(capsys)


def test_another_protocol_of_fid(tmp_path, capfd):
    for at, name in enumerate(("one", "two")):
        scored(tmp_path / name, at)
        edit_card(tmp_path / name, lambda card, at=at: card.update(distribution=distribution(256 + at)))
    scored(tmp_path / "without", 2)
    assert "another protocol of FID: side 256 against side 257" in refused(capfd, "one", "without", "two")
    compare("one", "without")


@pytest.mark.parametrize(("name", "title"), [("cmmd", "CMMD"), ("fd_dinov2", "FD-DINOv2")])
def test_distances_of_unequal_numbers_of_images(tmp_path, capfd, name, title):
    for at, folder in enumerate(("one", "two", "without")):
        protocol = {"extractor": "clip", "images": 100 + at, "reference": {"images": 100, "sha256": "0"}}
        scored(tmp_path / folder, at)
        measured = {"fid": 1.0, "protocol": {"fid": {"side": 8}}} | ({name: 2.0} if folder != "without" else {})
        measured["protocol"] |= {name: protocol} if folder != "without" else {}
        edit_card(tmp_path / folder, lambda card, measured=measured: card.update(distribution=measured))
    assert f"another protocol of {title}: images 100 against images 101" in refused(capfd, "one", "without", "two")
    compare("one", "without", "--csv", "numbers.csv")
    assert numbers()["one", "all", f"distribution/{name}"]["mean"] == "2.0"


def test_one_text_to_image_twice_is_not_two_variants(tmp_path, capfd):
    one, two = (scored(tmp_path / name, 1, pipeline("org/model")) for name in ("one", "two"))
    assert f"{one} and {two} are of the same text-to-image model. Name one of them." in refused(capfd, one, two)


def test_a_benchmark_that_has_not_finished(tmp_path, capfd):
    done, begun = scored(tmp_path / "done"), scored(tmp_path / "begun", 1)
    (begun / "scorecard.json").unlink()
    said = refused(capfd, done, begun)
    assert f"{begun} has no scorecard.json, because it has not finished. Start its command again" in said
    compare(done, begun, "--anyway")
    assert f"{begun} is left out: it has no scorecard." in flowing(capfd)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("scorecard.json", "{", "is damaged"),
        ("scorecard.json", "[]", "is damaged"),
        ("scorecard.json", '{"text_to_image": {}}', "it has no prompts, images_per_prompt, seed, scorers, scores"),
        ("rows.jsonl", "{\n", "is damaged"),
        ("rows.jsonl", '{"id": "color/0000"}\n', "is damaged"),
    ],
)
def test_files_that_are_damaged(tmp_path, capfd, name, content, said):
    folders = scored(tmp_path / "one"), scored(tmp_path / "two", 1)
    (folders[1] / name).write_text(content)
    told = refused(capfd, *folders)
    assert said in told and str(folders[1] / name) in told and "Write it again" in told


def test_a_scorecard_of_another_version(tmp_path, capfd):
    edit_card(scored(tmp_path / "one"), lambda card: card.update(version=99))
    assert "has version 99, and this program reads version 2" in refused(capfd, "one")


def test_images_are_a_number(tmp_path, capfd):
    scored(tmp_path / "one")
    assert "--images is -1; it must be 0 or more" in refused(capfd, "one", "--images", "-1")


def test_a_score_that_there_is_not(tmp_path, capfd):
    scored(tmp_path / "one")
    said = refused(capfd, "one", "--plot", "a.png", "--x", "steps", "--y", "benchmark/texture/blip_vqa@8")
    assert "is no metric and no score; the scores are benchmark/blip_vqa@8, benchmark/color/blip_vqa@8" in said
