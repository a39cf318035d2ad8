"""What a notebook does with the package: import, train, load, predict from strings, decode, score, measure."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

import eclipse_pl
from eclipse_pl import (
    ClipSpace,
    DiffusionPrior,
    EclipsePrior,
    LitPrior,
    load_decoder,
    load_encoder,
    load_part,
    load_prior,
    measure,
)
from eclipse_pl.__main__ import main as command
from eclipse_pl.priors.mlp import MLPPrior
from eclipse_pl.priors.prior import Prior
from eclipse_pl.world.datamodule import WorldDataModule
from eclipse_pl.world.decoder import WorldDecoder
from eclipse_pl.world.oracle import OracleScorer

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent
SIZES = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}
PROMPTS = ["a red circle", "two blue stars"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldDataModule:
    folder = str(tmp_path_factory.mktemp("front") / "world")
    data = WorldDataModule(folder, train_pairs=64, val_pairs=16, test_pairs=16, batch_size=16, workers=0)
    data.prepare_data()
    return data


def trained(prior: Prior, data: WorldDataModule, **options: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False} | options
    trainer = L.Trainer(max_steps=2, log_every_n_steps=1, accelerator="cpu", use_distributed_sampler=False, **quiet)
    trainer.fit(LitPrior(prior, lambda parameters: torch.optim.AdamW(parameters, lr=1e-3)), data)
    return trainer


def test_the_import_loads_no_library() -> None:
    code = "import sys, eclipse_pl; print([name for name in ('torch', 'lightning', 'numpy', 'yaml') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


COPIED = """
import importlib, pkgutil, sys
for name in "eclipse_pl lightning diffusers transformers open_clip webdataset wandb jsonargparse".split():
    sys.modules[name] = None
import copied
for module in pkgutil.walk_packages(copied.__path__, "copied."):
    importlib.import_module(module.name)
