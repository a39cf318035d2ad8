"""Priors in files: exported and read back, filled into other priors, refused where their weights would mean something else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from eclipse_pl.__main__ import main as command
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition
from eclipse_pl.loading import load_prior
from eclipse_pl.priors import DiffusionPrior, EclipsePrior, LinearPrior, MeanImagePrior, MLPPrior, Prior, TextAsImagePrior
from eclipse_pl.priors.checkpoint import SavedRun
from eclipse_pl.priors.open_saved import open_saved
from tests.helpers.released_folders import KANDINSKY_SCHEDULER, TINY, write_eclipse, write_pipeline, write_stock
from tests.helpers.runs import write_experiment
from tests.helpers.saved_runs import make_run
from tests.helpers.shard_sets import make_space
from tests.test_network import captions

SMALL = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def space(dim: int = 16) -> ClipSpace:
    covariance = torch.full((dim, dim), 0.5) + torch.eye(dim)
    statistics = {"image_mean": torch.ones(dim), "image_std": torch.full((dim,), 2.0), "image_covariance": covariance}
    return replace(make_space(dim, dim), **statistics)


def write_base(folder: Path, dim: int, scheduler: str = "scheduler") -> Path:
    """A pipeline of the same CLIP, as far as `export` looks at it."""
    for part in ("text_encoder", "tokenizer", scheduler):
        (folder / part).mkdir(parents=True)
    (folder / "text_encoder" / "config.json").write_text(json.dumps({"projection_dim": dim}))
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    (folder / scheduler / "scheduler_config.json").write_text(json.dumps(KANDINSKY_SCHEDULER))
    index = {"_class_name": "KandinskyV22PriorPipeline", "prior": ["diffusers", "x"], scheduler: ["diffusers", "x"]}
    index |= {part: ["transformers", "x"] for part in ("text_encoder", "tokenizer")}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def samples(source: str | Path | Prior, dim: int) -> torch.Tensor:
    prior = source if isinstance(source, Prior) else load_prior(str(source))
    return prior.sample(captions([3, 9], dim), [torch.Generator().manual_seed(seed) for seed in (1, 2)])


diffusion_options = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 2),
        "num_attention_heads": st.integers(1, 3),
        "attention_head_dim": st.sampled_from([4, 8]),
        "num_train_timesteps": st.integers(20, 1000),
        "steps": st.integers(1, 5),
        "guidance_scale": st.sampled_from([1.0, 2.5, 4.0]),
        "eta": st.sampled_from([0.0, 0.5, 1.0]),
        "clamp": st.one_of(st.none(), st.floats(0.1, 20)),
        "spacing": st.sampled_from(["linspace", "leading", "trailing"]),
        "standardise": st.sampled_from(["none", "diagonal"]),
    }
)


@pytest.mark.long
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
@settings(max_examples=3)
@given(options=diffusion_options, dim=st.sampled_from([8, 24]), scheduler=st.sampled_from(["scheduler", "prior_scheduler"]))
def test_an_exported_diffusion_prior_samples_as_before(
    prediction: str, schedule: str, options: dict[str, Any], dim: int, scheduler: str
) -> None:
    """With a base only where UnCLIPScheduler knows the prior."""
    options = {**options, "prediction": prediction, "schedule": schedule}
    with TemporaryDirectory() as temporary:
        folder, out = Path(temporary), Path(temporary) / "out"
        run = make_run(folder / "run", DiffusionPrior, space(dim), **options)
        assert command(["export", "--prior", str(run), "--out", str(out)]) == 0
        expected = samples(run, dim)
        assert torch.equal(samples(out, dim), expected)
        assert torch.equal(samples(out / "prior", dim), expected), "the network's folder says what it is by itself"
        filled = DiffusionPrior(space(dim), **options, weights=str(out))
        assert torch.equal(samples(filled, dim), expected)
        base = str(write_base(folder / "base", dim, scheduler))
        done = command(["export", "--prior", str(run), "--out", str(folder / "based"), "--base", base])
        assert done == (0 if schedule == "cosine" and prediction != "v" else 2)
        if done == 0:
            assert torch.equal(samples(folder / "based", dim), expected)


@pytest.mark.long
@settings(max_examples=10)
@given(
    noise=st.sampled_from(["gaussian", "zero", "learned"]),
    standardise=st.sampled_from(["none", "diagonal", "full"]),
    layers=st.integers(1, 2),
    heads=st.integers(1, 3),
    dim=st.sampled_from([8, 24]),
)
def test_an_exported_eclipse_prior_samples_as_before(noise: str, standardise: str, layers: int, heads: int, dim: int) -> None:
    options: Any = {"num_layers": layers, "num_attention_heads": heads, "attention_head_dim": 4}
    with TemporaryDirectory() as temporary:
        folder, out = Path(temporary), Path(temporary) / "out"
        run = make_run(folder / "run", EclipsePrior, space(dim), **options, noise=noise, standardise=standardise)
        assert command(["export", "--prior", str(run), "--out", str(out), "--base", str(write_base(folder / "b", dim))]) == 0
        for where in (out, out / "prior"):
            torch.testing.assert_close(samples(where, dim), samples(run, dim), atol=1e-4, rtol=1e-4)


transformer = {"num_layers": st.integers(1, 2), "num_attention_heads": st.integers(1, 3), "attention_head_dim": st.just(4)}
direct = {
    "noise": st.sampled_from(["gaussian", "zero", "learned"]),
    "standardise": st.sampled_from(["none", "diagonal"]),
    "learn_temperature": st.booleans(),
    "target": st.sampled_from(["text", "image", "symmetric"]),
}
any_prior = st.one_of(
    st.tuples(st.just(LinearPrior), st.fixed_dictionaries({"ridge": st.one_of(st.none(), st.floats(0.1, 1))})),
    st.tuples(st.just(MeanImagePrior), st.just({})),
    st.tuples(st.just(TextAsImagePrior), st.just({})),
    st.tuples(
        st.just(MLPPrior), st.fixed_dictionaries({"num_layers": st.integers(1, 2), "width": st.integers(1, 9), **direct})
    ),
    st.tuples(st.just(EclipsePrior), st.fixed_dictionaries({**transformer, **direct})),
    st.tuples(st.just(DiffusionPrior), diffusion_options),
)


@pytest.mark.long
@settings(max_examples=20)
@given(made=any_prior, dim=st.integers(2, 20), width=st.integers(1, 20))
def test_a_run_fills_and_is_built(made: tuple[type[Prior], dict[str, Any]], dim: int, width: int) -> None:
    cls, options = made
    where = replace(make_space(dim, width), image_mean=torch.ones(dim), image_std=torch.full((dim,), 2.0))
    text = captions([3, 9], dim, width)
    with TemporaryDirectory() as temporary:
        run = make_run(Path(temporary) / "run", cls, where, **options)
        built = load_prior(str(run))
        expected = built.sample(text, torch.Generator().manual_seed(1))
        assert type(built) is cls and not built.training and built.space.identity == where.identity
        saved = open_saved(str(run / "checkpoints" / "last.ckpt"))
        assert torch.equal(saved.build().sample(text, torch.Generator().manual_seed(1)), expected)
        filled = cls(where, **options)
        saved.fill(filled)
        assert torch.equal(filled.sample(text, torch.Generator().manual_seed(1)), expected)
        if "standardise" in options:
            with pytest.raises(ValueError, match=f"set the prior's standardise to {options['standardise']}"):
                other = {"none": "diagonal", "diagonal": "none"}[options["standardise"]]
                saved.fill(cls(where, **{**options, "standardise": other}))


@pytest.fixture(scope="module")
def linear_eps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One prior as everything that `weights` takes."""
    folder = tmp_path_factory.mktemp("linear_eps")
    options = {**SMALL, "schedule": "linear", "prediction": "eps", "num_train_timesteps": 500}
    run = make_run(folder / "run", DiffusionPrior, space(), **options)
    assert command(["export", "--prior", str(run), "--out", str(folder / "out")]) == 0
    foreign = write_pipeline(folder / "foreign", **TINY)
    scheduler = {"_class_name": "DDPMScheduler", "beta_schedule": "linear", "num_train_timesteps": 500}
    (foreign / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    places = {"run": run, "checkpoint": run / "checkpoints" / "last.ckpt", "exported": folder / "out"}
    places |= {"exported network": folder / "out" / "prior", "diffusers": foreign, "its network": foreign / "prior"}
    return {name: str(place) for name, place in places.items()}


@pytest.mark.parametrize("source", ["run", "checkpoint", "exported", "exported network", "diffusers", "its network"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prediction": "x0"}, "trained with prediction eps, and the prior has prediction x0"),
        ({"prediction": "v"}, "trained with prediction eps, and the prior has prediction v"),
        ({"schedule": "cosine"}, "trained with schedule linear, and the prior has schedule cosine"),
        ({"num_train_timesteps": 1000}, "trained with num_train_timesteps 500, and the prior has num_train_timesteps 1000"),
        (
            {"prediction": "x0", "schedule": "cosine"},
            "trained with prediction eps, schedule linear, and the prior has prediction x0, schedule cosine",
        ),
    ],
)
def test_weights_that_would_mean_something_else(
    linear_eps: dict[str, str], source: str, change: dict[str, Any], said: str
) -> None:
    options: dict[str, Any] = {**SMALL, "schedule": "linear", "prediction": "eps", "num_train_timesteps": 500}
    DiffusionPrior(space(), **options, steps=3, weights=linear_eps[source])
    with pytest.raises(ValueError, match=said):
        DiffusionPrior(space(), **{**options, **change}, weights=linear_eps[source])


@pytest.mark.long
def test_a_fit_and_a_resumed_fit_refuse_them_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prior = {"class_path": "eclipse_pl.priors.diffusion.DiffusionPrior", "init_args": {**SMALL, "steps": 2}}
    fit = ["fit", "--config", str(write_experiment(tmp_path, model__prior=prior, trainer__max_steps=2))]
    assert command(fit) == 0
    run = tmp_path / "runs" / "tiny" / "version_0"
    said = "trained with prediction x0, and the prior has prediction v"
    for option in (f"--model.prior.init_args.weights={run}", f"--ckpt_path={run}"):
        capfd.readouterr()
        assert command([*fit, "--model.prior.init_args.prediction=v", option]) == 2
        assert said in capfd.readouterr().err
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["state_dict"]["prior.network.proj_in.bias"][0] = torch.nan
    torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    assert command([*fit, f"--ckpt_path={run}"]) == 2
    assert "hold NaN or infinity: 1 of the 16 numbers of prior.network.proj_in.bias" in capfd.readouterr().err


@pytest.mark.parametrize("cls", [EclipsePrior, MLPPrior])
def test_weights_that_never_read_noise_are_refused_where_there_is_noise(cls: type[Prior], tmp_path: Path) -> None:
    size: Any = SMALL if cls is EclipsePrior else {"num_layers": 1, "width": 8}
    kinds = ("gaussian", "zero", "learned")
    runs = {kind: make_run(tmp_path / kind, cls, space(), **size, noise=kind) for kind in kinds}
    for trained, run in runs.items():
        for kind in kinds:
            if kind == trained or (trained, kind) == ("gaussian", "zero"):
                cls(space(), **size, noise=kind, weights=str(run))
                continue
            said = f"trained with noise {trained}, and the prior has noise {kind}.*Set the prior's noise to what"
            with pytest.raises(ValueError, match=said):
                cls(space(), **size, noise=kind, weights=str(run))


def test_a_fit_and_a_measurement_refuse_weights_that_never_read_noise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    experiment = str(write_experiment(tmp_path, model__prior__init_args={**SMALL, "noise": "zero"}))
    run = make_run(tmp_path / "run", EclipsePrior, make_space(), **SMALL, noise="zero")
    for words in ("fit", "--model.prior.init_args.weights"), ("validate", "--ckpt_path"):
        assert command([words[0], "--config", experiment, f"{words[1]}={run}", "--model.prior.init_args.noise=gaussian"]) == 2
        assert "were trained with noise zero, and the prior has noise gaussian" in capfd.readouterr().err


def test_weights_that_state_no_noise_are_taken_as_before(tmp_path: Path) -> None:
    """A checkpoint from before noise was kept, and a folder that was exported."""
    run = make_run(tmp_path / "run", EclipsePrior, space(), **SMALL, noise="zero")
    base = str(write_base(tmp_path / "base", 16))
    assert command(["export", "--prior", str(run), "--out", str(tmp_path / "out"), "--base", base]) == 0
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint.pop("trained_for") == {"noise": "zero"}
    torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    for source in (run, tmp_path / "out"):
        for kind in ("gaussian", "zero"):
            EclipsePrior(space(), **SMALL, noise=kind, weights=str(source))


@pytest.mark.long
def test_a_released_priors_scheduler_decides_how_it_samples(tmp_path: Path) -> None:
    """Everything that a scheduler says changes the samples, and equals a prior that is told so."""
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"clip_sample_range": 0.5}, {"clamp": 0.5}),
        ({"clip_sample_range": 0.25}, {"clamp": 0.25}),
        ({"clip_sample": False}, {"clamp": None}),
        ({"prediction_type": "epsilon"}, {"prediction": "eps"}),
        ({"num_train_timesteps": 50}, {"num_train_timesteps": 50}),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "linear"}, {"schedule": "linear", "spacing": "leading"}),
        ({"_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2"}, {"eta": 0.0, "spacing": "leading"}),
        (
            {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
            {"prediction": "v", "spacing": "leading"},
        ),
    ]
    folder = write_pipeline(tmp_path / "pipeline", **TINY)
    save_space(folder)
    scheduler = {**KANDINSKY_SCHEDULER, "clip_sample_range": 0.6}
    seen: list[torch.Tensor] = []
    for change, options in changes:
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**scheduler, **change}))
        sampled = samples(folder, 16)
        told = DiffusionPrior(space(), **{**SMALL, "clamp": 0.6, **options}, weights=str(folder))
        assert torch.equal(sampled, samples(told, 16)), change
        assert not any(torch.equal(sampled, other) for other in seen), change
        seen.append(sampled)


