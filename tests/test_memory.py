"""A run's own memory does not grow with its data: mapped files are the system's, not the run's."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.runs import write_experiment
from tests.helpers.shard_sets import make_sparse_shard_set

pytestmark = pytest.mark.processes


def anonymous_bytes(process: int) -> int:
    """Memory that no file backs; pages that a forked worker shares with its parent count half for each."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith(("Pss_Anon", "Pss_Shmem")))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads memory from /proc")
def test_fit_of_the_33_million_prior_on_20_gigabytes(tmp_path):
    make_sparse_shard_set(tmp_path / "shards", 20)
    experiment = write_experiment(
        tmp_path,
        model__prior__init_args={},  # ECLIPSE's own size
        data__init_args__batch_size=64,
        data__init_args__workers=1,
        trainer__max_steps=40,
        trainer__limit_val_batches=0,
        checkpoint__every_n_steps=20,
    )
    command = [sys.executable, "-m", "eclipse_pl", "fit", "--config", str(experiment)]
    most = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            try:
                workers = [int(child) for child in children.read_text().split()]
                most = max(most, sum(anonymous_bytes(one) for one in (process.pid, *workers)))
            except (FileNotFoundError, ProcessLookupError):
                continue  # one of them has just ended
            time.sleep(0.2)
        assert process.returncode == 0, process.stderr.read().decode()
    print(f"{most / 1e6:.0f} MB of anonymous memory at most, main process and worker together")
    assert most < 2e9
