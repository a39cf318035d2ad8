"""A run becomes a folder or a repository that others load, with a card that says what was measured."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import eclipse_pl
from eclipse_pl import load_encoder, load_prior
from eclipse_pl.__main__ import main as command
from eclipse_pl.loading import is_local_clip
from eclipse_pl.publish.command import repository_of
from tests.helpers.compared_runs import copy, edit_config, edit_report
from tests.helpers.demo_model import free_port
from tests.helpers.fake_hub import FakeHub, serve_hub
from tests.helpers.pipelines import kandinsky_prior
from tests.helpers.ranks import run_command
from tests.helpers.runs import write_experiment
from tests.helpers.shard_sets import make_shard_set

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
    return fit(tmp_path_factory.mktemp("published"))


def fit(folder: Path, **more: Any) -> Path:
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
        **more,
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    assert command(["fit", "--config", str(ROOT / "experiments/quickstart.yaml"), *flags]) == 0
    return folder / "runs" / more.get("run.experiment", "quickstart") / "version_0"


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


def test_a_clip_that_nobody_else_has_is_not_promised(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_local_clip("open_clip:local-dir:sha256-0") and is_local_clip("open_clip:ViT-L-14:sha256-0")
    assert not is_local_clip("open_clip:ViT-L-14:openai")
    for module in ("card", "space"):
        monkeypatch.setattr(f"eclipse_pl.publish.{module}.is_local_clip", lambda tag: True)
    words = ["publish", "--prior", str(run), "--license", "mit", "--to", str(tmp_path / "mine")]
    assert command([*words, "--demo", "true"]) == 2
    assert "--demo needs a CLIP that others can load" in capsys.readouterr().err
    assert command(words) == 0
    text = (tmp_path / "mine/README.md").read_text()
    assert "is not published" in text and "load_encoder" not in text and "load_decoder" not in text


def python_of(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_lines_of_a_card_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the run, and of a LoRA that adapts it."""
    monkeypatch.chdir(tmp_path)
    part = tmp_path / "lora.yaml"
    arguments = yaml.safe_load((run / "config.yaml").read_text())["model"]["prior"]
    own = {**arguments["init_args"], "weights": str(run)}
    of_lora = {"prior": arguments["class_path"], "prior_args": own, "rank": 2, "alpha": 8.0}
    part.write_text(yaml.safe_dump({"class_path": "eclipse_pl.priors.lora.LoraPrior", "init_args": of_lora}))
    adapted = fit(tmp_path, **{"model.prior": part, "run.experiment": "lora", "samples.every_n_steps": 0, "decoder": "null"})
    for number, one in enumerate((run, adapted)):
        folder = tmp_path / f"mine_{number}"
        assert command(["publish", "--prior", str(one), "--license", "mit", "--to", str(folder)]) == 0
        found: dict[str, Any] = {}
        in_python, with_decoder, in_diffusers = python_of(folder / "README.md")
        for lines in (in_python, with_decoder, in_diffusers):  # as somebody runs them who copies them
            exec(lines, found)
        assert (tmp_path / "image.png").is_file()
        (tmp_path / "image.png").unlink()
        seed, text = torch.Generator().manual_seed(0), load_encoder("world")(["a red circle and a blue star"])
        predicted = load_prior(str(one)).sample(text, seed)
        for there in (found["image_embed"], found["image_embeds"]):  # another noise each
            assert torch.cosine_similarity(there, predicted) > 0.5, "the prior of another run, or weights that were not read"
    card = (tmp_path / "mine_1" / "README.md").read_text()
    assert "| `prior.prior_args.weights` | quickstart/version_0 |" in card and str(tmp_path) not in card
    assert "# LoraPrior of world" in card