def save_space(pipeline: Path) -> None:
    space().save(pipeline / "prior" / "space.safetensors")


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ({"_class_name": "EulerDiscreteScheduler"}, "holds a EulerDiscreteScheduler; it must be an UnCLIPScheduler"),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "sigmoid"}, "has the betas 'sigmoid'"),
        ({"_class_name": "DDPMScheduler", "beta_end": 0.01}, "has the betas 'linear' from 0.0001 to 0.01"),
        ({"_class_name": "DDPMScheduler", "rescale_betas_zero_snr": True}, "from 0.0001 to 0.02, changed"),
        ({"prediction_type": "flow"}, "has prediction_type 'flow'; released priors have sample, epsilon"),
    ],
)
def test_schedulers_that_are_not_ours(tmp_path: Path, scheduler: dict[str, Any], said: str) -> None:
    folder = write_pipeline(tmp_path / "pipeline", **TINY)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    with pytest.raises(ValueError, match=said):
        open_saved(str(folder))


def test_an_exported_folder_that_contradicts_itself(linear_eps: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(linear_eps["exported"], out)
    (out / "scheduler").mkdir()
    (out / "scheduler" / "scheduler_config.json").write_text(json.dumps(KANDINSKY_SCHEDULER))
    with pytest.raises(ValueError, match=r"has prediction x0, and .*prior\.json has eps: these must be equal"):
        open_saved(str(out))
    shutil.rmtree(out / "scheduler")
    rule = json.loads((out / "prior" / "prior.json").read_text())
    for name, value in (("steps", "ten"), ("weights", "owner/name"), ("schedule", None)):
        (out / "prior" / "prior.json").write_text(json.dumps({**rule, name: value}))
        with pytest.raises(ValueError, match=rf"prior\.json has {name} .*, which `export` does not write"):
            open_saved(str(out))


@pytest.mark.parametrize("network", [False, True])
def test_of_a_pipeline_on_the_hub_the_prior_alone_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: bool
) -> None:
    folder = write_pipeline(tmp_path / "kandinsky", **TINY)
    folder, asked = folder / "prior" if network else folder, []

    def snapshot_download(repository: str, allow_patterns: list[str], **options: Any) -> str:
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert open_saved("owner/name").dim == 16
    assert asked == [["*.json"], ["*.json", "*.safetensors" if network else "prior/*.safetensors"]]


