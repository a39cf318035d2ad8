"""Tables of experiments/README.md are those of the committed files of numbers."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from experiments.measured import __main__ as measured
from experiments.measured import contrastive_tables, prior_tables, real_pairs_tables, runs, target_tables
from tests.helpers.scripts import EXPERIMENTS


def test_the_tables_are_those_of_the_results() -> None:
    measured.main(["--check"])


def test_every_file_of_results_says_its_command_and_commit() -> None:
    files = [path for path in (EXPERIMENTS / "results").glob("*.csv") if path.name != "world_detail.csv"]
    assert files
    for path in files:
        command, commit, *table = path.read_text().splitlines()
        assert command.startswith(f"# python -m eclipse_pl sweep experiments/sweeps/{path.stem}.yaml"), path
        assert commit.startswith("# commit "), path
        assert all(row["state"] == "finished" for row in csv.DictReader(table))


def test_a_table_of_other_numbers_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds of two priors: means, t-intervals, paired differences; then a cell is changed by hand."""
    (tmp_path / "results").mkdir()
    columns = (
        "seed_everything,data,model.prior,state,val/energy_score,val/mean_cosine,val/spread,val/variance_ratio,val/frechet"
    )
    lines = [
        f"{seed},experiments/parts/data/world_detail_50.yaml,experiments/parts/prior/{prior}_world.yaml,finished,{value},0.5,0.1,1,2"
        for prior, values in {"projection": (10, 12), "energy": (7, 8)}.items()
        for seed, value in enumerate(values)
    ]
    (tmp_path / "results/detail_world.csv").write_text("\n".join(["# command", "# commit", columns, *lines]))
    monkeypatch.setattr(runs, "HERE", tmp_path)
    difference = runs.Runs("detail_world").difference("energy_world", "world_detail_50", "val/energy_score")
    half = 12.706 * math.sqrt(0.5) / math.sqrt(2)
    assert (difference.mean, difference.n, difference.high) == (-3.5, 2, pytest.approx(-3.5 + half, abs=1e-3))
    places = "\n".join(f"<!-- table: {name} -->\n\n<!-- end -->" for name in measured.TABLES)
    text = measured.with_tables(places)
    assert "| energy | 0, 0, 2, 0 | – | – | 8 ± 6 | – |" in text
    assert measured.with_tables(text) == text
    (tmp_path / "README.md").write_text(text.replace("8 ± 6", "8 ± 1"))
    with pytest.raises(ValueError, match=r"README\.md has other tables than results/"):
        measured.main(["--check"])
    with pytest.raises(ValueError, match=r"README\.md has places for the tables none"):
        measured.with_tables("no place")


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["# command", "# commit", *lines]))


