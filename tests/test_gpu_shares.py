"""Runs and processes that share a machine share its GPUs; nothing here needs one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eclipse_pl.commands.benchmark import own_gpu
from eclipse_pl.device import visible_gpus
from eclipse_pl.launch.local import Status, gpu_shares, run_local
from tests.test_launch import make_task


@given(st.integers(0, 9), st.integers(1, 9))
def test_shares_are_equal_and_apart_while_there_are_enough(count: int, processes: int) -> None:
    gpus = [str(number) for number in range(count)]
    shares = gpu_shares(gpus, processes)
    assert len(shares) == processes
    assert len({len(share) for share in shares}) == 1
    given_out = [gpu for share in shares for gpu in share]
    assert set(given_out) <= set(gpus)
    if processes <= count:
        assert len(set(given_out)) == len(given_out) == count // processes * processes
    elif count:
        times = [given_out.count(gpu) for gpu in gpus]
        assert max(times) - min(times) <= 1
    else:
        assert not given_out


def test_the_gpus_of_this_process_are_those_that_it_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert visible_gpus() == [] and own_gpu(3) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus() == ["0", "1"]
    assert [own_gpu(rank) for rank in range(3)] == [0, 1, 0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-8932f937")
    assert visible_gpus() == ["5", "GPU-8932f937"]


@pytest.mark.processes
@pytest.mark.parametrize(("gpus", "expected"), [(["4", "7"], {"4", "7"}), ([], {"none"})])
def test_runs_at_once_see_a_gpu_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: list[str], expected: set[str]
) -> None:
    """Two run at once, and wait for each other; two more take their places."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    rooms = tmp_path / "rooms"
    rooms.mkdir()
    code = (
        "import os, time, pathlib\n"
        f"folder, me = pathlib.Path({str(rooms)!r}), NUMBER\n"
        "(folder / str(me)).write_text(os.environ.get('CUDA_VISIBLE_DEVICES', 'none'))\n"
        "end = time.monotonic() + 60\n"
        "while not (folder / str(me ^ 1)).exists() and time.monotonic() < end: time.sleep(0.02)\n"
    )
    tasks = [make_task(tmp_path, code.replace("NUMBER", str(number)), str(number)) for number in range(4)]
    run_local([Status.of(task) for task in tasks], 2, lambda statuses: None, gpus)
    seen = [(rooms / str(number)).read_text() for number in range(4)]
    assert set(seen[:2]) == set(seen[2:]) == expected