def test_a_network_alone_says_so(tmp_path: Path) -> None:
    stock = write_stock(tmp_path / "stock", **TINY)
    space().save(stock / "space.safetensors")
    with pytest.warns(UserWarning, match="a network without the rule that it was trained by.*prediction x0, schedule"):
        load_prior(str(stock))
    DiffusionPrior(space(), **SMALL, prediction="eps", weights=str(stock))


# broken weights


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["proj_in.weight", "transformer_blocks.1.norm1.bias"])
def test_numbers_that_are_none(tmp_path: Path, capfd: pytest.CaptureFixture[str], number: float, key: str) -> None:
    eclipse, stock = write_eclipse(tmp_path / "eclipse", **TINY), write_pipeline(tmp_path / "stock", **TINY) / "prior"
    for folder in (eclipse, stock):
        tensors = load_file(folder / WEIGHTS)
        tensors[key].view(-1)[3] = number
        save_file({name: value.half() for name, value in tensors.items()}, folder / WEIGHTS)
        assert command(["export", "--prior", str(folder), "--out", str(tmp_path / "out")]) == 2
        assert f"hold NaN or infinity: 1 of the {tensors[key].numel()} numbers of {key}" in capfd.readouterr().err
    run = make_run(tmp_path / "run", EclipsePrior, space(), **SMALL)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["state_dict"][f"prior.network.{key}"].view(-1)[3] = number
    torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    assert command(["sample", "--prior", str(run), "--prompt", '["a star"]', "--out", str(tmp_path / "out")]) == 2
    assert f"numbers of network.{key}" in capfd.readouterr().err
    with pytest.raises(ValueError, match=f"numbers of network.{key}"):
        EclipsePrior(space(), **SMALL, weights=str(run))