def test_tables_of_other_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number stands in the row of its prior and in the column of its setting."""
    monkeypatch.setattr(runs, "HERE", tmp_path)
    flow, data = "experiments/parts/prior/flow_world.yaml", "experiments/parts/data/world_detail_50.yaml"
    write(
        tmp_path / "results/budget_world.csv",
        "trainer.max_steps,seed_everything,model.prior,val/energy_score",
        f"400,0,{flow},30.5",
        f"8000,0,{flow},20.5",
    )
    write(
        tmp_path / "results/detail_sampled_world.csv",
        "seed_everything,data,model.prior,val/energy_score",
        f"0,{data},{flow},25.5",
    )
    assert "| flow, velocity | 1, 1, 1 | 30.5 | 25.5 | 20.5 |" in prior_tables.by_budget("val/energy_score")
    name = '"runs/detail_sampled_world/seed_everything=0,data=world_detail_50,prior=flow_world"'
    write(
        tmp_path / "results/detail_guidance_world.csv",
        "model.prior.init_args.guidance_scale,ckpt_path,val/energy_score",
        *(f"{guidance},{name},{10 + guidance}" for guidance in (1.0, 2.0)),
    )
    assert "| flow, velocity, detail 0.5 | 11.0 | – | 12.0 | – |" in prior_tables.by_guidance("val/energy_score")
    write(
        tmp_path / "results/detail_images_world.csv",
        "prior,decoder,benchmark/oracle",
        f"{name},experiments/parts/decoder/world.yaml,0.25",
        f"{name},experiments/parts/decoder/world_nearest.yaml,0.75",
    )
    assert "| flow, velocity | 1, 1, 0 | 0.250 | 0.750 | – |" in prior_tables.of_images("world_detail_50")
    reference = name.replace("flow_world", "projection_world")
    with (tmp_path / "results/detail_images_world.csv").open("a") as file:
        file.write(f"\n{reference},experiments/parts/decoder/world_nearest.yaml,0.5")
    table = prior_tables.differences_of_images()
    assert table.splitlines()[2:] == ["| flow, velocity minus projection | 0, 0, 0, 0, 1, 0 | – | – | – | – | +0.250 | – |"]
    write(
        tmp_path / "results/detail_vague_world.csv",
        "prior,decoder,benchmark/oracle",
        *(f"{one},experiments/parts/decoder/world.yaml,{score}" for one, score in ((name, 0.5), (reference, 0.625))),
    )
    vague = prior_tables.differences_of_images(["world_detail_50"], "detail_vague_world")
    assert vague.splitlines()[2:] == ["| flow, velocity minus projection | 1, 0, 0 | −0.125 | – | – |"]
    write(
        tmp_path / "results/budget_images_world.csv",
        "prior,decoder,benchmark/oracle",
        '"runs/budget_sampled_world/max_steps=8000,seed_everything=0,prior=flow_world",experiments/parts/decoder/world.yaml,0.5',
    )
    assert "| flow, velocity | 1, 0, 0 | 0.500 | – | – |" in prior_tables.of_images("world_detail_50", "budget_images_world")
    write(
        tmp_path / "results/relative_weight_world.csv",
        "seed_everything,data,model.prior.init_args.relative_weight,val/cosine",
        *(f"0,{data},{weight},{cosine}" for weight, cosine in ((0.0, 0.52), (0.3, 0.5125))),
    )
    assert "| cosine, detail 0.5 | 1 | 0.520 | – | – | 0.512 | – | – | – |" in contrastive_tables.by_relative_weight()
    write(
        tmp_path / "results/contrastive_hard_world.csv",
        "seed_everything,model.prior.init_args.hard_negatives,model.prior.init_args.relative_weight,val/hard_negative",
        *(f"0,{hard},0.3,{value}" for hard, value in (("False", 0.75), ("True", 0.875))),
    )
    table = contrastive_tables.by_hard_negatives()
    assert "| binding, without hard negatives | 1 | – | – | 0.750 | – |" in table
    assert "| binding, with hard negatives | 1 | – | – | 0.875 | – |" in table
    write(
        tmp_path / "results/contrastive_batch_world.csv",
        "seed_everything,model.prior.init_args.mask_duplicates,data.init_args.group_by_length,val/hard_negative",
        *(f"0,{masked},True,{value}" for masked, value in (("False", 0.75), ("True", 0.875))),
    )
    table = contrastive_tables.by_batch()
    assert "| batches of one length | 1 | – | – | – | 0.750 |" in table
    assert "| batches of one length, equal captions are no negatives | 1 | – | – | – | 0.875 |" in table
    head = "data,val/energy_score,val/upper_bound/energy_score"
    write(tmp_path / "results/detail_truth_world.csv", head, f"{data},9.5,7.25")
    row = next(line for line in prior_tables.by_detail("val/energy_score").splitlines() if "upper bound" in line)
    assert row == "| true distribution (upper bound) | 0, 0, 1, 0 | – | – | 7.2 | – |"


def test_targets_are_read_with_the_usual_one_from_its_own_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first seed of detail_world has raw targets; a decoder's score stands beside the numbers of the same training."""
    monkeypatch.setattr(runs, "HERE", tmp_path)
    prior, data = "experiments/parts/prior/energy_world.yaml", "experiments/parts/data/world_detail_50.yaml"
    head = "seed_everything,data,model.prior,val/energy_score"
    write(tmp_path / "results/detail_world.csv", head, *(f"{seed},{data},{prior},{18 + seed}.5" for seed in (0, 1)))
    write(
        tmp_path / "results/whitening_world.csv",
        "seed_everything,data,model.prior,model.prior.init_args.standardise,val/energy_score",
        *(f"0,{data},{prior},{target},{value}" for target, value in (("full", 20.5), ("diagonal", 19.5))),
    )
    name = '"runs/{}/seed_everything={},{}data=world_detail_50,prior=energy_world",experiments/parts/decoder/{}.yaml,{}'
    head = "prior,decoder,benchmark/oracle"
    write(
        tmp_path / "results/detail_images_world.csv",
        head,
        *(name.format("detail_world", seed, "", "world", score) for seed, score in ((0, 0.25), (1, 0.75))),
    )
    whitened = ("whitening_world", 0, "standardise=full,")
    write(tmp_path / "results/whitening_images_world.csv", head, name.format(*whitened, "world_nearest", 0.5))
    assert target_tables.by_target().splitlines()[2:] == [
        "| energy, raw, detail 0.5 | 18.5 | – | – | – | 0.250 | – | – |",
        "| energy, standardised, detail 0.5 | 19.5 | – | – | – | – | – | – |",
        "| energy, whitened, detail 0.5 | 20.5 | – | – | – | – | 0.500 | – |",
    ]


