"""python -m eclipse_pl sweep: all runs of a Weights & Biases sweep file, on this machine or on a Ray cluster."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eclipse_pl.command_line import answer_in_one_sentence
from eclipse_pl.files import only_process
from eclipse_pl.launch.effect import OF_LOCAL, OF_RAY, require_effect
from eclipse_pl.launch.fork_server import ForkServer
from eclipse_pl.launch.local import Start, Status, SupervisorProcess, run_local
from eclipse_pl.launch.ray import run_on_ray
from eclipse_pl.sweeps.sweep_file import SweepFile

if TYPE_CHECKING:
    from rich.console import Console

    from eclipse_pl.sweeps.kept import KeptRuns
    from eclipse_pl.sweeps.plan import SweepPlan
    from eclipse_pl.sweeps.results import SweepResults

STOPPED = "stopped; the same command skips finished runs, resumes the others"


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eclipse_pl sweep",
        description="Run a Weights & Biases sweep file (grid or random). Each run is a process with the folder "
        "runs/NAME/VERSION. The same command again skips finished runs and resumes the others. It ends with the table of "
        "`compare`, and writes runs/NAME/sweep.csv.",
    )
    parser.add_argument("file", help="the sweep file; `wandb sweep` reads the same file")
    parser.add_argument("--jobs", type=int, help="local runs at once, which share processors and GPUs (default: 1)")
    parser.add_argument("--count", type=int, help="the largest number of runs: the first of a grid, or draws")
    parser.add_argument("--seed", type=int, help="of random draws (default: 0)")
    help_csv = (
        "also write each run there as it finishes, with the commit of the code; runs that the file has are not run again"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help=help_csv)
    parser.add_argument("--dry-run", action="store_true", help="print the commands that would run, and what is finished")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="this machine (default), or a Ray cluster")
    parser.add_argument("--ray-address", help="a cluster whose nodes share this folder (default: one on this machine)")
    parser.add_argument("--cpus", type=float, help="processors of a run on Ray (default: 1)")
    parser.add_argument("--gpus", type=float, help="GPUs of a run on Ray, not shared with other runs (default: 0)")
    answer_in_one_sentence(parser, args)
    options = parser.parse_args(args)
    require_effect(options.engine, **{name: getattr(options, name) for name in (*OF_LOCAL, *OF_RAY)})
    sweep(options, shlex.join(["python", "-m", "eclipse_pl", "sweep", *(sys.argv[1:] if args is None else args)]))


def sweep(options: argparse.Namespace, command: str) -> None:
    file = SweepFile.read(options.file)
    if file.method == "grid" and options.seed is not None:
        raise ValueError("--seed is that of random draws, and has no effect on a grid; sweep over seed_everything instead.")
    threads = threads_of_a_run(options)
    warn_of_threads(options, threads)
    # a fork of a process that uses Apple's libraries may crash
    forks = options.engine == "local" and sys.platform == "linux" and not options.dry_run
    with ForkServer([file.module] if forks else [], {"OMP_NUM_THREADS": threads}) as server:
        if forks:
            server.begin()  # it imports while the command lines are read
        run_all(options, command, file, threads, server.start if forks else SupervisorProcess)


def run_all(options: argparse.Namespace, command: str, file: SweepFile, threads: str, start: Start) -> None:
    from eclipse_pl.sweeps.kept import KeptRuns
    from eclipse_pl.sweeps.plan import SweepPlan  # it reads command lines, which takes all of torch

    plan = SweepPlan(file, options.count, options.seed or 0, threads, hashed=options.csv is not None)
    kept = None if options.csv is None else KeptRuns(options.csv, plan, command)
    statuses = [Status.of(run.task) for run in plan.runs]
    if options.dry_run:
        return print_commands(plan, statuses, kept)
    if kept is not None:
        kept.require_writable()
    if not statuses:
        return print(heading(plan, statuses, kept))
    from eclipse_pl.device import visible_gpus
    from eclipse_pl.launch.progress import report_failures
    from eclipse_pl.sweeps.progress import SweepProgress
    from eclipse_pl.sweeps.results import SweepResults

    with only_process(plan.folder, ".sweep.lock", f"Another process runs the sweep in {plan.folder}. Wait for it or stop it."):
        print(heading(plan, statuses, kept))
        progress = SweepProgress(file.name, file.metric)

        def watch(statuses: Sequence[Status]) -> None:
            progress(statuses)
            if kept is not None:
                with contextlib.suppress(ValueError):  # written once more at the end, which says why it cannot be
                    kept.add(statuses)

        try:
            with progress:
                if options.engine == "local":
                    run_local(statuses, options.jobs or 1, watch, visible_gpus(), start=start)
                else:
                    run_on_ray(statuses, watch, options.ray_address, options.cpus or 1.0, options.gpus or 0.0)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(STOPPED) from None
        finally:
            results = SweepResults(plan, statuses)
            path = results.write()
        if kept is not None:
            kept.add(statuses)
        show(results, progress.console)
    print(f"All runs and their metrics: {path}")
    report_failures(statuses, "run", options.csv)


def show(results: SweepResults, console: Console) -> None:
    """Print the tables of `compare`, what is unfair in them and what they leave out."""
    from eclipse_pl.reports.tables import show_sentences, show_tables

    if results.missing_metric:
        console.print(results.missing_metric, markup=False)
    if not results.finished:
        return
    try:
        report = results.report()
        show_tables(console, results.tables(report))
    except ValueError as error:
        return console.print(f"No table: {error}", markup=False)
    problems = [problem.sentence for problem in report.comparison.problems]
    show_sentences(console, {"Not a fair comparison (†)": problems, "Left out": report.comparison.remarks})
    print(f"Differences, intervals and what may not be concluded: python -m eclipse_pl compare {results.plan.folder}")


def warn_of_threads(options: argparse.Namespace, threads: str) -> None:
    """Runs that have more threads than there are cores wait for each other."""
    jobs, cores = options.jobs or 1, processors()
    if options.engine == "local" and threads.isdigit() and jobs * int(threads) > cores:
        most = f" and at most --jobs {cores}" if jobs > cores else ""
        print(
            f"warning: --jobs {jobs} with {threads} threads each are more than the {cores} cores of this machine, so the runs "
            f"slow each other down. Set OMP_NUM_THREADS={max(cores // jobs, 1)}{most}.",
            file=sys.stderr,
        )


def threads_of_a_run(options: argparse.Namespace) -> str:
    """OMP_NUM_THREADS: the user's, or an equal share of the processors."""
    share = processors() // (options.jobs or 1) if options.engine == "local" else int(options.cpus or 1)
    return os.environ.get("OMP_NUM_THREADS") or str(max(share, 1))


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def heading(plan: SweepPlan, statuses: Sequence[Status], kept: KeptRuns | None) -> str:
    finished = sum(status.state == "finished" for status in statuses)
    elsewhere = f"; {len(kept.elsewhere)} more in {kept.path}, which are not run again" if kept and kept.elsewhere else ""
    return f"{plan.file.name}: {len(statuses)} runs in {plan.folder}, {finished} of them finished{elsewhere}"


def print_commands(plan: SweepPlan, statuses: Sequence[Status], kept: KeptRuns | None) -> None:
    """A shell script of what would run."""
    print(f"# {heading(plan, statuses, kept)}")
    for status in statuses:
        settings = [f"{name}={value}" for name, value in status.task.environment.items()]
        finished = f"# finished: {status.task.folder}"
        print(finished if status.state == "finished" else shlex.join([*settings, *status.task.words()]))
