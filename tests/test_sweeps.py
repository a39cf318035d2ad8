"""A sweep through the front door: real runs, kills, and what a mistake is answered with."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from eclipse_pl.__main__ import main as command
from eclipse_pl.cli import main as fit
from eclipse_pl.files import only_process, write_json
from eclipse_pl.intervals import NOTHING
from eclipse_pl.launch.task import Record, Task
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.reports.latent_comparison import over_seeds
from eclipse_pl.reports.tables import decimals_of, estimate_text
from eclipse_pl.sweeps import command as sweeps
from eclipse_pl.sweeps.plan import SweepPlan
from eclipse_pl.sweeps.sweep_file import SweepFile
from tests.helpers.runs import metrics, process_of, started, wait_for, wait_until, write_experiment
from tests.helpers.saved_runs import make_run
from tests.helpers.shard_sets import make_space

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
WEIGHT = "model.prior.init_args.contrastive_weight"


def write_sweep(folder: Path, *more: str, config: Path | None = None, subcommand: str = "fit", **changes) -> Path:
    """A sweep over weights and seeds on a tiny experiment, and ``more`` words in its command."""
    config = config or write_experiment(folder, trainer__max_steps=2, trainer__val_check_interval=2)
    content = {
        "name": "tiny",
        "method": "grid",
        "metric": {"name": "val/cosine"},
        "parameters": {WEIGHT: {"values": [0.0, 0.2]}, "seed_everything": {"values": [0, 1]}},
        "command": ["${env}", "${interpreter}", "-m", "eclipse_pl", subcommand, "--config", str(config), *more, "${args}"],
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


def refused(capfd, *args: str | Path) -> str:
    """The one line that a mistake is answered with, before anything runs."""
    capfd.readouterr()
    assert command(["sweep", *map(str, args)]) == 2
    (line,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def dry_run(capfd, path: Path, *more: str) -> list[str]:
    capfd.readouterr()
    assert command(["sweep", str(path), "--dry-run", *more]) == 0
    return capfd.readouterr().out.splitlines()


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def kill(run: Path) -> None:
    """SIGKILL the command of a run."""
    os.kill(process_of(run), signal.SIGKILL)


@pytest.mark.processes
@pytest.mark.parametrize("size", ["tiny", pytest.param("30 world runs", marks=pytest.mark.slow)])
def test_kills_repeat_nothing_that_is_finished(tmp_path, monkeypatch, capfd, size):
    """One run is killed, then the whole sweep; the same command ends both, and no finished run is made again."""
    monkeypatch.chdir(tmp_path)
    if size == "tiny":
        trainer = {"trainer__max_steps": 40, "trainer__val_check_interval": 40}
        seeds, more, config = 1, (), write_experiment(tmp_path, **trainer, checkpoint__every_n_steps=20)
    else:
        seeds, config, smoke = 10, ROOT / "experiments/quickstart.yaml", ROOT / "experiments/overlays/smoke.yaml"
        more = ("--config", str(smoke), "--trainer.max_steps=60", "--checkpoint.every_n_steps=20")
    parameters = {WEIGHT: {"values": [0.0, 0.2, 0.4]}, "seed_everything": {"values": list(range(seeds))}}
    path = write_sweep(tmp_path, *more, config=config, parameters=parameters)
    weights = ("0", "0.2", "0.4")
    versions = [f"contrastive_weight={weight},seed_everything={seed}" for weight in weights for seed in range(seeds)]
    runs = [tmp_path / "runs" / "tiny" / version for version in versions]
    finished = lambda run: (record := Record.read(run)) is not None and record.finished  # noqa: E731

    kept = tmp_path / "kept.csv"
    options = ["sweep", str(path), "--jobs", "2", "--csv", str(kept)]
    with started(
        [sys.executable, "-m", "eclipse_pl", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(runs[0] / "checkpoints" / "last.ckpt")
        wait_until(lambda: max(metrics(runs[0])) > 20)
        kill(runs[0])
        wait_until(lambda: finished(runs[1]))
        wait_until(kept.is_file)  # what has finished is kept at once, not at the end of the sweep
        wait_until(lambda: any((run / "checkpoints" / "last.ckpt").is_file() and not finished(run) for run in runs[2:]))
        process.kill()
    assert Record.read(runs[0]).exit_code == 128 + signal.SIGKILL
    wait_until(lambda: all(record is None or record.exit_code is not None for record in map(Record.read, runs)))
    before = {run: (Record.read(run), (run / "metrics.csv").stat().st_mtime_ns) for run in runs if finished(run)}
    begun = [run for run in runs if (run / "checkpoints" / "last.ckpt").is_file() and run not in before]
    assert runs[1] in before
    assert runs[1].name in [row["version"] for row in kept_rows(kept)[2]]
    assert runs[0] in begun
    assert len(begun) > 1

    lines = dry_run(capfd, path)
    assert sum(line.startswith("# finished: ") for line in lines) == len(before)
    assert sum("--ckpt_path" in line for line in lines) == len(begun)
    assert command(options) == 0
    assert [row["version"] for row in kept_rows(kept)[2]] == versions
    for run, was in before.items():
        assert (Record.read(run), (run / "metrics.csv").stat().st_mtime_ns) == was
    for run in begun:
        log = (run / "log.txt").read_text()
        again = [line for line in log.splitlines() if line.startswith("$ ") and "--ckpt_path" in line]
        assert len(again) == 1
        assert again[0].endswith(str(run.relative_to(tmp_path)))
        assert "Resuming the run in" in log
        assert Record.read(run).tries == 2
    assert all(sorted(metrics(run)) == list(range(len(metrics(run)))) for run in runs), "no step is missing in any run"
    assert [row["state"] for row in rows(tmp_path / "runs" / "tiny" / "sweep.csv")] == ["finished"] * len(runs)


@pytest.mark.processes
def test_sampling_options_of_one_checkpoint_and_a_run_that_fails(tmp_path, capfd):
    experiment = write_experiment(tmp_path, trainer__max_steps=2, trainer__val_check_interval=2)
    fit(["fit", "--config", str(experiment)])
    (tmp_path / "gone").mkdir()
    path = write_sweep(
        tmp_path, f"--ckpt_path={tmp_path}/runs/tiny/version_0", config=experiment, subcommand="validate", name="sampling",
        parameters={"data.init_args.folder": {"values": [str(tmp_path / "gone"), str(tmp_path / "shards")]}},
    )  # fmt: skip
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        command(["sweep", str(path), "--jobs", "2"])
    assert stop.value.code == 1
    out, err = capfd.readouterr()
    assert "1 of 2 runs failed" in err
    assert re.search(r"sampling/folder=gone/log\.txt: exit code 2: error: .*gone", err)
    failed, finished = rows(tmp_path / "runs" / "sampling" / "sweep.csv")
    assert [failed["state"], finished["state"]] == ["failed", "finished"]
    trained = metrics(tmp_path / "runs" / "tiny" / "version_0")[1]["val/cosine"]
    assert float(finished["val/cosine"]) == pytest.approx(trained, abs=1e-5)
    assert f"{float(finished['val/cosine']):.4f}" in out


def finish(path: Path, cosines: list[float]) -> list[Task]:
    """Leave behind what finished runs leave, and return their tasks."""
    runs = SweepPlan(SweepFile.read(path), None, 0, "1").runs
    for run, cosine in zip(runs, cosines, strict=False):
        task = run.task
        task.path.mkdir(parents=True)
        write_json(
            task.path / "task.json", asdict(Record(task.command, tries=1, seconds=3.0, exit_code=0, commit=task.commit))
        )
        leave_files(task.path, run.values, cosine, "validate" if "validate" in task.command else "fit")
    return [run.task for run in runs]


def leave_files(folder: Path, values: dict[str, object], cosine: float, verb: str) -> None:
    """Config, table and metrics of a finished run."""
    config: dict = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = {"cosine": cosine, "mse": 1 - cosine}
    shards = {"folder": "shards", "sha256": "0" * 64, "space": {"name": "tiny", "encoder": "tiny-8", "dim": 8}}
    table = {"step": 2, "trained_steps": 2, "stage": "val", "command": verb, "pairs": 16, "pairs_sha256": "1" * 64}
    table |= {"metrics_version": 2, "shards": shards, "rows": {"this prior": {"all": metrics}}}
    (folder / "latent.json").write_text(json.dumps(table))
    (folder / "finished.json").write_text("{}")
    lines = ["step,train/total,val/cosine", "0,5.0,", f"1,{10 * cosine},{cosine / 2}", f"1,,{cosine}", ""]
    (folder / "metrics.csv").write_text("\n".join(lines))


def test_a_sweep_ends_with_the_table_of_compare_and_a_csv_of_all_runs(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_sweep(tmp_path, parameters={WEIGHT: {"values": [0.0, 0.2]}, "seed_everything": {"values": [0, 1, 2]}})
    finish(path, [0.1, 0.2, 0.6, 0.4, 0.5, 0.9])
    capfd.readouterr()
    assert command(["sweep", str(path)]) == 0
    out = capfd.readouterr().out
    assert out.startswith(f"tiny: 6 runs in {tmp_path}/runs/tiny, 6 of them finished\n")
    shown = {}
    for weight, mean in (("0.0", "0.30 ± 0.66"), ("0.2", "0.60 ± 0.66")):  # 4.303 standard errors on each side
        shown[weight] = re.search(rf"^ +contrastive_weight={weight}.* +3 +{mean} .*$", out, re.MULTILINE)[0]
    assert f"python -m eclipse_pl compare {tmp_path}/runs/tiny" in out
    assert command(["compare", f"{tmp_path}/runs/tiny"]) == 0
    compared = capfd.readouterr().out
    assert all(line.split() in [other.split() for other in compared.splitlines()] for line in shown.values())
    table = rows(tmp_path / "runs" / "tiny" / "sweep.csv")
    assert list(table[0]) == ["version", WEIGHT, "seed_everything", "state", "seconds", "step", "train/total", "val/cosine"]
    assert table[4]["version"] == "contrastive_weight=0.2,seed_everything=1"
    assert list(table[4].values())[1:] == ["0.2", "1", "finished", "3.0", "1", "5.0", "0.5"]


def kept_rows(path: Path) -> tuple[str, str, list[dict[str, str]]]:
    said, commit, *table = path.read_text().splitlines()
    return said, commit, list(csv.DictReader(table))


@pytest.mark.processes
def test_another_machine_goes_on_from_the_file_of_finished_runs(tmp_path, capfd, monkeypatch):
    path = write_sweep(tmp_path, parameters={"seed_everything": {"values": [0, 1, 2]}})
    monkeypatch.setattr("eclipse_pl.sweeps.plan.commit", lambda: "aaaaaaa")
    finish(path, [0.123456789, 0.5])
    kept = tmp_path / "results" / "tiny.csv"
    words = ["sweep", str(path), "--count", "2", "--csv", str(kept)]
    dry_run(capfd, path, "--csv", str(kept))
    assert not kept.parent.exists()
    assert command(words) == 0
    said, commit, lines = kept_rows(kept)
    assert said == f"# python -m eclipse_pl {' '.join(words)}"
    assert commit == "# commit aaaaaaa, 2 of 2 runs finished"
    assert [(row["seed_everything"], row["val/cosine"]) for row in lines] == [("0", "0.123457"), ("1", "0.5")]
    assert command(words) == 0
    assert kept_rows(kept)[2] == lines, "nothing is new"

    (tmp_path / "runs").rename(tmp_path / "gone")
    monkeypatch.setattr("eclipse_pl.sweeps.plan.commit", lambda: "bbbbbbb")
    words = ["sweep", str(path), "--csv", str(kept)]
    heading, *commands = dry_run(capfd, path, "--csv", str(kept))
    assert heading.endswith(f"1 runs in {tmp_path}/runs/tiny, 0 of them finished; 2 more in {kept}, which are not run again")
    assert ["--seed_everything=2" in line for line in commands] == [True]
    assert command(words) == 0
    assert [run.name for run in (tmp_path / "runs/tiny").iterdir() if run.is_dir()] == ["seed_everything=2"]
    _, commit, now = kept_rows(kept)
    assert commit == "# commit aaaaaaa, bbbbbbb, 3 of 3 runs finished"
    assert [row["commit"] for row in now] == ["aaaaaaa", "aaaaaaa", "bbbbbbb"]
    assert [{name: row[name] for name in lines[0]} for row in now[:2]] == lines, "what was measured elsewhere is kept"
    assert float(now[2]["val/cosine"]) == pytest.approx(
        metrics(tmp_path / "runs/tiny/seed_everything=2")[1]["val/cosine"], rel=1e-5
    )
    (tmp_path / "runs").rename(tmp_path / "gone too")
    assert command(words) == 0
    assert f"0 runs in {tmp_path}/runs/tiny, 0 of them finished; 3 more in {kept}" in capfd.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_not_of_this_sweep_s_runs_is_left_as_it_is(tmp_path, capfd):
    path = write_sweep(tmp_path, parameters={"seed_everything": {"values": [0, 1]}})
    finish(path, [0.1, 0.2])
    kept = tmp_path / "kept.csv"
    other = "version,model.lr,state\nlr=1,1,finished\n"
    for content in (other, "my notes\n", "", "version,seed_everything,state\nseed_everything=0,0\n"):
        kept.write_text(content)
        line = refused(capfd, path, "--csv", kept)
        assert "has no runs of this sweep, whose columns begin with version, seed_everything, state" in line
        assert "Choose another file with --csv" in line
        assert kept.read_text() == content
    kept.write_text("# commit c\nversion,seed_everything,state\nseed_everything=1,7,finished\n")
    assert "the run seed_everything=1 with seed_everything=7, and this sweep gives it 1" in refused(capfd, path, "--csv", kept)
    (tmp_path / "file").touch()
    assert "Choose another file with --csv" in refused(capfd, path, "--csv", tmp_path / "file" / "tiny.csv")
    assert "(it is a folder). Choose another file with --csv" in refused(capfd, path, "--csv", tmp_path)


def test_a_logged_metric_that_compare_has_not_is_a_table_too(tmp_path, capfd):
    path = write_sweep(tmp_path, metric={"name": "train/total"}, parameters={WEIGHT: {"values": [0.0, 0.2]}})
    finish(path, [0.1, 0.9])
    assert command(["sweep", str(path)]) == 0
    table = capfd.readouterr().out.split("train/total")[1].split("Mean over seeds")[0]
    assert re.search(r"contrastive_weight=0\.0.* 1 +1\.00\b", table) and re.search(
        r"contrastive_weight=0\.2 +1 +9\.00\b", table
    )


def test_checkpoints_of_several_seeds_are_repetitions(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    size = {"num_layers": 1, "num_attention_heads": 1, "attention_head_dim": 8}
    runs = [Path(f"runs/first/prior=x,seed_everything={seed}") for seed in range(3)]
    for seed, run in enumerate(runs):
        make_run(run, EclipsePrior, make_space(), **size)
        config = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump({**config, "seed_everything": seed}))
    checkpoints = [str(run / "checkpoints" / "last.ckpt") for run in runs]
    noise = "model.prior.init_args.noise"
    parameters = {noise: {"values": ["zero", "gaussian"]}, "ckpt_path": {"values": checkpoints}}
    path = write_sweep(tmp_path, subcommand="validate", parameters=parameters)
    first, *_ = finish(path, [0.1, 0.2, 0.6, 0.4, 0.5, 0.9])
    assert first.name.startswith("noise=zero,ckpt_path=last.ckpt")
    assert command(["sweep", str(path)]) == 0
    assert re.search(r"^ +noise=zero \(reference\) +3 +0\.30 ± 0\.66 ", capfd.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], "–"),
        ([0.25], "0.250"),
        ([0.00075], "0.000750"),
        ([0.5, 0.5], "0.500"),
        ([0.00071, 0.00072, 0.00073], "0.000720 ± 0.000025"),
        ([float("nan")], "–"),
    ],
)
def test_decimals_show_the_interval(values, shown):
    estimate = over_seeds(values) if values else NOTHING
    assert estimate_text(estimate, decimals_of([estimate])) == shown


def test_a_metric_that_no_run_logs_is_reported(tmp_path, capfd):
    path = write_sweep(tmp_path, metric={"name": "val/cosin"})
    finish(path, [0.1, 0.2, 0.3, 0.4])
    assert command(["sweep", str(path)]) == 0
    assert "No run logged val/cosin. Near it: val/cosine" in capfd.readouterr().out


@pytest.mark.processes
def test_wandbs_agent_runs_the_same_command(tmp_path, monkeypatch):
    """The agent's own code, offline: it starts a run of the sweep file as it is."""
    from wandb.wandb_agent import Agent

    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_DIR", "WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, str(tmp_path / "agent") if name == "WANDB_DIR" else "agent")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    path = write_sweep(tmp_path, parameters={WEIGHT: {"values": [0.3]}, "trainer.enable_progress_bar": {"value": False}})
    (values,) = SweepFile.read(path).runs()
    agent = Agent(api=None, queue=None)
    agent._sweep_command = yaml.safe_load(path.read_text())["command"]
    agent._command_run({"run_id": "one", "program": "", "args": {name: {"value": value} for name, value in values.items()}})
    (process,) = agent._run_processes.values()
    assert process.wait() == 0
    config = yaml.safe_load((tmp_path / "runs" / "tiny" / "version_0" / "config.yaml").read_text())
    assert config["model"]["prior"]["init_args"]["contrastive_weight"] == 0.3
    assert config["trainer"]["enable_progress_bar"] is False


