"""A run becomes a folder or a repository that others load, with a card that says what was measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import eclipse_pl
from eclipse_pl import load_encoder, load_prior
from eclipse_pl.__main__ import main as command
from eclipse_pl.publish.command import repository_of
from tests.helpers.demo_model import free_port
from tests.helpers.fake_hub import FakeHub, serve_hub

pytestmark = [
    pytest.mark.long,
    pytest.mark.processes,
    # the hub's client uploads large files so
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the quickstart on a small world, with its sample images."""
    folder = tmp_path_factory.mktemp("published")
    options = {
        "run.folder": folder / "runs",
        "data.init_args.folder": folder / "world",
        "run.wandb": "disabled",
        "trainer.max_steps": 2,
        "trainer.val_check_interval": 2,
        "data.init_args.train_pairs": 64,
        "data.init_args.val_pairs": 16,
        "data.init_args.test_pairs": 12,
        "data.init_args.batch_size": 16,
        "data.init_args.workers": 0,
        "benchmark.protocol": "null",
        "benchmark.every_n_validations": 0,
        "checkpoint.every_n_steps": 2,
        "samples.every_n_steps": 2,
        "decoder.init_args.steps": 1,
        "trainer.log_every_n_steps": 1,
        "model.scheduler.init_args.pct_start": 0,
        "trainer.enable_progress_bar": "false",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    assert command(["fit", "--config", str(ROOT / "experiments/quickstart.yaml"), *flags]) == 0
    return folder / "runs/quickstart/version_0"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub in place of the real one, and a token for it."""
    with serve_hub() as served:
        for name, value in {
            "ENDPOINT": served.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.setenv("HF_TOKEN", served.token)
        monkeypatch.setenv("NO_PROXY", "*")
        yield served


def publish(run: Path, *more: str) -> int:
    return command(["publish", "--prior", str(run), "--to", "tester/world-prior", "--license", "mit", *more])


def test_a_folder_is_loaded_as_the_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["publish", "--prior", str(run), "--license", "cc-by-4.0", "--data_license", "made by the package"]
    assert command([*words, "--to", str(tmp_path / "mine")]) == 0
    assert "Read README.md before you give it to others" in capsys.readouterr().out
    text = load_encoder("world")(["a red circle"])
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    ours, theirs = (
        load_prior(str(place)).sample(text, seed) for place, seed in zip((run, tmp_path / "mine"), seeds, strict=True)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
    assert {"README.md", "training_config.yaml", "samples.png", "model_index.json"} <= {
        path.name for path in (tmp_path / "mine").iterdir()
    }


def test_the_card_says_what_was_measured(run: Path, tmp_path: Path) -> None:
    words = ["publish", "--prior", str(run), "--license", "mit", "--to", str(tmp_path / "mine")]
    assert command(words) == 0
    _, front, text = (tmp_path / "mine/README.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert (fields["license"], fields["library_name"], fields["pipeline_tag"]) == ("mit", "diffusers", "text-to-image")
    assert "eclipse_pl" in fields["tags"]
    for said in (
        "# EclipsePrior of world",
        "| trained parameters | 864,000 |",
        "| network passes a sample | 1 |",
        "![sample images of this run](samples.png)",
        "| world | 64 | `",
        "the publisher has not stated it",
        "2 steps, 32 pairs seen",
        "| `prior.num_layers` | 4 |",
        "| `seed_everything` | 0 |",
        "| `model.optimizer` | AdamW(lr=0.001, betas=[0.9, 0.999]",
        "text as image (baseline)",
        "upper bound",
        "No scorecard was published",
        "Energy was not measured.",
        "## What may not be concluded",
    ):
        assert said in text, said
    assert not re.search(r"\{\{|\{%|nan|None", text)
    assert str(run) not in text, "a path of this machine"


def test_a_scorecard_of_another_folder_stands_in_the_card(run: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "protocol.yaml"
    tree = yaml.safe_load((ROOT / "experiments/parts/protocol/world_quick.yaml").read_text())
    tree["init_args"]["prompts"]["init_args"]["per_category"] = 1
    protocol.write_text(yaml.safe_dump(tree))
    decoder = str(ROOT / "experiments/parts/decoder/world_nearest.yaml")
    scores = str(tmp_path / "scores")
    words = ["benchmark", "--prior", str(run), "--decoder", decoder, "--protocol", str(protocol), "--out", scores]
    assert command([*words, "--decoder.init_args.scenes=50"]) == 0
    words = ["publish", "--prior", str(run), "--license", "mit", "--to", str(tmp_path / "mine"), f"--beside=[{scores}]"]
    assert command(words) == 0
    text = (tmp_path / "mine/README.md").read_text()
    assert "oracle" in text and "No scorecard" not in text


def test_a_repository_is_read_back(run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish(run, "--private=true") == 0
    assert f"{hub.url}/tester/world-prior" in capsys.readouterr().out
    assert hub.private == {"tester/world-prior": True} and hub.commits == 1
    files = set(hub.repositories["tester/world-prior"])
    assert {"README.md", "prior/config.json", "prior/diffusion_pytorch_model.safetensors"} <= files
    text, samples = load_encoder("world")(["a red circle"]), []
    for source in (str(run), "tester/world-prior"):
        samples.append(load_prior(source).sample(text, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(*samples, atol=1e-4, rtol=1e-4)


def test_after_a_dropped_connection_the_rest_is_sent(run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.drops = 100
    assert publish(run) == 2
    assert "Nothing was published. The same command sends what is missing" in capsys.readouterr().err
    assert hub.repositories == {"tester/world-prior": {}}, "nothing is half published"
    hub.drops = 0
    assert publish(run) == 0
    sent = hub.uploads
    assert publish(run) == 0
    assert sent == hub.uploads == len(hub.objects), "weights that the hub has are not sent again"


def test_refusals(
    run: Path, tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str, prior: Path = run) -> str:
        assert publish(prior, *words) == 2
        return capsys.readouterr().err

    assert "is no folder of a run" in refused("--to", str(tmp_path / "out"), prior=tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "holds something already" in refused("--to", str(tmp_path / "full"))
    assert not (tmp_path / "out").exists()
    assert "may write to tester/... and lab/..." in refused("--to=somebody/else")
    hub.repositories["tester/world-prior"], hub.private["tester/world-prior"] = {"README.md": b"my own model"}, False
    assert "holds something that `publish` has not written" in refused()
    assert hub.repositories["tester/world-prior"] == {"README.md": b"my own model"}
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "refuses this token" in refused()
    monkeypatch.delenv("HF_TOKEN")
    assert "There is no token" in refused()
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "`--to ./FOLDER` needs no network" in refused()


def test_a_name_that_may_be_a_folder_is_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert repository_of("tester/prior") == "tester/prior"
    assert [repository_of(path) for path in ("./prior", "/tmp/prior", "~/prior")] == [None] * 3
    with pytest.raises(ValueError, match=r"is no repository \(USER/NAME\). Write a folder as ./prior"):
        repository_of("prior")
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"may be a repository of the hub, or a folder in out/"):
        repository_of("out/prior")


def test_the_folder_of_a_demo_runs_as_it_is(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["publish", "--prior", str(run), "--license", "mit", "--demo", "true"]
    assert command([*words, "--to", "tester/world-prior"]) == 2
    assert "hf upload tester/world-prior FOLDER --repo-type space" in capsys.readouterr().err
    assert command([*words, "--to", str(tmp_path / "space")]) == 0
    _, front, _ = (tmp_path / "space/README.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert (fields["sdk"], fields["app_file"], fields["license"]) == ("gradio", "app.py", "mit")
    assert fields["sdk_version"] == version("gradio")
    assert (tmp_path / "space/requirements.txt").read_text() == f"eclipse_pl[demo]=={eclipse_pl.__version__}\n"

    from gradio_client import Client

    port = str(free_port())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_SERVER_PORT": port, "NO_PROXY": "*"}
    words = [sys.executable, "app.py"]
    with subprocess.Popen(words, cwd=tmp_path / "space", env=environment, stdout=subprocess.PIPE, text=True) as app:
        try:
            assert app.stdout is not None and f":{port}" in app.stdout.readline()
            client = Client(f"http://127.0.0.1:{port}/", verbose=False)
            path, facts = client.predict(prompt="a red circle", api_name="/generate")
            with Image.open(path) as image:
                assert image.size == (64, 64)
            assert facts["request"]["prior"] == "EclipsePrior of world"
            client.close()
        finally:
            app.terminate()
