import os

# One thread here and in every process that a test starts: equal sums, and no threads waiting for each other on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings

from tests.helpers.process_guard import ProcessGuard

torch.set_num_threads(1)
# The first example of a test pays for imports and caches, on a busy machine many times over: how long one takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """`make quick` leaves out what starts processes, so there any other test that starts one fails."""
    if "not processes" in config.getoption("markexpr"):
        config.pluginmanager.register(ProcessGuard())


@pytest.fixture(scope="session")
def compared_runs(tmp_path_factory):
    """Folder of two variants of three seeds each; whoever changes a run copies it first."""
    from tests.helpers.compared_runs import make_runs

    return make_runs(tmp_path_factory.mktemp("compare"))