def test_a_dry_run_prints_what_would_run_and_runs_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    path = write_sweep(tmp_path)
    head, *lines = dry_run(capfd, path)
    config = str(tmp_path / "experiment.yaml")
    assert head == f"# tiny: 4 runs in {tmp_path}/runs/tiny, 0 of them finished"
    assert not (tmp_path / "runs").exists()
    assert shlex.split(lines[1]) == [
        "OMP_NUM_THREADS=3", "/usr/bin/env", sys.executable, "-m", "eclipse_pl", "fit", "--config", config, f"--{WEIGHT}=0.0",
        "--seed_everything=1", "--run.experiment=tiny", "--run.version=contrastive_weight=0,seed_everything=1",
    ]  # fmt: skip
    first, *_ = finish(path, [0.5])
    assert dry_run(capfd, path)[1:] == [f"# finished: {first.folder}", *lines[1:]]
    assert len(dry_run(capfd, path, "--count", "2")) == 3


def test_threads_are_shared_by_the_jobs(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(sweeps, "processors", lambda: 7)
    path = write_sweep(tmp_path)
    for jobs, threads in (("1", 7), ("2", 3), ("30", 1)):
        assert dry_run(capfd, path, "--jobs", jobs)[1].startswith(f"OMP_NUM_THREADS={threads} ")
    assert dry_run(capfd, path, "--engine", "ray", "--cpus", "4")[1].startswith("OMP_NUM_THREADS=4 ")


def test_more_threads_than_cores_are_warned_of(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sweeps, "processors", lambda: 4)
    path = write_sweep(tmp_path)
    for threads, jobs, warned in (("1", "4", ""), ("2", "4", "OMP_NUM_THREADS=1."), ("", "6", "at most --jobs 4.")):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert command(["sweep", str(path), "--dry-run", "--jobs", jobs]) == 0
        err = capfd.readouterr().err
        assert warned in err and bool(warned) == ("warning: --jobs" in err)


def test_ctrl_c_states_what_the_same_command_does(tmp_path, capfd, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps, "run_local", interrupt)
    assert command(["sweep", str(write_sweep(tmp_path))]) == 130
    assert "the same command skips finished runs, resumes the others" in capfd.readouterr().err
    assert (tmp_path / "runs" / "tiny" / "sweep.csv").is_file()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({WEIGHT[:-1]: {"values": [0.1]}}, f"no parameter {WEIGHT[:-1]}. Near it: {WEIGHT}"),
        ({"contrastive_weight": {"values": [0.1]}}, f"no parameter contrastive_weight. Near it: {WEIGHT}"),
        ({"seed_everythin": {"values": [1]}}, "no parameter seed_everythin. Near it: seed_everything"),
        ({"seed_everything": {"values": [0]}, WEIGHT: {"values": [0.1, "high"]}}, f"{WEIGHT} cannot be high"),
        ({"trainer.max_steps": {"values": [1.5]}, "seed_everything": {"values": [0]}}, "trainer.max_steps cannot be 1.5"),
        ({"model.prior": {"values": ["no/such/part.yaml"]}}, "model.prior cannot be no/such/part.yaml"),
        ({"config": {"values": ["experimen.yaml"]}}, "there is no config experimen.yaml; near it: experiment.yaml"),
        ({"ckpt_path": {"values": ["lst"]}}, "ckpt_path cannot be lst (There is no checkpoint lst"),
        ({"run.folder": {"values": ["here", "there"]}}, "run.folder must be one"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_a_parameter_that_cannot_be_is_refused_before_anything_runs(tmp_path, capfd, monkeypatch, parameters, said):
    monkeypatch.chdir(tmp_path)
    path = write_sweep(tmp_path, parameters=parameters)
    line = refused(capfd, path)
    assert said in line
    assert str(path) in line
    assert not (tmp_path / "runs").exists()


def test_a_measurement_of_a_run_that_is_not_there_is_refused_by_its_name(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/tiny/first").mkdir(parents=True)
    command = ["${env}", "${interpreter}", "-m", "eclipse_pl", "validate", "${args}"]
    path = write_sweep(tmp_path, parameters={"ckpt_path": {"values": ["runs/tiny/frst"]}}, command=command)
    line = refused(capfd, path)
    assert "--ckpt_path runs/tiny/frst: there is no such run or checkpoint. Near it: first." in line
    assert line.endswith(".") and not line.endswith("..")


def test_parameters_may_be_written_without_init_args_or_be_parts_and_configs(tmp_path, capfd):
    other = tmp_path / "other"
    other.mkdir()
    values = {"model.prior.num_layers": [1, 2], "config": [str(write_experiment(other, run__folder=str(tmp_path / "runs")))]}
    path = write_sweep(tmp_path, parameters={name: {"values": each} for name, each in values.items()})
    first, second = dry_run(capfd, path)[1:]
    assert first.index("--config=") < first.index("--model.prior.num_layers=1"), "a config never undoes what is swept"
    assert "--run.version=num_layers=2,config=experiment" in second


def test_the_command_must_be_one_of_ours_with_a_config_that_exists(tmp_path, capfd):
    write_experiment(tmp_path)
    missing = tmp_path / "experimen.yaml"
    line = refused(capfd, write_sweep(tmp_path, config=missing))
    assert f"there is no config {missing}; near it: {tmp_path}/experiment.yaml" in line
    assert "fit|validate|test" in refused(capfd, write_sweep(tmp_path, subcommand="nearest"))
    assert "fit|validate|test" in refused(capfd, write_sweep(tmp_path, command=["python", "train.py", "${args}"]))


def test_results_of_two_commands_are_never_mixed(tmp_path, capfd):
    path = write_sweep(tmp_path)
    task, *_ = finish(path, [0.5])
    line = refused(capfd, write_sweep(tmp_path, "--trainer.max_steps=3"))
    assert f"{task.folder} was made by another command: nothing there is --trainer.max_steps=3 now" in line
    earlier = {"trainer": {"max_steps": 7}, "of_an_older_release": 1, "ckpt_path": "x"}
    (task.path / "config.yaml").write_text(yaml.safe_dump(earlier))
    line = refused(capfd, write_sweep(tmp_path))
    assert f"{task.folder} was made with another config: trainer.max_steps was 7 and is 2" in line


def test_a_folder_that_the_sweep_did_not_make_is_left_alone(tmp_path, capfd):
    run = tmp_path / "runs" / "tiny" / "contrastive_weight=0.2,seed_everything=0"
    run.mkdir(parents=True)
    (run / "metrics.csv").write_text("precious")
    assert "holds something that was not made by this command" in refused(capfd, write_sweep(tmp_path))
    assert (run / "metrics.csv").read_text() == "precious"


def test_a_runs_folder_that_cannot_be_written(tmp_path, capfd):
    (tmp_path / "runs").write_text("")
    assert "is a file, so" in refused(capfd, write_sweep(tmp_path))


def test_two_sweeps_of_one_name_do_not_both_write(tmp_path, capfd):
    path = write_sweep(tmp_path)
    with only_process(tmp_path / "runs" / "tiny", ".sweep.lock", ""):
        assert "Another process runs the sweep" in refused(capfd, path)
    assert not list((tmp_path / "runs" / "tiny").glob("*/task.json"))


MEANINGLESS = [
    "--jobs 0",
    "--gpus 1",
    "--ray-address x",
    "--engine ray --jobs 2",
    "--engine ray --cpus 0",
    "--count 0",
    "--seed 1",
]


@pytest.mark.parametrize("options", MEANINGLESS)
def test_options_that_mean_nothing_are_refused(tmp_path, capfd, options):
    assert options.split()[-2] in refused(capfd, write_sweep(tmp_path), *options.split())


def test_ray_that_is_not_installed_is_reported(tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'eclipse_pl[ray]'" in refused(capfd, write_sweep(tmp_path), "--engine", "ray")
