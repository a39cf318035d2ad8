"""What cannot be compared, and what is typed wrongly."""

import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from eclipse_pl.__main__ import main as command
from eclipse_pl.callbacks.latent_facts import write_pairs
from eclipse_pl.reports.run_record import RunRecord
from tests.helpers.compared_runs import compare, copy, edit_config, edit_report, numbers, refused

SECOND = "contrastive_weight=1.0"
LAST = "weight_1.0_seed_2"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def other(report: dict) -> dict:
    return {
        "other shards": lambda: report["shards"].update(sha256="f" * 64, folder="data/elsewhere"),
        "another CLIP space": lambda: report["shards"]["space"].update(name="elsewhere"),
        "other pairs": lambda: report.update(stage="test", pairs_sha256="0" * 64),
        "other metrics": lambda: report.update(metrics_version=99),
    }


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("other shards", "data/elsewhere"),
        ("another CLIP space", "elsewhere (tiny-8, 8 wide)"),
        ("other pairs", "16 pairs of test"),
        ("other metrics", "version 99"),
    ],
)
def test_what_was_measured_otherwise_is_refused_or_marked(compared_runs, tmp_path, capfd, what, told):
    folder = copy(compared_runs, tmp_path / "runs")
    edit_report(folder / LAST, lambda report: other(report)[what]())
    said = refused(capfd, folder)
    assert f"{folder / 'weight_0.0_seed_0'} and {folder / LAST} cannot be compared fairly" in said
    assert what in said
    assert told in said
    assert "--anyway" in said
    compare(folder, "--anyway", "--csv", "numbers.csv")
    printed = " ".join(capfd.readouterr().out.split())
    assert f"{SECOND} †" in printed
    assert "Not a fair comparison" in printed
    page = Path("compare/page.html").read_text()
    assert "Not a fair comparison" in page
    assert f"{SECOND} †" in page.replace("<wbr>", "")
    assert numbers()[SECOND, "all", "cosine"]["marked"] == "yes"


@pytest.mark.long
def test_one_difference_of_several_seeds_is_one_sentence(compared_runs, tmp_path, capfd):
    folder = copy(compared_runs, tmp_path / "runs")
    for seed in range(3):
        edit_report(folder / f"weight_1.0_seed_{seed}", lambda report: other(report)["other shards"]())
    said = refused(capfd, folder)
    assert said.count("cannot be compared fairly") == 1 and "more like this" not in said
    assert f"The same holds for 2 more runs: {folder / 'weight_1.0_seed_1'}, {folder / LAST}." in said
    compare(folder, "--anyway", "--csv", "numbers.csv")
    printed = " ".join(capfd.readouterr().out.split())
    assert printed.count("cannot be compared fairly") == 1 and f"{SECOND} †" in printed
    assert {row["marked"] for (variant, *_), row in numbers().items() if variant == SECOND} == {"yes"}


@pytest.mark.long
def test_an_unfinished_run_is_refused_or_shown_as_it_was_last_validated(compared_runs, tmp_path, capfd):
    folder = copy(compared_runs, tmp_path / "runs")
    expected = json.loads((folder / LAST / "latent.json").read_text())["rows"]
    (folder / LAST / "latent.json").unlink()
    said = refused(capfd, folder)
    assert f"{folder / LAST} has no latent.json, because it has not finished (its last validation is that of step 4)" in said
    assert f"--ckpt_path {folder / LAST}" in said
    rows = RunRecord.read(folder / LAST).table
    assert rows["this prior"]["unseen"] == pytest.approx(expected["this prior"]["unseen"], abs=1e-6, nan_ok=True)
    assert rows["ridge"]["all"] == pytest.approx(expected["ridge"]["all"], abs=1e-6, nan_ok=True)
    compare(folder, "--anyway", "--csv", "numbers.csv")
    assert numbers()[SECOND, "all", "cosine"]["n"] == "3"
    assert numbers()[SECOND, "all", "cosine"]["win_rate_n"] == "", "the pairs of that validation are not known"


