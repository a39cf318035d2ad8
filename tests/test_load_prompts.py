"""`load_prompts`: suites, fixed stratified parts, and the record that files are compared with."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.prompts import load
from eclipse_pl.prompts.prompt import Prompt, PromptSet, Relation
from eclipse_pl.prompts.record import FileEntry, PromptsRecord, file_sha256
from eclipse_pl.prompts.subsets import stratified
from tests.helpers.compbench_folder import write_compbench
from tests.helpers.rule_parser import RuleParser

load_prompts = partial(load.load_prompts, parser=RuleParser())


def ids(prompts: PromptSet) -> list[str]:
    return [prompt.id for prompt in prompts]


def test_a_part_has_every_stratum_in_its_share(tmp_path: Path) -> None:
    folder = write_compbench(tmp_path, lines=30, parts=(6, 21, 3))
    part = load_prompts(folder, "compbench", per_category=10)
    assert Counter(prompt.category for prompt in part) == dict.fromkeys(part.categories, 10)
    assert Counter(prompt.subset for prompt in part if prompt.category == "complex") == {
        "action": 7,
        "spatial": 2,
        "spatialaction": 1,
    }
    whole = load_prompts(folder, "compbench", ["3d_spatial"])
    of_whole = Counter(prompt.relation.name for prompt in whole if prompt.relation)
    of_part = Counter(prompt.relation.name for prompt in part if prompt.category == "3d_spatial" and prompt.relation)
    assert all(abs(of_part[name] - n / 3) < 1 for name, n in of_whole.items()) and len(of_whole) == 3


def test_a_part_is_always_the_same(tmp_path: Path) -> None:
    folder = write_compbench(tmp_path, lines=12, parts=(3, 8, 1))
    first = load_prompts(folder, "compbench", per_category=8)
    assert first == load_prompts(folder, "compbench", per_category=8)
    assert first != load_prompts(folder, "compbench", per_category=8, seed=1)
    assert ids(load_prompts(folder, "compbench", ["color"], 8)) == [name for name in ids(first) if name.startswith("color/")]
    whole = load_prompts(folder, "compbench", per_category=1000)
    assert whole == load_prompts(folder, "compbench")


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 3))
def test_a_smaller_part_lies_inside_a_larger_one(subsets: list[str], one: int, other: int, seed: int) -> None:
    prompts = PromptSet("ours", tuple(Prompt(f"x/{i:04d}", "x", "", subset=name) for i, name in enumerate(subsets)), "none")
    small, large = (stratified(prompts, size, seed) for size in sorted((one, other)))
    assert set(small) <= set(large) and len(small) == min(one, other, len(prompts))
    assert ids(large) == sorted(ids(large))
    for name, size in Counter(subsets).items():  # never further from a stratum's share than one prompt of each stratum
        share = len(large) * size / len(prompts)
        assert abs(sum(prompt.subset == name for prompt in large) - share) <= 3


def test_what_failed_stays_with_its_prompts() -> None:
    prompts = PromptSet(
        "ours", tuple(Prompt(f"x/{i}", "x", "") for i in range(4)), "none", tuple((f"x/{i}", "") for i in range(4))
    )
    part = stratified(prompts, 2)
    assert [name for name, _ in part.failed] == ids(part)
    assert part.sha256 != replace(part, prompts=part.prompts[:1]).sha256


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            {"suite": "drawbench"},
            "no suite 'drawbench'; the suites are compbench, geneval, dpg, dsg, geneval2, genai_bench, file",
        ),
        ({"per_category": 0}, "per_category is 0"),
        ({"source": "nowhere"}, "There is no folder nowhere. `python -m data_prep prompts --suite compbench --out nowhere`"),
        ({"suite": "geneval"}, "There is no .*evaluation_metadata.jsonl"),
    ],
)
def test_bad_requests(tmp_path: Path, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_prompts(**{"source": write_compbench(tmp_path, lines=3, parts=(1, 1, 1)), "suite": "compbench", **arguments})


def test_a_folder_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a YAML no shell replaces the ~."""
    write_compbench(tmp_path / "prompts", lines=3, parts=(1, 1, 1))
    monkeypatch.setenv("HOME", str(tmp_path))
    there, home = (load_prompts(folder, "compbench") for folder in (tmp_path / "prompts", "~/prompts"))
    assert home.sha256 == there.sha256


def test_a_file_that_changed_after_its_download_is_refused(tmp_path: Path) -> None:
    folder = write_compbench(tmp_path, lines=3, parts=(1, 1, 1))
    names = [path.name for path in folder.glob("*.txt")]
    PromptsRecord("compbench", "there", files={name: FileEntry("there", file_sha256(folder / name)) for name in names}).save(
        folder
    )
    assert len(load_prompts(folder, "compbench")) == 24
    (folder / "shape_val.txt").write_text("a round kettle and an oval canoe\n")
    with pytest.raises(ValueError, match=r"shape_val.txt has changed since it was downloaded.*--accept-changed"):
        load_prompts(folder, "compbench")
    with pytest.raises(ValueError, match="holds prompts of the suite 'compbench', not 'geneval'"):
        load_prompts(folder, "geneval")
    assert len(load_prompts(folder / "color_val.txt", "file")) == 3
    with pytest.raises(ValueError, match=r"shape_val.txt has changed"):
        load_prompts(folder / "shape_val.txt", "file")
    (folder / "shape_val.txt").unlink()
    with pytest.raises(ValueError, match=r"shape_val.txt is missing. Run `python -m data_prep prompts --suite compbench"):
        load_prompts(folder, "compbench", ["color"])


@pytest.mark.parametrize(
    ("content", "match"),
    [("{", "is damaged"), ("[]", "is damaged"), ('{"schema": 2, "suite": "file", "source": "", "files": {}}', "has schema 2")],
)
def test_a_record_that_is_none_of_ours(tmp_path: Path, content: str, match: str) -> None:
    folder = write_compbench(tmp_path, lines=3, parts=(1, 1, 1))
    (folder / "prompts.json").write_text(content)
    with pytest.raises(ValueError, match=match):
        load_prompts(folder, "compbench")


def test_relations_are_strata_too() -> None:
    prompts = [Prompt(f"x/{i}", "x", "", relation=Relation("a", "near" if i else "behind", "b")) for i in range(9)]
    assert all(isinstance(prompt.relation, Relation) for prompt in stratified(PromptSet("ours", tuple(prompts), ""), 9))


@pytest.mark.parametrize("suite", load.SUITES)
def test_no_categories_are_not_all(suite: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"categories is empty, so no prompt would be read.*leave it out \(null\) for all"):
        load_prompts(tmp_path, suite, categories=[])