def test_the_lines_of_a_lora_of_a_diffusion_prior_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the pipeline that the merged prior becomes, and those of the guide for the changes alone."""
    base = kandinsky_prior(tmp_path / "base")
    weights = base / "prior" / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(weights), "clip_std": torch.full((1, 12), 2.0)}, weights)
    make_shard_set(tmp_path / "shards", splits={"train": 64, "val": 16, "test": 16}, dim=12, width=12)
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 4, "weights": str(base)}
    arguments = {"prior": "eclipse_pl.priors.diffusion.DiffusionPrior", "prior_args": sizes, "rank": 2}
    part = {"class_path": "eclipse_pl.priors.lora.LoraPrior", "init_args": arguments}
    experiment = write_experiment(tmp_path, model__prior=part, trainer__max_steps=4, model__optimizer__init_args={"lr": 0.5})
    assert command(["fit", "--config", str(experiment)]) == 0
    run = str(tmp_path / "runs/tiny/version_0")
    words = ["--license", "apache-2.0", "--base", str(base), "--to", str(tmp_path / "mine")]
    assert command(["publish", "--prior", run, *words]) == 0
    assert command(["export", "--prior", run, "--lora", "true", "--out", str(tmp_path / "my_lora")]) == 0
    (of_card,) = [lines for lines in python_of(tmp_path / "mine" / "README.md") if "from diffusers" in lines]
    (of_guide,) = [lines for lines in python_of(ROOT / "docs/release.md") if "load_lora_adapter" in lines]
    of_guide = of_guide.replace("kandinsky-community/kandinsky-2-2-prior", str(base))
    monkeypatch.chdir(tmp_path)
    embeds = []
    of_card += 'pipeline = KandinskyV22PriorPipeline.from_pretrained("mine")\n'
    for lines in (of_card, of_guide, re.sub(r".*load_lora_adapter.*\n", "", of_guide)):
        found: dict[str, Any] = {}
        exec(lines, found)
        seed = torch.Generator().manual_seed(0)
        embeds.append(found["pipeline"](["a red circle and a blue star"], generator=seed).image_embeds)
    torch.testing.assert_close(embeds[0], embeds[1], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(embeds[0], embeds[2], atol=1e-2), "training changed nothing"


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


def test_the_card_says_why_a_row_is_marked(run: Path, tmp_path: Path) -> None:
    """Without the paths of this machine, and without remedies, which no reader of the card can use."""
    other = copy(run.parent, tmp_path / "runs", run.name) / run.name
    edit_config(other, seed_everything=1)
    edit_report(other, lambda report: report.update(metrics_version=99))
    words = ["publish", "--prior", str(run), "--license", "mit", f"--beside=[{other}]", "--to"]
    assert command([*words, str(tmp_path / "mine")]) == 0
    tables, _, conclusions = (tmp_path / "mine/README.md").read_text().partition("## What may not be concluded")
    assert "†" in tables
    reason = "because they were measured with other metrics: version"
    said = f"- Not a fair comparison (†): quickstart/version_0 and runs/version_0 cannot be compared fairly, {reason}"
    assert said in conclusions
    assert str(run) not in conclusions and str(tmp_path) not in conclusions and "python -m" not in conclusions
    words[words.index(f"--beside=[{other}]")] = "--beside=[]"
    assert command([*words, str(tmp_path / "alone")]) == 0
    assert "†" not in (tmp_path / "alone/README.md").read_text()


def test_weights_that_are_not_those_of_the_table_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run that was resumed with more steps and stopped before its end."""
    continued = copy(run.parent, tmp_path / "runs", run.name) / run.name
    edit_report(continued, lambda report: report.update(step=1, trained_steps=1))
    assert publish(continued, "--to", str(tmp_path / "mine")) == 2
    said = capsys.readouterr().err
    assert f"{continued} continued to step 2 after its table was written at step 1. Finish it: `python -m eclipse_pl" in said
    (continued / "latent.json").unlink()
    assert publish(continued, "--to", str(tmp_path / "mine")) == 2
    assert f"{continued} has no latent.json, because it has not finished" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


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


