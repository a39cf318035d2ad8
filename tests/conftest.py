import os

# One thread here and in every process that a test starts: equal sums, and no threads waiting for each other on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.helpers.process_guard import ProcessGuard
from tests.helpers.real_data import RealData, find_real_data

torch.set_num_threads(1)
# The first example of a test pays for imports and caches, on a busy machine many times over: how long one takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """`make quick` leaves out what starts processes, so there any other test that starts one fails."""
    if "not processes" in config.getoption("markexpr"):
        config.pluginmanager.register(ProcessGuard())


@pytest.fixture(scope="session")
def real_data() -> RealData:
    """Finds a file or folder of other people's data by its name, and skips the test where it is absent."""
    return find_real_data


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small open_clip model, which `local-dir:FOLDER` names."""
    from tests.helpers.tiny_open_clip import write_open_clip

    return write_open_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="session")
def clip_encoder(clip_folder):
    """The encoder of ``clip_folder``; a test that changes its encoder builds its own."""
    from eclipse_pl.encoders.openclip import OpenClipEncoder

    return OpenClipEncoder(f"local-dir:{clip_folder}", None, device="cpu")


@pytest.fixture(scope="session")
def compared_runs(tmp_path_factory):
    """Folder of two variants of three seeds each; whoever changes a run copies it first."""
    from tests.helpers.compared_runs import make_runs

    return make_runs(tmp_path_factory.mktemp("compare"))