def test_a_run_that_never_was_validated_is_left_out(compared_runs, tmp_path, capfd):
    folder = copy(compared_runs, tmp_path / "runs")
    for name in ("latent.json", "metrics.csv"):
        (folder / LAST / name).unlink()
    assert "it has not been validated once" in refused(capfd, folder)
    compare(folder, "--anyway", "--csv", "numbers.csv")
    assert f"{folder / LAST} is left out" in " ".join(capfd.readouterr().out.split())
    assert numbers()[SECOND, "all", "cosine"]["n"] == "2"
    Path("compare/page.html").unlink()
    assert "nothing to compare" in refused(capfd, folder / LAST, "--anyway")


def test_a_run_that_went_on_after_its_table_is_unfinished(compared_runs, tmp_path, capfd):
    folder = copy(compared_runs, tmp_path / "runs")
    edit_report(folder / LAST, lambda report: report.update(step=2, trained_steps=2))
    assert f"{folder / LAST} continued to step 4 after its table was written at step 2" in refused(capfd, folder)


def test_a_table_that_does_not_say_what_it_is_of(compared_runs, tmp_path, capfd):
    folder = copy(compared_runs, tmp_path / "runs")
    edit_report(folder / LAST, lambda report: [report.pop(name) for name in ("shards", "pairs_sha256", "metrics_version")])
    said = refused(capfd, folder)
    assert "does not record on which shards" in said
    assert "python -m eclipse_pl validate" in said


@pytest.mark.long
def test_one_run_twice_is_not_two_seeds(compared_runs, tmp_path, capfd):
    folder = copy(compared_runs, tmp_path / "runs")
    (folder / LAST).rename(folder / "again")
    copy(compared_runs, tmp_path / "runs", LAST)
    said = refused(capfd, folder)
    assert f"{folder / 'again'} and {folder / LAST} are the same config with the same seeds" in said
    compare(folder, "--anyway", "--csv", "numbers.csv")
    assert numbers()[SECOND, "all", "cosine"]["n"] == "3"
    assert numbers()[SECOND, "all", "cosine"]["marked"] == "yes"
    edit_report(folder / "again", lambda report: report["rows"]["this prior"]["all"].update(cosine=1e6))
    os.utime(folder / "again" / "latent.json", (2e9, 2e9))
    compare(folder, "--anyway", "--csv", "numbers.csv")
    assert float(numbers()[SECOND, "all", "cosine"]["mean"]) > 1e5, "the one that was measured last"
    assert numbers()[SECOND, "all", "cosine"]["marked"] == "yes"
    compare(folder / LAST, folder / LAST)


@pytest.mark.parametrize("measured_on", ["fewer pairs", "other shards", "another split", "unknown shards"])
def test_there_is_no_win_rate_over_pairs_that_are_not_the_same(compared_runs, tmp_path, capfd, measured_on):
    """Two sets of one size number their pairs alike; both variants of the second seed were measured on the other one."""
    names = [f"weight_{weight}_seed_{seed}" for weight in (0.0, 1.0) for seed in (0, 1)]
    folder = copy(compared_runs, tmp_path / "runs", *names)
    for run in (folder / name for name in names if name.endswith("1")):
        if measured_on == "fewer pairs":
            edit_report(run, lambda report: report.update(pairs=9, pairs_sha256="0" * 64))
            cut_pairs(run, 9)
        elif measured_on == "other shards":
            edit_report(run, lambda report: report["shards"].update(sha256="f" * 64))
        elif measured_on == "another split":
            edit_report(run, lambda report: report.update(stage="test"))
    if measured_on == "unknown shards":
        for name in names:
            edit_report(folder / name, lambda report: report["shards"].pop("sha256"))
    refused(capfd, folder)
    compare(folder, "--anyway", "--csv", "numbers.csv")
    row = numbers()[SECOND, "all", "cosine"]
    assert row["n"] == "2" and row["win_rate_n"] == row["win_rate_mean"] == ""


