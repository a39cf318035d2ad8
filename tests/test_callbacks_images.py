"""Images and scores while a prior trains: through `fit`, on the world's CLIP and a tiny decoder of its width."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from PIL import Image

from eclipse_pl.__main__ import main as command
from eclipse_pl.callbacks.undisturbed import undisturbed
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.loading import find_encoder
from tests.helpers.compared_runs import numbers
from tests.helpers.pipelines import kandinsky
from tests.helpers.ranks import run_command, torchrun
from tests.helpers.released_folders import TINY, write_eclipse
from tests.helpers.runs import metrics
from tests.helpers.runs_with_images import PROTOCOL, experiment

pytestmark = pytest.mark.processes

OTHER = {"class_path": "tests.helpers.runs_with_images.OtherEncoder"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    kandinsky(folder / "decoder", dim=128)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    assert command(["fit", "--config", str(experiment(folder, "run"))]) == 0
    return folder / "run" / "runs" / "tiny" / "version_0"


def test_images_appear_as_the_prior_learns(run: Path) -> None:
    names = sorted(path.name for path in (run / "samples").iterdir())
    assert names == ["step_0000004.png", "step_0000006.png"]
    with Image.open(run / "samples" / names[0]) as sheet:
        assert sheet.width > sheet.height, "two prompts by two seeds, with their words"


def test_scores_can_be_monitored_and_lie_in_the_runs_folder(run: Path) -> None:
    steps = metrics(run)
    assert [step for step, values in steps.items() if "benchmark/mean_colour" in values] == [1, 3, 5]
    card = json.loads((run / "scorecard.json").read_text())
    assert card["step"] == 6 and card["images"] == 12 and card["failed"] == 0
    last = steps[5]
    colour = card["scores"]["mean_colour"]["colour"]
    assert last["benchmark/colour/mean_colour"] == pytest.approx(colour["all"]["mean"], rel=1e-5)
    assert last["benchmark/colour/unseen/mean_colour"] == pytest.approx(colour["unseen"]["mean"], rel=1e-5)
    rows = (run / "benchmark" / "step_0000006" / "rows.jsonl").read_text().splitlines()
    assert len(rows) == 12 and all((run / "benchmark/step_0000006" / json.loads(row)["file"]).is_file() for row in rows)


def test_compare_shows_scores_and_images_of_a_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(["compare", str(run), "--csv", "numbers.csv"]) == 0
    cell = json.loads((run / "scorecard.json").read_text())["scores"]["mean_colour"]["colour"]["all"]
    assert numbers()["tiny", "all", "benchmark/colour/mean_colour"]["mean"] == str(cell["mean"])
    assert ("tiny", "all", "cosine") in numbers()
    page = Path("compare/page.html").read_text()
    assert page.count('"file":') == 12, "two prompts of each of six categories"


def test_training_does_not_notice(run: Path, folder: Path) -> None:
    alone = experiment(folder, "alone", samples={}, benchmark={}, decoder=None)
    assert command(["fit", "--config", str(alone)]) == 0
    without = metrics(folder / "alone" / "runs" / "tiny" / "version_0")
    for step, values in metrics(run).items():
        same = {name: value for name, value in values.items() if not name.startswith("benchmark/") and name != "train_seconds"}
        assert same == pytest.approx({name: without[step][name] for name in same}, nan_ok=True), step


def test_evaluation_leaves_mode_random_numbers_and_autocast_as_they_were() -> None:
    class Noisy(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.dropout = torch.nn.Linear(2, 2).eval(), torch.nn.Dropout()

    module = Noisy().train()
    module.frozen.eval()
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(KeyError), undisturbed(module):
            assert not module.training and not module.dropout.training and not torch.is_grad_enabled()
            assert module.frozen(torch.rand(1, 2)).dtype == torch.float32
            raise KeyError  # restored all the same
        assert module.frozen(torch.ones(1, 2)).dtype == torch.bfloat16 and torch.is_grad_enabled()
    assert torch.equal(torch.rand(2), expected)
    assert module.training and module.dropout.training and not module.frozen.training


def test_two_processes_show_and_score_what_one_does(folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Weights & Biases offline: the grids are in its files too."""
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    shared = experiment(
        folder, "shared", trainer__devices=2, trainer__strategy="ddp", trainer__max_steps=2, run__wandb="offline",
        data__init_args__batch_size=4, samples__every_n_steps=2,
    )  # fmt: skip
    # a process of its own: wandb leaves sockets open that pytest takes for mistakes of ours
    done = run_command(folder / "said", ["fit", "--config", str(shared)], torchrun(2))
    assert done.returncode == 0, done.stdout
    two = folder / "shared/runs/tiny/version_0"
    (grid,) = (two / "wandb").glob("offline-run-*/files/media/images/samples*.png")
    assert grid.read_bytes() == (two / "samples/step_0000002.png").read_bytes()
    cards = [json.loads((one / "benchmark/step_0000002/scorecard.json").read_text()) for one in (two, run)]
    assert cards[0]["images"] == cards[1]["images"] == 12 and cards[0]["failed"] == 0
    # the same noise and seeds on every rank; the priors differ by the rounding of gathered gradients alone
    means = [card["scores"]["mean_colour"]["colour"]["all"]["mean"] for card in cards]
    assert means[0] == pytest.approx(means[1], abs=1e-2)


