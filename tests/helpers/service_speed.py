"""``python -m tests.helpers.service_speed``: images a second of the demo's service on the world, with and without batches.

One server after the other on loopback, asked by 32 callers at once. Memory is that of the server's process after each quarter
of the calls. Machine and commit stand below the figures. Other options are those of `demo`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from eclipse_pl.speed.table import machine_and_commit
from tests.helpers.demo_model import free_port

CALLERS = 32


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.helpers.service_speed")
    parser.add_argument("--prior", required=True, help="a run of the world")
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--batches", default="1,16", help="--batch of the servers")
    given, more = parser.parse_known_args()
    for batch in map(int, given.batches.split(",")):
        with serving(given.prior, batch, more) as (address, process):
            seconds, memory = measure(address, process, given.requests)
        rate = given.requests / seconds
        print(f"--batch {batch}: {rate:.2f} images/s, {given.requests} calls; MB after each quarter: {memory}", flush=True)
    print(f"load {os.getloadavg()}; {machine_and_commit(torch.device('cpu'))}")


@contextmanager
def serving(prior: str, batch: int, more: list[str]) -> Iterator[tuple[str, int]]:
    """The address and process of a server."""
    port = str(free_port())
    words = [sys.executable, "-m", "eclipse_pl", "demo", "--prior", prior, "--real_images", "0"]
    words += ["--batch", str(batch), "--port", port, *more]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and port in server.stdout.readline()
            yield f"http://127.0.0.1:{port}/", server.pid
        finally:
            server.terminate()


def measure(address: str, process: int, requests: int) -> tuple[float, list[int]]:
    """Seconds of all calls, and megabytes of the server after each quarter."""
    from gradio_client import Client

    client = Client(address, verbose=False, max_workers=CALLERS)
    client.predict(prompt="a star", api_name="/generate")
    memory, begun = [], time.perf_counter()
    for quarter in range(4):
        seeds = range(quarter * requests // 4, (quarter + 1) * requests // 4)
        jobs = [client.submit(prompt="a red circle above a blue star", seed=seed, api_name="/generate") for seed in seeds]
        for job in jobs:
            job.result()
        memory.append(resident(process))
    seconds = time.perf_counter() - begun
    client.close()
    return seconds, memory


def resident(process: int) -> int:
    """Megabytes of memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


if __name__ == "__main__":
    main()