def test_a_repository_holds_the_files_of_one_prior(run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish(run) == 0
    repository = hub.repositories["tester/world-prior"]
    files = set(repository)
    repository |= {".gitattributes": b"*.safetensors lfs", "prior/prior.json": b"{}"}  # the hub's own, and one of a flow prior
    assert publish(run) == 0
    assert set(repository) == files | {".gitattributes"} and hub.commits == 2
    assert publish(run, "--private=true") == 2
    assert "tester/world-prior is public. Make it private in its settings" in capsys.readouterr().err


def test_files_that_the_user_added_to_a_repository_stay(run: Path, hub: FakeHub) -> None:
    """Those of an earlier `publish` go: its list names them."""
    assert publish(run) == 0
    repository = hub.repositories["tester/world-prior"]
    files, own = set(repository), {"notes.md": b"mine", "images/0.png": b"mine", "prior/other.bin": b"mine"}
    former = {"image_encoder/config.json": b"{}"}  # of a base
    repository |= own | former
    repository["published_files.json"] = json.dumps([*files, *former]).encode()
    assert publish(run) == 0
    assert set(repository) == files | set(own) and all(repository[name] == content for name, content in own.items())
    for damaged in (b"{", b"1", b"[1]"):
        repository["published_files.json"] = damaged
        repository["model_index.json.bak"] = b"mine"
        assert publish(run) == 0
        assert set(repository) == files | set(own) | {"model_index.json.bak"}
    assert set(json.loads(repository["published_files.json"])) == files


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
    assert "--license MIT is no name of the hub's. Write one as mit" in refused("--license=MIT")
    assert "--private is for a repository of the hub" in refused("--to", str(tmp_path / "out"), "--private=true")
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


def test_an_artifact_of_weights_and_biases_is_staged_offline(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own: wandb leaves sockets open that pytest takes for mistakes of ours."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    words = ["publish", "--prior", str(run), "--license", "mit", "--to=wandb:lab/priors/world-prior"]
    done = run_command(tmp_path / "said", words)
    assert done.returncode == 0, done.stdout
    (synced,) = (Path(line.removeprefix("wandb sync ")) for line in done.stdout.splitlines() if line.startswith("wandb sync "))
    assert synced.parent == run / "wandb", "the same place as that of the run's own log"
    (log,) = synced.glob("*.wandb")
    artifact, entity = logged_artifact(log)
    assert (artifact.name, artifact.type, artifact.project, entity) == ("world-prior", "model", "priors", "lab")
    assert sorted(artifact.aliases) == ["latest", "quickstart-version_0"]
    metadata = json.loads(artifact.metadata)
    assert (metadata["prior"], metadata["space"], metadata["license"]) == ("EclipsePrior", "world", "mit")
    staged = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert {"README.md", "training_config.yaml", "samples.png", "model_index.json", "prior/config.json"} <= set(staged)
    assert 'load_prior("world-prior")' in staged["README.md"].read_text()
    for name, path in staged.items():  # the temporary folder is gone, and the copies can be sent later
        (tmp_path / "read_back" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / "read_back" / name)
    text, samples = load_encoder("world")(["a red circle"]), []
    for source in (run, tmp_path / "read_back"):
        samples.append(load_prior(str(source)).sample(text, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(*samples, atol=1e-4, rtol=1e-4)


def logged_artifact(log: Path) -> tuple[Any, str]:
    """The artifact in the log of an offline run, and the entity of that run."""
    from wandb.proto.wandb_internal_pb2 import Record

    found, entity = [], ""
    for data in logged_records(log.read_bytes()):
        record = Record.FromString(data)
        entity = record.run.entity or entity
        found += [one for one in (record.artifact, record.request.log_artifact.artifact) if one.name]
    (artifact,) = found
    return artifact, entity


def logged_records(log: bytes, block: int = 32768) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: seven bytes before the first one, and no header across two blocks."""
    place, record = 7, b""
    while place + 7 <= len(log):
        if block - place % block < 7:
            place += block - place % block
            continue
        _, length, kind = struct.unpack_from("<IHB", log, place)
        record += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_an_artifact_that_cannot_be_logged_is_refused_before_the_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def refused(to: str, *more: str) -> str:
        assert publish(run, f"--to={to}", *more) == 2
        return capsys.readouterr().err

    for name in ("world-prior", "priors/a name", "one/two/three/four", "priors/"):
        assert f"--to wandb:{name} names no artifact. Write wandb:PROJECT/NAME or" in refused(f"wandb:{name}")
    assert "There is no account of Weights & Biases on this machine. Run `wandb login`" in refused("wandb:priors/world-prior")
    assert "--private is for a repository of the hub" in refused("wandb:priors/world-prior", "--private=true")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "WANDB_MODE is disabled" in refused("wandb:priors/world-prior")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "(http://127.0.0.1:9) does not answer. Nothing was published" in refused("wandb:priors/world-prior")


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