def cut_pairs(run, count):
    with np.load(run / "latent_pairs.npz") as file:
        columns = {name: file[name] if name == "step" else file[name][:count] for name in file.files}
    write_pairs(run / "latent_pairs.npz", columns)


def damage_table(run):
    (run / "latent.json").write_text("{")


def damage_pairs(run):
    (run / "latent_pairs.npz").write_bytes(b"PK")


FAULTS = {
    "other metrics": lambda run: edit_report(run, lambda report: report.update(metrics_version=99)),
    "does not record on which shards": lambda run: edit_report(run, lambda report: report["shards"].pop("sha256")),
    "latent.json is damaged": damage_table,
    "latent_pairs.npz is damaged": damage_pairs,
    "has not finished": lambda run: (run / "latent.json").unlink(),
    "continued to step 4": lambda run: edit_report(run, lambda report: report.update(step=2, trained_steps=2)),
}


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_a_command_that_is_named_puts_it_right(compared_runs, tmp_path, capfd, fault):
    """Copied from the message and typed; a run that was given its version, as a sweep gives it, is no exception."""
    home = tmp_path / "runs of mine"
    other, broken = (home / "tiny" / name for name in ("weight_0.0_seed_2", LAST))
    copy(compared_runs, home / "tiny", other.name, broken.name)
    for run in (other, broken):
        edit_config(run, run__folder=str(home))
    FAULTS[fault](broken)
    said = refused(capfd, other, broken)
    assert fault in said
    words = shlex.split(said.split("`")[1])
    assert words[:3] == ["python", "-m", "eclipse_pl"]
    assert command(words[3:]) == 0
    compare(other, home / "tiny" / "validate_0" if words[3] == "validate" else broken, "--csv", "numbers.csv")
    row = numbers()[SECOND, "all", "cosine"]
    assert row["n"] == row["difference_n"] == "1" and row["win_rate_n"] == "16" and not row["marked"]


@pytest.mark.long
def test_a_measurement_is_repeated_as_it_was_made(compared_runs, tmp_path, capfd):
    """The same verb, of the same checkpoint, with the same settings, whether its table is old or damaged."""
    home = tmp_path / "runs"
    run, other = (copy(compared_runs, home / "tiny", name) / name for name in (LAST, "weight_1.0_seed_1"))
    edit_config(run, run__folder=str(home))
    (run / "checkpoints" / "last.ckpt").rename(run / "checkpoints" / "best-step=4.ckpt")
    shutil.copy(other / "checkpoints" / "last.ckpt", run / "checkpoints" / "last.ckpt")  # training continued elsewhere
    best = run / "checkpoints" / "best-step=4.ckpt"
    options = ["--model.prior.init_args.noise=zero", "--latent.ridge_pairs=32"]
    assert command(["test", "--ckpt_path", str(best), *options]) == 0
    measured = home / "tiny" / "test_0"
    content = json.loads((measured / "latent.json").read_text())
    said = []
    for damage in (
        lambda: edit_report(measured, lambda report: report["shards"].pop("sha256")),
        lambda: damage_table(measured),
    ):
        damage()
        said.append(shlex.split(refused(capfd, measured).split("`")[1]))
    assert said[0] == said[1]
    assert said[0][:4] == ["python", "-m", "eclipse_pl", "test"] and str(best) in said[0]
    assert command(said[0][3:]) == 0
    again = json.loads((home / "tiny" / "test_1" / "latent.json").read_text())
    assert again["rows"]["this prior"] == content["rows"]["this prior"]
    assert RunRecord.read(home / "tiny" / "test_1").resampled == {
        "model.prior.init_args.noise": ("zero", "gaussian"),
    }
    best.unlink()
    assert "no checkpoint" in (sentence := refused(capfd, measured)) and "`" not in sentence


@pytest.mark.parametrize("fault", FAULTS)
def test_no_command_is_named_that_would_find_no_checkpoint(compared_runs, tmp_path, capfd, fault):
    folder = copy(compared_runs, tmp_path / "runs", "weight_0.0_seed_2", LAST)
    FAULTS[fault](folder / LAST)
    (folder / LAST / "checkpoints" / "last.ckpt").unlink()
    said = refused(capfd, folder)
    assert "no checkpoint" in said and "`" not in said