def test_statistics_that_are_no_numbers(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "stock", **TINY)
    tensors = load_file(folder / "prior" / WEIGHTS)
    save_file({**tensors, "clip_std": tensors["clip_std"] * float("nan")}, folder / "prior" / WEIGHTS)
    with pytest.raises(ValueError, match="numbers of clip_std"):
        open_saved(str(folder))


# bases that cannot be taken over


def refused(capfd: pytest.CaptureFixture[str], *args: str) -> str:
    assert command(list(args)) == 2
    return capfd.readouterr().err


@pytest.mark.parametrize("cls", [EclipsePrior, DiffusionPrior])
def test_a_base_that_lacks_a_part(tmp_path: Path, capfd: pytest.CaptureFixture[str], cls: type[Prior]) -> None:
    run = make_run(tmp_path / "run", cls, space(), **SMALL)
    base = write_base(tmp_path / "base", 16)
    words = ["export", "--prior", str(run), "--out", str(tmp_path / "out"), "--base", str(base)]
    (base / "tokenizer" / "vocab.json").unlink()
    assert "has no tokenizer/, which its model_index.json names" in refused(capfd, *words)
    index = json.loads((base / "model_index.json").read_text())
    if cls is EclipsePrior:
        for tokenizer in ([None, None], None):
            (base / "model_index.json").write_text(json.dumps({**index, "tokenizer": tokenizer}))
            assert "is a KandinskyV22PriorPipeline, which has no tokenizer" in refused(capfd, *words)
    assert not (tmp_path / "out").exists()


