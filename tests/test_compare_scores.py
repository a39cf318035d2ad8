"""Scores of images in a comparison, through its front door: runs and benchmark folders, intervals, win rates, distances."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest

from eclipse_pl.compbench.scorecard import table_of, write_rows
from eclipse_pl.intervals import LEAST, Groups, difference_interval, t_quantile
from eclipse_pl.reports.score_record import kind_of_checkpoint
from eclipse_pl.scorers.preference import prefer
from tests.helpers.compared_runs import SEEDS, compare, copy, flowing, numbers
from tests.helpers.html_page import Page
from tests.helpers.scored_folders import card_of, edit_card, pipeline, prior, rows_of, score_run, scored

SCORER = "blip_vqa@8"
COLOR = f"benchmark/color/{SCORER}"
FIRST, SECOND = "contrastive_weight=0.0", "contrastive_weight=1.0"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    return scored(tmp_path / "plain"), scored(tmp_path / "light", light=5)


@pytest.fixture(scope="module")
def two_of_many(tmp_path_factory) -> tuple[Path, Path]:
    """Of as many prompts in each category as scores need for an interval."""
    folder, many = tmp_path_factory.mktemp("many"), {"per_category": LEAST}
    return scored(folder / "plain", **many), scored(folder / "light", light=5, **many)


@pytest.fixture
def scored_runs(compared_runs, tmp_path) -> Path:
    """Two variants of three seeds, each with a scorecard; the second generates lighter, more so with every seed."""
    folder = copy(compared_runs, tmp_path / "runs")
    for run in sorted(folder.iterdir()):
        score_run(run, light=int(run.name[-1]) + (4 if "1.0" in run.name else 0))
    return folder


def values(folder: Path, category: str, scorer: str = SCORER) -> dict[tuple[str, int], float]:
    rows = [row for row in rows_of(folder) if row["category"] == category]
    return {(row["id"], row["seed"]): row["scores"][scorer]["value"] for row in rows}


def mean_of(row: dict[str, str], prefix: str = "") -> tuple[float, float, float]:
    mean, low, high = (float(row[f"{prefix}{part}"]) for part in ("mean", "low", "high"))
    return mean, low, high


def test_scores_of_benchmark_folders_are_those_of_their_scorecards(two_of_many):
    compare(*two_of_many, "--csv", "numbers.csv")
    table = numbers()
    for folder in two_of_many:
        cells = card_of(folder)["scores"][SCORER]
        for category in ("color", "shape"):
            for subset, name in (("all", COLOR), ("seen", f"benchmark/color/seen/{SCORER}")):
                row, cell = table[folder.name, subset, name.replace("color", category)], cells[category][subset]
                if subset == "seen":
                    assert (float(row["mean"]), row["low"], row["interval"]) == (pytest.approx(cell["mean"]), "", "too few")
                else:
                    assert mean_of(row) == pytest.approx([cell[part] for part in ("mean", "low", "high")])
                assert row["n"] == str(cell["prompts"]) and row["over"] == "prompts"
        mean = table[folder.name, "all", f"benchmark/{SCORER}"]
        assert float(mean["mean"]) == pytest.approx(statistics.mean(cells[name]["all"]["mean"] for name in cells))
        assert float(mean["low"]) > min(cells[name]["all"]["low"] for name in cells), "two categories are surer than one"


def test_differences_and_win_rates_are_those_of_images_of_the_same_prompt_and_seed(two_of_many):
    compare(*two_of_many, "--csv", "numbers.csv")
    table = numbers()
    parts = []
    for category in ("color", "shape"):
        plain, light = (values(folder, category) for folder in two_of_many)
        assert plain.keys() == light.keys() and len(plain) == 40
        both = np.array([[light[key], plain[key]] for key in plain])
        parts.append(Groups.of(both, [prompt for prompt, _ in plain]))
        expected = difference_interval(parts[-1:])
        row = table["light", "all", COLOR.replace("color", category)]
        assert mean_of(row, "difference_") == pytest.approx([expected.mean, expected.low, expected.high])
        won = prefer(light, plain).win_rate
        assert mean_of(row, "win_rate_") == pytest.approx([won.mean, won.low, won.high])
    mean = difference_interval(parts)
    row = table["light", "all", f"benchmark/{SCORER}"]
    assert mean_of(row, "difference_") == pytest.approx([mean.mean, mean.low, mean.high])
    assert row["difference_interval"] == "studentised bootstrap" and row["win_rate_interval"] == "Clopper-Pearson"
    assert table["plain", "all", COLOR]["difference_mean"] == ""


def test_what_is_printed_of_two_folders(two_of_many, capsys):
    compare(*two_of_many)
    printed = capsys.readouterr().out
    cell = card_of(two_of_many[1])["scores"][SCORER]["color"]["all"]
    assert f"{cell['mean']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]" in printed
    for text in ("difference from plain", "win rate against plain", "▲", "40 × 2", "nothing was trained here", "Newcombe"):
        assert text in printed
    assert "Cost" not in printed and "Win rate against" not in printed, "there is nothing latent here"


def test_the_mean_stands_before_the_categories(two, capsys):
    compare(*two, "--markdown")
    header = "| trainings | mean\u00a0↑ | color\u00a0↑ | shape\u00a0↑ |"
    assert header in capsys.readouterr().out
    cells = Page(Path("compare/page.html").read_text()).cells
    at = cells.index(SCORER)
    assert cells[at : at + 5] == [SCORER, "trainings", "mean\u00a0↑", "color\u00a0↑", "shape\u00a0↑"]
    assert cells[cells.index(f"{SCORER}: win rate against plain") + 2] == "all images"


def test_few_prompts_are_said_to_be_too_few(two, capsys):
    compare(*two, "--csv", "numbers.csv")
    cell = card_of(two[1])["scores"][SCORER]["color"]["all"]
    assert f"{cell['mean']:.3f} (too few)" in capsys.readouterr().out
    row = numbers()["light", "all", COLOR]
    assert (row["interval"], row["low"], row["difference_interval"], row["difference_low"]) == ("too few", "", "too few", "")
    assert row["win_rate_interval"] == "Clopper-Pearson" and row["win_rate_low"], "outcomes have one, however few they are"
    assert f"{cell['mean']:.3f} (too few)" in Path("compare/page.html").read_text()


@pytest.mark.parametrize("right", [0, 1])
def test_two_that_agree_everywhere_may_differ_either_way(two, right):
    """Scores of 0 and 1, four prompts: not 0.0 [0.0, 0.602], which is the bound of a share."""
    for folder in two:
        rows = rows_of(folder)
        for at, row in enumerate(rows):
            row["scores"][SCORER]["value"] = float(at // 2 % 2 == right)
        write_rows(folder / "rows.jsonl", rows)
    compare(*two, "--csv", "numbers.csv")
    row = numbers()["light", "all", COLOR]
    mean, low, high = mean_of(row, "difference_")
    assert mean == 0 and low == pytest.approx(-high) and high > 0.1
    assert row["difference_interval"] == "Newcombe"


def test_markdown_has_the_tables_of_scores(two, capsys):
    compare(*two, "--markdown")
    printed = capsys.readouterr().out
    assert "| *plain* | none |" in printed and "| light | none |" in printed
    assert "| SD 1.4 (published) | 900 |" in printed and "16.31\\*" in printed


@pytest.mark.long
def test_scores_of_runs_are_means_over_trainings_paired_by_seed(scored_runs, capsys):
    compare(scored_runs, "--csv", "numbers.csv")
    runs = {weight: [scored_runs / f"weight_{weight}_seed_{seed}" for seed in SEEDS] for weight in ("0.0", "1.0")}
    first, second = ([card_of(run)["scores"][SCORER]["color"]["all"]["mean"] for run in runs[weight]] for weight in runs)
    table = numbers()
    row = table[SECOND, "all", COLOR]
    half = t_quantile(2) * statistics.stdev(second) / math.sqrt(3)
    mean = statistics.mean(second)
    assert mean_of(row) == pytest.approx([mean, mean - half, mean + half])
    assert (row["n"], row["over"]) == ("3", "seeds")
    apart = [b - a for a, b in zip(first, second, strict=True)]
    assert float(row["difference_mean"]) == pytest.approx(statistics.mean(apart))
    assert row["difference_n"] == "3"
    assert row["win_rate_n"] == "4", "prompts: trainings are repetitions"
    assert table[SECOND, "all", "cosine"]["n"] == "3", "latent numbers are here too"
    said = flowing(capsys)
    assert "What may not be concluded from the scores of images" in said
    assert "What may not be concluded from the latent metrics" in said


@pytest.mark.long
def test_a_benchmark_of_a_run_is_the_score_of_that_run(compared_runs, tmp_path, capsys):
    folder = copy(compared_runs, tmp_path / "runs", "weight_0.0_seed_0", "weight_1.0_seed_0")
    benchmarks = [scored(tmp_path / f"bench_{run.name}", 4 * n, prior(run)) for n, run in enumerate(sorted(folder.iterdir()))]
    compare(folder, *benchmarks, "--csv", "numbers.csv")
    table = numbers()
    assert {name for name, _, metric in table if metric == COLOR} == {FIRST, SECOND}
    assert table[SECOND, "all", COLOR]["difference_n"] == "4" and table[SECOND, "all", "cosine"]["n"] == "1"
    assert "n = 1 training (contrastive_weight=0.0; contrastive_weight=1.0): [brackets]" in flowing(capsys)
    compare(*benchmarks, "--csv", "numbers.csv")
    assert {name for name, *_ in numbers()} == {FIRST, SECOND}, "the config is found where the prior was loaded from"
    score_run(folder / "weight_0.0_seed_0", 0)
    compare(folder, *benchmarks)
    assert f"The scores of {folder / 'weight_0.0_seed_0'} are those of {benchmarks[0]}" in flowing(capsys)


@pytest.mark.parametrize(
    ("prior", "kind"),
    [
        ("runs/a/version_0", "last"),
        ("runs/a/version_0/checkpoints/last.ckpt", "last"),
        ("runs/a/version_0/checkpoints/best-step=500.ckpt", "best"),
        ("logs/version_0/checkpoints/epoch=3-step=200.ckpt", "numbered"),
    ],
)
def test_a_checkpoint_is_called_by_its_name_without_numbers(prior, kind):
    assert kind_of_checkpoint(prior) == kind


def benchmark_of(run: Path, checkpoint: str = "", light: int = 0) -> Path:
    """A benchmark of a run, or of one of its checkpoints."""
    identity = prior(run) | ({"prior": str(run / "checkpoints" / checkpoint)} if checkpoint else {})
    return scored(Path(f"bench_{run.name}_{checkpoint}").absolute(), light, identity)


@pytest.mark.long
def test_the_best_checkpoint_and_the_last_one_are_two_variants(compared_runs, tmp_path, capsys):
    folder = copy(compared_runs, tmp_path / "runs")
    first, second = folder / "weight_0.0_seed_0", folder / "weight_0.0_seed_1"
    best, last, of_second = benchmark_of(first, "best-step=2.ckpt"), benchmark_of(first, light=3), benchmark_of(second)
    compare(best, last, of_second, "--csv", "numbers.csv")
    assert numbers()["checkpoint=best", "all", COLOR]["over"] == "prompts"
    assert numbers()["checkpoint=last", "all", COLOR]["n"] == "2", "seeds"
    compare(best, of_second, "--csv", "numbers.csv")
    assert {name for name, *_ in numbers()} == {"checkpoint=best", "checkpoint=last"}, "no two seeds of one variant"
    said = flowing(capsys)
    assert f"The scorecard of {best} is that of step 2; it was trained to step 4." in said
    compare(best, first, "--csv", "numbers.csv")
    assert ("checkpoint=best", "all", COLOR) in numbers() and ("checkpoint=last", "all", COLOR) not in numbers()


@pytest.mark.long
def test_checkpoints_of_one_kind_are_told_apart_by_their_steps(compared_runs, tmp_path, capsys):
    folder = copy(compared_runs, tmp_path / "runs")
    first, second = folder / "weight_0.0_seed_0", folder / "weight_0.0_seed_1"
    early, late = benchmark_of(first, "best-step=2.ckpt"), benchmark_of(first, "best.ckpt", light=3)
    edit_card(late, lambda card: card.update(trained_steps=3))
    compare(early, late, "--csv", "numbers.csv")
    assert {name for name, *_ in numbers()} == {"checkpoint=best-step=2", "checkpoint=best-step=3"}
    said = flowing(capsys)
    assert "Training was not equally long: the variants saw 16 to 24 pairs." in said
    assert "Too few prompts for an interval in some scores of checkpoint=best-step=2; checkpoint=best-step=3" in said
    compare(early, benchmark_of(second, "best-step=4.ckpt"), "--csv", "numbers.csv")
    ((name, n),) = {(name, row["n"]) for (name, _, metric), row in numbers().items() if metric == COLOR}
    assert n == "2", "each seed has its own best"
    assert f"The seeds of {name} were measured after different numbers of training steps, 2 to 4." in flowing(capsys)


@pytest.mark.long
def test_runs_with_and_without_scores_and_pipelines_stand_in_one_comparison(scored_runs, tmp_path, capsys):
    shutil.rmtree(scored_runs / "weight_1.0_seed_2" / "benchmark")
    (scored_runs / "weight_1.0_seed_2" / "scorecard.json").unlink()
    upper_bound = scored(
        tmp_path / "upper_bound", 9, {"prior": "true image", "encoder": "tiny-8", "decoder": prior("")["decoder"]}
    )
    compare(upper_bound, scored_runs, scored(tmp_path / "some-pipeline", 3), "--csv", "numbers.csv", "--reference", FIRST)
    table = numbers()
    assert list(dict.fromkeys(name for name, _, metric in table if metric == COLOR)) == [
        FIRST, SECOND, "some-pipeline", "true image (upper bound)",
    ]  # fmt: skip
    assert table[SECOND, "all", COLOR]["n"] == "2" and table[SECOND, "all", "cosine"]["n"] == "3"
    assert table["some-pipeline", "all", COLOR]["difference_n"] == "3", "paired with every training of the reference"
    said = flowing(capsys)
    assert "Whole systems are compared here" in said and "some-pipeline as a whole pipeline" in said


@pytest.mark.long
def test_the_file_of_numbers_says_what_a_difference_is_over(scored_runs, tmp_path):
    """A mean and its difference may be over different things: each ``n`` has a column that names what it counts."""

    def over(name: str, metric: str = COLOR) -> tuple[str, ...]:
        row = numbers()[name, "all", metric]
        return tuple(row[key] for key in ("over", "n", "difference_over", "difference_n"))

    alone = scored(tmp_path / "some-pipeline", 3)
    compare(scored_runs, alone, "--csv", "numbers.csv")
    assert over("some-pipeline") == ("prompts", "4", "seeds", "3"), "paired with every training of the reference"
    assert over(SECOND) == ("seeds", "3", "seeds", "3") and over(FIRST) == ("seeds", "3", "", "")
    assert over(SECOND, "cosine") == ("seeds", "3", "seeds", "3")
    for seed in (1, 2):
        shutil.rmtree(scored_runs / f"weight_0.0_seed_{seed}")
    compare(scored_runs, "--csv", "numbers.csv")
    assert over(FIRST) == ("prompts", "4", "", "")
    assert over(SECOND) == ("seeds", "3", "prompts", "4"), "one seed in common"
    assert over(SECOND, "cosine") == ("seeds", "3", "seeds", "1")


def test_two_of_one_name_are_distinguished_by_their_options(tmp_path, capsys):
    fast, slow = (scored(tmp_path / f"s{n}", n, pipeline("org/model", num_inference_steps=n)) for n in (2, 50))
    compare(fast, slow, "--csv", "numbers.csv")
    assert {name for name, *_ in numbers()} == {
        "org/model (num_inference_steps=2)",
        "org/model (num_inference_steps=50)",
    }


def distance(fid: float, **protocol: object) -> dict[str, object]:
    return {"fid": fid, "kid": [0.25, 0.01], "recall": 0.5, "protocol": {"side": None, "extractor": "inception", **protocol}}


def test_distances_are_columns_without_intervals(two, capsys):
    for folder, fid in zip(two, (12.5, 20.25), strict=True):
        edit_card(folder, lambda card, fid=fid: card.update(distribution=distance(fid)))
    compare(*two, "--csv", "numbers.csv")
    row = numbers()["light", "all", "distribution/fid"]
    assert (row["mean"], row["low"], row["difference_mean"], row["win_rate_n"]) == ("20.25", "", "7.75", "")
    assert numbers()["light", "all", "distribution/kid"]["mean"] == "0.25"
    header, _, line = capsys.readouterr().out.splitlines()[1:4]
    assert [word for word in ("FID", "KID", "recall", "precision") if word in header] == ["FID", "KID", "recall"]
    assert "20.2" in line


def test_diversity_is_a_column_that_nobody_wins(two, capsys):
    """Values of each image, paired by prompt and seed, with intervals over prompts."""
    name = "diversity[dinov2-large]"
    for folder, more in zip(two, (0.0, 0.25), strict=True):
        rows = rows_of(folder)
        for number, row in enumerate(rows):
            row["scores"][name] = {"value": 0.125 * (number % 3) + more, "evidence": {}}
        write_rows(folder / "rows.jsonl", rows)
        table = table_of(rows)
        edit_card(folder, lambda card, table=table: card["scores"].update({name: table[name]}))
    compare(*two, "--csv", "numbers.csv")
    row = numbers()["light", "all", f"benchmark/{name}"]
    assert float(row["difference_mean"]) == pytest.approx(0.25) and row["win_rate_n"] == ""
    printed = capsys.readouterr().out
    assert f"{SCORER}: win rate against" in printed and f"{name}: win rate against" not in printed
    assert f"{name}, mean" in printed.partition("trainings")[2].splitlines()[0], "with its brackets"
    for scorer, arrow in ((SCORER, True), (name, False)):
        header = next(line for line in printed.partition(f"{scorer}: difference from")[2].splitlines() if "color" in line)
        assert ("↑" in header) == arrow


@pytest.mark.long
def test_a_score_against_a_parameter(scored_runs):
    compare(scored_runs, "--plot", "plot.svg", "--x", "contrastive_weight", "--y", COLOR)
    assert Path("plot.svg").read_text().rstrip().endswith("</svg>")


def test_without_rows_there_are_scores_and_no_win_rates(two, capsys):
    (two[1] / "rows.jsonl").unlink()
    compare(*two, "--csv", "numbers.csv")
    row = numbers()["light", "all", COLOR]
    assert row["mean"] and row["difference_mean"] and not row["difference_low"] and not row["win_rate_n"]
    assert f"{two[1]} has no rows.jsonl of its scorecard" in flowing(capsys)


def test_failed_images_are_left_out_of_both_sides(two, capsys):
    rows = rows_of(two[1])
    rows[0]["failed"], rows[0]["scores"][SCORER]["value"] = "cannot be read", None
    write_rows(two[1] / "rows.jsonl", rows)
    edit_card(two[1], lambda card: card.update(failed=1))
    compare(*two, "--csv", "numbers.csv")
    plain, light = (values(folder, "color") for folder in two)
    apart = [light[key] - plain[key] for key in plain if light[key] is not None]
    assert len(apart) == 7
    assert float(numbers()["light", "all", COLOR]["difference_mean"]) == pytest.approx(statistics.mean(apart))
    assert "1 of 16 images" in flowing(capsys)


def test_a_category_that_one_was_not_scored_in_is_not_in_the_mean(two):
    def forget(card):
        del card["scores"][SCORER]["shape"]

    edit_card(two[1], forget)
    compare(*two, "--csv", "numbers.csv")
    table = numbers()
    assert ("plain", "all", f"benchmark/{SCORER}") not in table
    assert table["light", "all", f"benchmark/shape/{SCORER}"]["mean"] == ""


def test_numbers_of_the_page_are_those_of_the_scorecard(two_of_many):
    compare(*two_of_many)
    page = Path("compare/page.html").read_text().replace("<wbr>", "")
    card = card_of(two_of_many[0])
    assert card["prompts"]["sha256"] in page and json.dumps(card["scorers"][SCORER]).strip('"') in page
    cell = card["scores"][SCORER]["color"]["all"]
    assert f"<td>{cell['mean']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]</td>" in page