def test_steps_are_read_beside_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "HERE", tmp_path)
    name = '"runs/{}/max_steps=8000,seed_everything=1,prior={}_world"'
    write(
        tmp_path / "results/budget_one_pass_world.csv",
        "ckpt_path,val/energy_score",
        f"{name.format('budget_world', 'energy')},8.5",
    )
    write(
        tmp_path / "results/budget_steps_world.csv",
        "model.prior.init_args.guidance_scale,model.prior.init_args.steps,ckpt_path,val/energy_score",
        *(
            f"{scale},{steps},{name.format('budget_sampled_world', 'flow')},{scale + steps}"
            for scale in (1.0, 2.0)
            for steps in (1, 8)
        ),
    )
    assert prior_tables.by_steps("val/energy_score").splitlines()[2:] == [
        "| energy | 1 | 8.50 | – | – | – | – |",
        "| flow, velocity, guidance 1 | 1 | 2.00 | – | – | 9.00 | – |",
        "| flow, velocity, guidance 2 | 1 | 3.0 | – | – | 10.0 | – |",
    ]


def test_targets_and_pairs_of_the_contrastive_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "HERE", tmp_path)
    option = "model.prior.init_args"
    write(
        tmp_path / "results/contrastive_target_world.csv",
        f"seed_everything,{option}.target,{option}.temperature,val/R@1",
        "0,text,0.01,0.125",
        "0,image,0.07,0.25",
    )
    write(tmp_path / "results/contrastive_learned_world.csv", f"seed_everything,{option}.temperature,val/R@1", "0,0.1,0.375")
    table = contrastive_tables.by_target_and_temperature().splitlines()
    assert table[0] == "| temperature | n | 0.01 | 0.03 | 0.07 | 0.1 | learned from 0.01 | learned from 0.1 |"
    assert table[2:] == [
        "| R@1, text | 1 | 0.125 | – | – | – | – | 0.375 |",
        "| R@1, image | 1 | – | – | 0.250 | – | – | – |",
    ]
    write(
        tmp_path / "results/contrastive_pairs_world.csv",
        f"seed_everything,data.init_args.pairs,{option}.relative_weight,val/R@1",
        "0,600,0.3,0.5",
        "0,20000,0.0,0.75",
    )
    assert contrastive_tables.by_pairs().splitlines()[2:] == [
        "| R@1, without | 1 | – | – | – | 0.750 |",
        "| R@1, with | 1 | – | 0.500 | – | – |",
    ]


def test_real_pairs_are_compared_split_by_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits share pairs: the variance of a mean over two of them is 1/2 + 1/4 times theirs."""
    monkeypatch.setattr(runs, "HERE", tmp_path)
    write(
        tmp_path / "results/coco500_objectives.csv",
        "trainer.max_steps,data.init_args.folder,model.prior,val/energy_score",
        *(
            f"300,data/coco500_{split},experiments/parts/prior/{prior}.yaml,{value}"
            for prior, values in {"projection_pooled": (0.4, 0.6), "linear": (0.5, 0.8)}.items()
            for split, value in enumerate(values)
        ),
    )
    wide, narrow = (12.7062 * math.sqrt(3 / 4) * apart / math.sqrt(2) for apart in (0.2, 0.1))
    assert f"| projection, 300 steps | 2 | 0.5 ± {wide:.1f} | – |" in real_pairs_tables.by_split()
    assert f"| ridge regression, 300 steps | 2 | +0.15 ± {narrow:.2f} | – |" in real_pairs_tables.differences_by_split()
    assert "projection" not in real_pairs_tables.differences_by_split()