def test_places_that_hold_no_run(compared_runs, tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    (tmp_path / "sweep.csv").write_text("")
    for place, said in (
        (tmp_path / "empty", "holds no run"),
        (tmp_path / "nowhere", "There is no"),
        (tmp_path / "*.csv", "matches no run (1 files or folders match"),
        (tmp_path / "sweep.csv", "is no folder"),
        (compared_runs.parent / "tinny", f"Near it: {compared_runs}"),
    ):
        assert said in refused(capfd, place)
    compare(str(compared_runs / "*"))


@pytest.mark.long
def test_files_that_are_damaged(compared_runs, tmp_path, capfd):
    folder = copy(compared_runs, tmp_path / "runs")
    content = {name: (folder / LAST / name).read_bytes() for name in ("config.yaml", "latent.json", "latent_pairs.npz")}
    for name, damage, said in (
        ("config.yaml", b"a: [", "is no YAML"),
        ("config.yaml", b"[]", "holds no groups"),
        ("latent.json", b'{"step"', "is damaged"),
        ("latent.json", b'{"step": 3}', "python -m eclipse_pl validate"),
        ("latent_pairs.npz", b"PK", "is damaged"),
    ):
        (folder / LAST / name).write_bytes(damage)
        said_here = refused(capfd, folder)
        assert said in said_here
        assert str(folder / LAST / name) in said_here
        (folder / LAST / name).write_bytes(content[name])
    (folder / LAST / "latent_pairs.npz").unlink()
    compare(folder, "--csv", "numbers.csv")
    assert numbers()[SECOND, "all", "cosine"]["win_rate_n"] == ""


def test_a_folder_that_cannot_be_read(compared_runs, capfd, monkeypatch):
    def deny(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", deny)
    assert f"Cannot read {compared_runs} (Permission denied)" in refused(capfd, compared_runs)


@pytest.mark.long
def test_files_that_cannot_be_written(compared_runs, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    for place in (["--out", tmp_path / "file" / "page"], ["--single-file", "--out", tmp_path / "file" / "page.html"]):
        said = refused(capfd, compared_runs, *place)
        assert "Cannot write" in said
        assert "--out" in said
    said = refused(capfd, compared_runs, "--out", tmp_path / "page.html")
    assert "which names a file" in said and "--single-file" in said
    assert command(["compare", str(compared_runs), "--csv", str(tmp_path)]) == 2
    assert "Choose another file with --csv" in capfd.readouterr().err
    assert not list(tmp_path.glob("*.partial"))


def test_unknown_metrics(compared_runs, capfd):
    assert "the metrics are cosine" in refused(capfd, compared_runs, "--metrics", "cosine,accuracy")


def test_a_typo_in_an_option_is_one_sentence(capfd):
    with pytest.raises(SystemExit) as stop:
        command(["compare", "runs", "--refrence", "x"])
    assert stop.value.code == 2
    assert capfd.readouterr().err == "error: unrecognized arguments: --refrence x. Near it: --reference.\n"


def test_values_of_pairs_that_are_cut_short_or_lack_a_column(tmp_path):
    path = tmp_path / "latent_pairs.npz"
    write_pairs(path, {"step": 4, "index": np.arange(100), "cosine": np.linspace(0, 1, 100)})
    whole, report = path.read_bytes(), {"step": 4, "rows": {}}
    assert RunRecord(tmp_path, {}, report, tmp_path).pairs["index"].tolist() == list(range(100))
    for end in (0, 2, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"latent_pairs\.npz is damaged\. "):
            _ = RunRecord(tmp_path, {}, report, tmp_path).pairs
    write_pairs(path, {"index": np.arange(100)})
    with pytest.raises(ValueError, match=r"latent_pairs\.npz is damaged\. "):
        _ = RunRecord(tmp_path, {}, report, tmp_path).pairs