def test_test_is_the_benchmark_of_a_checkpoint(run: Path, folder: Path) -> None:
    config = str(run / "config.yaml")
    assert command(["test", "--config", config, "--ckpt_path", str(run)]) == 0
    tested = json.loads((run.parent / "test_0" / "scorecard.json").read_text())
    trained = json.loads((run / "scorecard.json").read_text())
    assert tested["scores"] == trained["scores"] and tested["step"] == 6


def test_the_best_checkpoint_by_a_score(folder: Path) -> None:
    monitored = experiment(folder, "monitored", samples={}, checkpoint__monitor="benchmark/colour/mean_colour")
    assert command(["fit", "--config", str(monitored)]) == 0
    run = folder / "monitored" / "runs" / "tiny" / "version_0"
    scores = {step: values["benchmark/colour/mean_colour"] for step, values in metrics(run).items() if step in (1, 3, 5)}
    best = max(scores, key=lambda step: scores[step]) + 1
    assert [path.name for path in (run / "checkpoints").glob("best-*")] == [f"best-step={best}.ckpt"]


@pytest.mark.long
def test_a_benchmark_that_fails_is_made_when_the_run_is_resumed(folder: Path) -> None:
    fails = folder / "fails"
    fails.touch()
    scorer = {"class_path": "tests.helpers.scorers_for_images.Failing", "init_args": {"path": str(fails)}}
    changes = {"benchmark__every_n_validations": 2, "benchmark__protocol__init_args__scorers": [{"scorer": scorer}]}
    with pytest.raises(RuntimeError, match=r"the scorer failed"):
        command(["fit", "--config", str(experiment(folder, "failing", samples={}, **changes))])
    fails.unlink()
    run = folder / "failing" / "runs" / "tiny" / "version_0"
    assert command(["fit", "--config", str(run / "config.yaml"), "--ckpt_path", str(run)]) == 0
    assert [step for step, values in metrics(run).items() if "benchmark/mean_colour" in values] == [3]
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["callbacks"]["Benchmark"] == {"validations": 3}, "the last one is made before the checkpoint is written"


def test_after_training(folder: Path, run: Path) -> None:
    benchmark = {"after_training": True, "protocol": copy.deepcopy(PROTOCOL)}
    assert command(["fit", "--config", str(experiment(folder, "after", samples={}, benchmark=benchmark))]) == 0
    after = folder / "after" / "runs" / "tiny" / "version_0"
    ours, theirs = (json.loads((one / "scorecard.json").read_text()) for one in (after, run))
    assert ours["scores"] == theirs["scores"] and ours["step"] == 6
    steps = metrics(after)
    assert [step for step, values in steps.items() if "benchmark/mean_colour" in values] == [5]
    assert steps[5]["benchmark/mean_colour"] == pytest.approx(metrics(run)[5]["benchmark/mean_colour"], rel=1e-5)


def test_prompts_are_encoded_once_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []

    def counted(space: ClipSpace, *more: str) -> Encoder:
        found.append(space.name)
        return find_encoder(space, *more)

    monkeypatch.setattr("eclipse_pl.text_to_image.prior_and_decoder.find_encoder", counted)
    assert command(["fit", "--config", str(experiment(folder, "once", samples={}, trainer__max_steps=4))]) == 0
    steps = metrics(folder / "once" / "runs" / "tiny" / "version_0")
    assert sum("benchmark/mean_colour" in values for values in steps.values()) == 2 and found == ["world"]


@pytest.mark.parametrize("words", [["benchmark"], ["sample", '--prompt=["a red star"]']])
def test_commands_refuse_the_encoder_of_another_space(
    run: Path, tmp_path: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(OTHER))
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(PROTOCOL))
    (tmp_path / "decoder.yaml").write_text(yaml.safe_dump(yaml.safe_load((run / "config.yaml").read_text())["decoder"]))
    parts = [f"--{name}={tmp_path / name}.yaml" for name in ("encoder", "decoder", "protocol")]
    parts = parts if words == ["benchmark"] else parts[:2]
    assert command([*words, f"--prior={run}", f"--out={tmp_path / 'out'}", *parts]) == 2
    said = capfd.readouterr().err
    assert f"The prior {run} belongs to world" in said and "the encoder is open_clip:local-dir:sha256-other" in said


