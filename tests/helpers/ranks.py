"""Processes that train together on this machine, forked from one that has imported everything: an import costs seconds."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["eclipse_pl.cli", "tests.helpers.ranks"])
SECONDS = 240.0
"""After which the processes of a test hang."""


def torchrun(ranks: int, nodes: int = 1) -> list[dict[str, str]]:
    """The environment that torchrun gives to each rank."""
    port, local = free_port(), ranks // nodes
    return [
        {
            "TORCHELASTIC_RUN_ID": "test",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(ranks),
            "RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(local),
            "LOCAL_RANK": str(rank % local),
            "GROUP_RANK": str(rank // local),
        }
        for rank in range(ranks)
    ]


def srun(ranks: int, job: int = 77) -> list[dict[str, str]]:
    """The environment that SLURM gives to each task of a job on one node."""
    port = free_port()
    return [
        {
            "MASTER_PORT": str(port),
            "SLURM_JOB_ID": str(job),
            "SLURM_JOB_NAME": "train",
            "SLURM_NTASKS": str(ranks),
            "SLURM_NTASKS_PER_NODE": str(ranks),
            "SLURM_NNODES": "1",
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank),
            "SLURM_NODEID": "0",
            "SLURM_NODELIST": "127.0.0.1",
        }
        for rank in range(ranks)
    ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Ranks:
    """The processes, by rank, and where they write what they print."""

    processes: list[Any]
    pipes: list[Connection]
    folder: Path

    def join(self, seconds: float = SECONDS) -> list[int]:
        """Their exit codes; fails where one has none in time."""
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        assert None not in codes, f"exit codes {codes} after {seconds} s:\n{self.said()}"
        return codes

    def said(self) -> str:
        """What all of them printed."""
        return "\n".join(self.said_by(rank) for rank in range(len(self.processes)))

    def said_by(self, rank: int) -> str:
        return (self.folder / f"rank{rank}.log").read_text()


@contextmanager
def started_ranks(
    folder: Path, places: Sequence[dict[str, str]], work: Callable[..., Any], *arguments: Any
) -> Iterator[Ranks]:
    """``work(*arguments)`` in a process for each of these environments. None outlives the block."""
    folder.mkdir(parents=True, exist_ok=True)
    ranks = Ranks([], [], folder)
    try:
        for rank, place in enumerate(places):
            receiver, sender = CONTEXT.Pipe(duplex=False)
            process = CONTEXT.Process(target=_run, args=(rank, place, str(folder), sender, work, arguments))
            process.start()
            sender.close()
            ranks.processes.append(process), ranks.pipes.append(receiver)
        yield ranks
    finally:
        for process in ranks.processes:
            process.kill()
            process.join()


def on_ranks(folder: Path, places: Sequence[dict[str, str]], work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The result of ``work(*arguments)`` of each rank; all must end well."""
    with started_ranks(folder, places, work, *arguments) as ranks:
        results = [_received(pipe, ranks) for pipe in ranks.pipes]
        assert ranks.join() == [0] * len(places), ranks.said()
    return results


def run_command(
    folder: Path, words: Sequence[str], places: Sequence[dict[str, str]] = ({},)
) -> subprocess.CompletedProcess[str]:
    """``python -m eclipse_pl WORDS`` in a process for each of these environments; none pays for the imports.

    Environment and working folder are those of the test. ``stdout`` holds all that the processes print, ``stderr`` nothing.
    """
    places = [{**os.environ, **place} for place in places]
    with started_ranks(folder, places, _command, list(words), sorted(places[0]), os.getcwd()) as ranks:
        codes = [_received(pipe, ranks) for pipe in ranks.pipes]
        ranks.join()
        return subprocess.CompletedProcess(list(words), max(codes), ranks.said(), "")


def _command(words: list[str], names: list[str], folder: str) -> int:
    from eclipse_pl.__main__ import main

    for name in set(os.environ) - set(names):
        del os.environ[name]
    os.chdir(folder)
    try:
        return main(words)
    finally:  # a process of multiprocessing ends without them, and wandb writes the end of its log there
        atexit._run_exitfuncs()


def _received(pipe: Connection, ranks: Ranks) -> Any:
    assert pipe.poll(SECONDS), f"no result after {SECONDS} s:\n{ranks.said()}"
    try:
        return pipe.recv()
    except EOFError:
        raise AssertionError(ranks.said()) from None


def _run(
    rank: int, place: dict[str, str], folder: str, sender: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    with open(Path(folder) / f"rank{rank}.log", "w") as log:
        os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
    os.environ.update(place)
    torch.set_num_threads(1)
    rank_zero_only.rank = rank  # Lightning reads it when it is imported
    sender.send(work(*arguments))
    sender.close()
