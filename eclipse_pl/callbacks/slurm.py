"""A job of SLURM that is queued again, by its own signal, by preemption or after a node has failed, resumes its run."""

from __future__ import annotations

import glob
import json
import os
import subprocess
from pathlib import Path

from eclipse_pl.files import write_json

NOTE = "slurm_job.json"
"""The job that makes a run, and how often it had been queued again; in the run's folder while it trains."""


def note_job(run: Path) -> None:
    """Write which job makes the run, before it trains."""
    if job := slurm_job():
        write_json(run / NOTE, {"job": job, "restarts": restarts()})


def forget_job(run: Path) -> None:
    """The run is whole, so the next run of this job is another one."""
    (run / NOTE).unlink(missing_ok=True)


def requeue_job() -> str:
    """Queue this job again. Returns a sentence with the result."""
    job = slurm_job()
    try:
        code = subprocess.run(["scontrol", "requeue", str(job)], check=False).returncode
    except OSError:
        code = 127
    return f"SLURM job {job} is queued again, and resumes this run." if code == 0 else (
        f"`scontrol requeue {job}` failed with exit code {code}: queue the job again yourself, and it resumes this run."
    )  # fmt: skip


def requeued_run(home: Path, version: str | None = None) -> Path | None:
    """The run below ``home`` that this job was making before it was queued again; of this version, if one is named.

    A run without a checkpoint cannot be resumed, and is begun again.
    """
    job = slurm_job()
    for note in sorted(home.glob(f"{glob.escape(version) if version else '*'}/{NOTE}")) if job else []:
        try:
            noted = json.loads(note.read_text(encoding="utf-8"))
            before = (noted["job"], noted["restarts"] < restarts())
        except (OSError, ValueError, KeyError, TypeError):  # of another machine, or not whole
            continue
        if before == (job, True) and (note.parent / "checkpoints" / "last.ckpt").is_file():
            return note.parent
    return None


def slurm_job() -> str | None:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")


def restarts() -> int:
    """How often this job has been queued again."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)