def test_a_released_prior_is_held_against_the_width_of_the_encoder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prior = write_eclipse(tmp_path / "released", **TINY)
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump({"class_path": "eclipse_pl.world.encoder.WorldEncoder"}))
    words = ['--prompt=["a red star"]', f"--prior={prior}", f"--encoder={tmp_path / 'encoder.yaml'}"]
    assert command(["sample", f"--out={tmp_path / 'out'}", *words]) == 2
    said = capfd.readouterr().err
    assert f"The prior {prior} is 16 wide, and the encoder open_clip:local-dir:sha256-" in said and "128 wide" in said


def test_scorer_and_decoder_are_no_part_of_a_checkpoint(run: Path) -> None:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(key.startswith("prior.") for key in state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": {"every_n_steps": 2}}, "nothing to generate"),
        ({"samples": {"every_n_steps": -1}}, "samples.every_n_steps is -1"),
        ({"benchmark": {"every_n_validations": 1}}, "no benchmark.protocol"),
        ({"benchmark__protocol__init_args__scorers": []}, "scorers is empty"),
        ({"decoder__init_args__space": "ViT-L-14/openai"}, "The decoder decodes embeddings of ViT-L-14/openai"),
        *(
            ({f"{group}__encoder": OTHER}, "the encoder is open_clip:local-dir:sha256-other")
            for group in ("samples", "benchmark")
        ),
        (
            {"benchmark__every_n_validations": 2, "checkpoint__monitor": "benchmark/mean_colour"},
            "Set benchmark.every_n_validations to 1",
        ),
    ],
)
def test_mistakes(folder: Path, changes: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    import re

    name = re.sub(r"\W+", "_", str(changes))[:60]
    assert command(["fit", "--config", str(experiment(folder, name, **changes))]) == 2
    assert message in capfd.readouterr().err


def test_without_a_decoder_there_are_no_images(folder: Path, capfd: Any, caplog: pytest.LogCaptureFixture) -> None:
    words = ["fit", "--config", str(experiment(folder, "none", decoder=None, checkpoint__monitor="val/cosine"))]
    assert command(words) == 0
    assert caplog.text.count("decoder is null: this run generates no images") == 1
    run = folder / "none" / "runs" / "tiny" / "version_0"
    assert (run / "latent.json").is_file() and not (run / "samples").exists() and not (run / "scorecard.json").exists()
    assert (
        command(
            ["fit", "--config", str(experiment(folder, "monitor", decoder=None, checkpoint__monitor="benchmark/mean_colour"))]
        )
        == 2
    )
    assert "is benchmark/mean_colour, and this run has no benchmark" in capfd.readouterr().err


def test_all_problems_are_reported_at_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A first run on one's own pairs: each of these was found by a try of its own, after seconds."""
    changes = {"decoder__init_args__space": "ViT-L-14/openai", "decoder__init_args__model": "no/such-decoder"}
    config = experiment(
        folder, "many", trainer__accelerator="gpu", trainer__devices=4, data__init_args__batch_size=256, **changes
    )
    assert command(["fit", "--config", str(config)]) == 2
    found = capfd.readouterr().err.partition("error: ")[2].splitlines()
    assert len(found) == 4 and found[0] == "3 problems:"
    assert "torch finds no GPU. On a CPU add --config experiments/overlays/cpu.yaml" in found[1]
    assert "global batch of 256" in found[2], "what one process would have, because there is no GPU"
    assert "The decoder decodes embeddings of ViT-L-14/openai" in found[3] and "overlays/no_images.yaml" in found[3]
    assert not (folder / "many" / "runs").exists()


def test_missing_prompts_are_reported_together_with_another_space(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prompts = {"class_path": "eclipse_pl.prompts.source.PromptFiles", "init_args": {"folder": "no_such_prompts"}}
    changes = {"decoder__init_args__space": "ViT-L-14/openai", "benchmark__protocol__init_args__prompts": prompts}
    assert command(["fit", "--config", str(experiment(folder, "two", **changes))]) == 2
    found = capfd.readouterr().err.partition("error: ")[2].splitlines()
    assert len(found) == 3 and found[0] == "2 problems:"
    assert "The decoder decodes embeddings of ViT-L-14/openai" in found[1]
    assert "There is no folder no_such_prompts" in found[2]


def test_what_a_part_says_is_not_buried_in_the_types_that_were_tried(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = experiment(folder, "missing", decoder__init_args__model=str(folder / "decodr"))
    assert command(["fit", "--config", str(missing)]) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"error: There is no folder {folder / 'decodr'}") and f"Near it: {folder / 'decoder'}" in last