def test_a_base_on_the_hub_whose_weights_are_pickles(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, base = make_run(tmp_path / "run", DiffusionPrior, space(), **SMALL), write_base(tmp_path / "base", 16)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **options: str(base))
    words = ["export", "--prior", str(run), "--out", str(tmp_path / "out"), "--base", "owner/name"]
    assert "--base owner/name has no safetensors of text_encoder/, and pickles are not fetched" in refused(capfd, *words)
    (base / "text_encoder" / "model.safetensors").touch()
    assert command(words) == 0


def test_a_base_that_diffusers_no_longer_loads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, base = make_run(tmp_path / "run", DiffusionPrior, space(), **SMALL), write_base(tmp_path / "base", 16)
    index = json.loads((base / "model_index.json").read_text())
    (base / "text_proj").mkdir()
    (base / "text_proj" / "config.json").write_text("{}")
    (base / "model_index.json").write_text(json.dumps({**index, "text_proj": ["no_module", "UnCLIPTextProjModel"]}))
    assert command(["export", "--prior", str(run), "--out", str(tmp_path / "out"), "--base", str(base)]) == 0
    assert "has moved the module 'no_module' of text_proj/" in capfd.readouterr().err


class Sharper(DiffusionPrior):
    """Samples in its own way."""

    def sample(self, text: TextCondition, generator: Any = None) -> torch.Tensor:
        return 2 * super().sample(text, generator)


class OtherLoss(EclipsePrior):
    """Trains in its own way, and samples as every other."""

    def losses(self, batch: EmbeddingBatch) -> dict[str, torch.Tensor]:
        return {"total": 2 * super().losses(batch)["total"]}


def test_subclasses_are_exported_where_they_sample_alike(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "sharper", Sharper, space(), **SMALL)
    said = refused(capfd, "export", "--prior", str(run), "--out", str(tmp_path / "out"))
    assert "is a Sharper, whose sample is not that of DiffusionPrior" in said
    run, base = make_run(tmp_path / "loss", OtherLoss, space(), **SMALL), write_base(tmp_path / "base", 16)
    assert command(["export", "--prior", str(run), "--out", str(tmp_path / "out"), "--base", str(base)]) == 0


def test_a_run_without_a_config_names_no_shards(tmp_path: Path) -> None:
    """Its checkpoint was called a YAML that is damaged."""
    run = make_run(tmp_path / "run", LinearPrior, make_space())
    (run / "config.yaml").unlink()
    with pytest.raises(ValueError, match=r"was trained without the command line, so there is no config\.yaml that names"):
        SavedRun(run / "checkpoints" / "last.ckpt").data_folder  # noqa: B018


def test_the_changes_of_lora_read_no_encoder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--prior", "none", "--lora", "true", "--encoder", "WorldEncoder", "--out", str(tmp_path / "out")]
    assert command(["export", *words]) == 2
    assert "--lora writes the changes alone, and reads no --encoder: leave one of them out." in capfd.readouterr().err


def test_a_run_is_not_imported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", EclipsePrior, space(), **SMALL)
    assert "is a run already" in refused(capfd, "import", "--weights", str(run), "--data", "x", "--experiment", "x")