import torch
from copied.embedding import ClipSpace, TextCondition
from copied.priors.flow import FlowPrior
ones = torch.ones(8)
space = ClipSpace("own", 8, 8, 6, "own", False, ones, ones, empty_states=torch.zeros(2, 8), empty_embed=ones)
prior = FlowPrior(space, num_layers=1, num_attention_heads=2, attention_head_dim=4)
print(tuple(prior.sample(TextCondition(torch.randn(2, 8), torch.randn(5, 8), torch.tensor([2, 3]))).shape))
"""


def test_priors_work_in_another_project(tmp_path: Path) -> None:
    """With the files that docs/design.md names, and without the libraries that it says they do without."""
    named = re.search(r"To copy them into another project, copy (.*) too\.", (ROOT / "docs/design.md").read_text())
    assert named
    files = ["embedding.py", "losses.py", *re.findall(r"`(\w+\.py)`", named[1])]
    package = tmp_path / "copied"
    shutil.copytree(ROOT / "eclipse_pl/priors", package / "priors", ignore=shutil.ignore_patterns("__pycache__"))
    for name in files:
        shutil.copy(ROOT / "eclipse_pl" / name, package)
    (package / "__init__.py").touch()
    for path in package.rglob("*.py"):
        path.write_text(path.read_text().replace("from eclipse_pl.", "from copied."))
    done = subprocess.run([sys.executable, "-c", COPIED], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "(2, 8)\n", done.stderr


def test_all_names_are_there() -> None:
    assert set(eclipse_pl.__all__) <= set(dir(eclipse_pl))
    assert all(callable(getattr(eclipse_pl, name)) for name in eclipse_pl.__all__ if name != "__version__")
    assert eclipse_pl.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'EclipsPrior'"):
        _ = eclipse_pl.EclipsPrior


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (EclipsePrior, SIZES),
        (EclipsePrior, {**SIZES, "noise": "zero"}),
        (MLPPrior, {"num_layers": 1, "width": 16, "contrastive_weight": 0.0}),
        (DiffusionPrior, {**SIZES, "steps": 3}),
    ],
)
def test_a_plain_trainer_trains_and_its_checkpoint_is_loaded(
    kind: type[Prior], options: dict[str, Any], world: WorldDataModule, tmp_path: Path
) -> None:
    prior = kind(world.space, **options)
    saved = L.pytorch.callbacks.ModelCheckpoint(tmp_path, save_last=True)
    trained(prior, world, callbacks=[saved])
    loaded = load_prior(str(tmp_path / "last.ckpt"))
    assert type(loaded) is kind and not loaded.training
    text = load_encoder(loaded)(PROMPTS)
    first, second = (one.eval().sample(text, torch.Generator().manual_seed(0)) for one in (prior, loaded))
    assert torch.equal(first, second) and first.shape == (2, 128)


def test_an_earlier_checkpoint_that_states_options_twice_is_loaded(world: WorldDataModule, tmp_path: Path) -> None:
    trainer = trained(EclipsePrior(world.space, **SIZES, noise="zero"), world, enable_checkpointing=False)
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    content = torch.load(tmp_path / "new.ckpt", weights_only=True)
    assert content["prior"]["init_args"] == {**SIZES, "noise": "zero"}
    content["prior"]["init_args"]["options"] = {"noise": "zero"}
    torch.save(content, tmp_path / "old.ckpt")
    assert load_prior(str(tmp_path / "old.ckpt")).is_deterministic


def test_the_folder_of_a_plain_trainer_stands_for_its_only_checkpoint(world: WorldDataModule, tmp_path: Path) -> None:
    prior = EclipsePrior(world.space, **SIZES)
    written = Path(trained(prior, world, logger=CSVLogger(tmp_path)).checkpoint_callback.best_model_path)
    folder = tmp_path / "lightning_logs" / "version_0"
    assert written.parent.parent == folder
    text = load_encoder(prior)(PROMPTS)
    first, second = (one.eval().sample(text, torch.Generator().manual_seed(0)) for one in (prior, load_prior(str(folder))))
    assert torch.equal(first, second)
    shutil.copy(written, written.with_name("another.ckpt"))
    with pytest.raises(ValueError, match=rf"holds 2 checkpoints. Name one of them: .*another.ckpt, .*{written.name}"):
        load_prior(str(folder))


def test_arguments_that_are_no_plain_data_need_the_config(world: WorldDataModule, tmp_path: Path) -> None:
    class Strange(EclipsePrior):
        def __init__(self, space: ClipSpace, torch_type: Any = torch.float32) -> None:
            super().__init__(space, **SIZES)

    trained(Strange(world.space, torch.float64), world, enable_checkpointing=False).save_checkpoint(tmp_path / "strange.ckpt")
    with pytest.raises(ValueError, match=r"which names the class of the prior in .*strange\.ckpt"):
        load_prior(str(tmp_path / "strange.ckpt"))


def test_a_batch_of_a_loader_is_sampled_as_it_is(world: WorldDataModule) -> None:
    prior = EclipsePrior(world.space, **SIZES).eval()
    batch = next(iter(world.val_dataloader()))
    assert batch.image_embed.dtype == torch.float16
    predicted, again = (prior.sample(given, torch.Generator().manual_seed(0)) for given in (batch, batch.to("cpu").text))
    assert predicted.dtype == torch.float32 and torch.equal(predicted, again)


def test_encoders_by_prior_space_and_name(world: WorldDataModule) -> None:
    (one,), (two,), three = (
        load_encoder(of, "cpu")("a red circle").text_embed for of in (world.space, "world", EclipsePrior(world.space, **SIZES))
    )
    assert torch.equal(one, two) and torch.equal(three[0], one)


def test_an_encoder_of_ones_own_by_its_folder(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(clip_folder.parent))
    expected = load_encoder(f"local-dir:{clip_folder}", "cpu")("a red circle").text_embed
    assert torch.equal(load_encoder(f"local-dir:~/{clip_folder.name}", "cpu")("a red circle").text_embed, expected)


def test_images_from_embeddings_alone_and_scores_of_strings(world: WorldDataModule, tmp_path: Path) -> None:
    batch = next(iter(world.val_dataloader()))
    images = WorldDecoder(steps=2, device="cpu").decode(batch.image_embed[:2].float())
    assert [image.size for image in images] == [(64, 64)] * 2
    scores = OracleScorer().score([*images, Image.new("RGB", (64, 64))], [*PROMPTS, "a red circle"])
    assert all(0 <= score.value <= 1 and score.failure is None for score in scores)


def test_measure_is_validate(world: WorldDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    smoke = ["--config", str(ROOT / "experiments/quickstart.yaml"), "--config", str(ROOT / "experiments/overlays/smoke.yaml")]
    data = [
        f"--data.init_args.{name}" for name in (f"folder={world.folder}", "train_pairs=64", "val_pairs=16", "test_pairs=16")
    ]
    assert command(["fit", *smoke, *data, "--run.experiment=front"]) == 0
    run = tmp_path / "runs/front/version_0"
    stated = json.loads((run / "latent.json").read_text())["rows"]
    rows = measure(load_prior(str(run)), world.folder)
    assert rows.keys() == stated.keys()
    for row, subsets in stated.items():
        for subset, metrics in subsets.items():
            assert rows[row][subset] == pytest.approx(metrics, abs=1e-5, nan_ok=True)
    assert not (tmp_path / "latent.json").exists() and not (tmp_path / "lightning_logs").exists()
    other = EclipsePrior(ClipSpace("other", 128, 128, 77, "other", False, torch.zeros(128), torch.ones(128)), **SIZES)
    with pytest.raises(ValueError, match="other"):
        measure(other, world.folder)


def test_a_decoder_by_its_space(world: WorldDataModule) -> None:
    prior = EclipsePrior(world.space, **SIZES)
    decoder = load_decoder(prior, steps=2)
    assert isinstance(decoder, WorldDecoder) and decoder.steps == 2 and decoder.zero_image is not None
    assert load_decoder(world.space).identity == load_decoder("world").identity
    with pytest.raises(ValueError, match=r"No decoder is known for the space tiny; known are world, ViT-L-14/openai"):
        load_decoder("tiny")
    with pytest.raises(ValueError, match=r"parts/worl\.yaml is a file, and no space: load_part"):
        load_decoder("parts/worl.yaml")
    assert load_decoder("ViT-L-14/openai", device="cpu", steps=5).steps == 5  # nothing is fetched before it decodes


def test_a_part_by_its_file(tmp_path: Path) -> None:
    parts = ROOT / "experiments" / "parts"
    assert load_part(parts / "decoder/world.yaml", steps=3).steps == 3
    protocol = load_part(parts / "protocol/world_quick.yaml", prompts={"init_args": {"per_category": 2}})
    assert len(protocol.source.load()) == 24
    for device in ("cpu", torch.device("cpu")):  # texts kept the quotes of JSON, and other objects have no JSON
        assert load_part(parts / "decoder/world.yaml", device=device).device == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device is 'tpu'"):
        load_part(parts / "decoder/world.yaml", device="tpu")
    with pytest.raises(ValueError, match="There is no part"):
        load_part(tmp_path / "gone.yaml")
    with pytest.raises(ValueError, match="no class_path"):
        load_part(ROOT / "experiments/overlays/cpu.yaml")
    with pytest.raises(ValueError, match="stepz"):
        load_part(parts / "decoder/world.yaml", stepz=3)
    (tmp_path / "part.yaml").write_text("class_path: eclipse_pl.decoders.NoDecoder")
    with pytest.raises(ValueError, match=r"There is no class eclipse_pl\.decoders\.NoDecoder"):
        load_part(tmp_path / "part.yaml")


def test_a_part_below_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(ROOT / "experiments/parts/decoder/world.yaml", tmp_path / "mine.yaml")
    assert isinstance(load_part("~/mine.yaml"), WorldDecoder)


def test_a_part_of_somebody_else_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function is not called, and a module without a class of these kinds is not imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "foreign.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\nclass Thing:\n    pass\n")
    for class_path in ("os.system", "foreign.Thing"):
        (tmp_path / "part.yaml").write_text(f"class_path: {class_path}")
        with pytest.raises(ValueError, match="There is no class"):
            load_part(tmp_path / "part.yaml")
    assert "foreign" not in sys.modules and not (tmp_path / "imported").exists()
