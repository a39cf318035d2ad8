"""Released priors: folders of exactly the published configuration, read, filled in and written back, key by key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PriorTransformer
from safetensors.torch import load_file, save_file

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.priors import DiffusionPrior, EclipsePrior, LinearPrior, MLPPrior, PriorNetwork
from eclipse_pl.priors.released import read_released
from eclipse_pl.priors.write_released import scheduler_config, write_released
from tests.helpers.released_folders import ECLIPSE_CONFIG, TINY, reference_network, write_eclipse, write_pipeline, write_stock
from tests.helpers.shard_sets import make_space
from tests.test_network import captions, with_time, without_time

SMALL = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def space(dim: int = 16) -> ClipSpace:
    root = torch.randn(dim, dim, generator=torch.Generator().manual_seed(2))
    covariance = root @ root.T / dim + torch.eye(dim) / 4
    return replace(
        make_space(dim, dim), image_mean=torch.ones(dim), image_std=torch.full((dim,), 2.0), image_covariance=covariance
    )


@pytest.mark.long
@pytest.mark.parametrize(("dim", "count"), [(768, 33_143_040), (1280, 34_193_152)], ids=["Karlo", "Kandinsky"])
def test_eclipse_of_the_published_size_there_and_back(tmp_path: Path, dim: int, count: int) -> None:
    folder = write_eclipse(tmp_path / "published", embedding_dim=dim)
    published = load_file(folder / "diffusion_pytorch_model.safetensors")
    assert sum(value.numel() for value in published.values()) == count
    prior = EclipsePrior(space(dim), weights=str(folder))
    write_released(prior, tmp_path / "written")
    written = load_file(tmp_path / "written" / "diffusion_pytorch_model.safetensors")
    assert written.keys() == published.keys()
    for key, value in published.items():
        # the one thing that differs: published zeros would mean "every embedding is zero" to whoever reads them
        assert torch.equal(written[key], torch.ones_like(value) if key == "clip_std" else value), key
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("published", "written"))
    assert {key: after[key] for key in before if key != "_diffusers_version"} == {
        key: value for key, value in before.items() if key != "_diffusers_version"
    }


def test_eclipse_predicts_what_its_authors_code_predicts(tmp_path: Path) -> None:
    folder = write_eclipse(tmp_path / "eclipse", **TINY)
    reference = reference_network({**ECLIPSE_CONFIG, **TINY})
    reference.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"), strict=False)
    prior = EclipsePrior(space(), **SMALL, weights=str(folder))
    text, noise = captions([3, 77, 12], 16), torch.randn(3, 16, generator=torch.Generator().manual_seed(5))
    expected = without_time(reference, noise, text, None)
    torch.testing.assert_close(prior.sample(text, torch.Generator().manual_seed(5)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dim", [768, 1280], ids=["Karlo", "Kandinsky"])
def test_the_billion_parameters_have_the_same_keys_and_shapes(dim: int) -> None:
    with torch.device("meta"):
        reference = PriorTransformer(32, 64, 20, dim)
        ours = PriorNetwork(dim, dim, 77, 20, 32, 64, time_embedding=True)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in reference.state_dict().items()}
    assert sum(value.numel() for value in ours.state_dict().values()) > 1_020_000_000


def test_diffusion_prior_there_and_into_diffusers(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "kandinsky", **TINY)
    released = read_released(str(folder))
    assert released.is_diffusion
    assert released.init_args == {
        **SMALL, "num_train_timesteps": 1000, "prediction": "x0", "schedule": "cosine", "clamp": 10.0
    }  # fmt: skip
    prior = DiffusionPrior(space(), **released.init_args, weights=str(folder))
    assert torch.equal(prior.network.clip_std, released.tensors["clip_std"]), "the weights' own statistics, not the shards'"
    write_released(prior, tmp_path / "written")
    loaded = PriorTransformer.from_pretrained(tmp_path / "written")
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, released.tensors[key]), key
    text, noise, time = captions([3, 77, 12], 16), torch.randn(3, 16), torch.tensor([0, 500, 999])
    with torch.no_grad():
        torch.testing.assert_close(prior.network(noise, text, time), with_time(loaded, noise, text, time), atol=1e-5, rtol=0)
        torch.testing.assert_close(prior.network.raw(noise), loaded.post_process_latents(noise))
    assert scheduler_config(prior)["clip_sample_range"] == 10.0


@pytest.mark.parametrize("noise", ["gaussian", "zero", "learned"])
@pytest.mark.parametrize("standardise", ["none", "diagonal", "full"])
def test_what_diffusers_layout_cannot_say_is_folded_into_the_weights(tmp_path: Path, noise: Any, standardise: Any) -> None:
    torch.manual_seed(0)
    prior = EclipsePrior(space(), **SMALL, noise=noise, standardise=standardise)
    if prior.learned_noise is not None:
        torch.nn.init.normal_(prior.learned_noise)
    write_released(prior, tmp_path / "written")
    again = EclipsePrior(space(), **SMALL, weights=str(tmp_path / "written"))
    text = captions([3, 9], 16)
    expected, sampled = (one.sample(text, torch.Generator().manual_seed(3)) for one in (prior, again))
    torch.testing.assert_close(sampled, expected, atol=1e-5, rtol=0)


def test_half_precision_and_shards_of_weights(tmp_path: Path) -> None:
    folder = write_eclipse(tmp_path / "half", **TINY)
    whole = folder / "diffusion_pytorch_model.safetensors"
    state = {key: value.half() for key, value in load_file(whole).items()}
    whole.unlink()
    save_file(state, folder / "diffusion_pytorch_model.fp16.safetensors")
    assert read_released(str(folder)).tensors["proj_in.bias"].dtype == torch.float32
    (folder / "diffusion_pytorch_model.fp16.safetensors").unlink()
    keys = sorted(state)
    parts = {"a.safetensors": keys[:10], "b.safetensors": keys[10:]}
    for name, part in parts.items():
        save_file({key: state[key] for key in part}, folder / name)
    index = {"weight_map": {key: name for name, part in parts.items() for key in part}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    EclipsePrior(space(), **SMALL, weights=str(folder))
    (folder / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks b\.safetensors"):
        read_released(str(folder))


# mistakes


def test_another_architecture_names_its_keys(tmp_path: Path) -> None:
    eclipse, stock = write_eclipse(tmp_path / "eclipse", **TINY), write_stock(tmp_path / "stock", **TINY)
    with pytest.raises(ValueError, match=r"16 missing, such as transformer_blocks\.2\.attn1"):
        EclipsePrior(space(), **{**SMALL, "num_layers": 3}, weights=str(eclipse))
    with pytest.raises(ValueError, match=r"of another shape, such as .* instead of"):
        EclipsePrior(space(), **{**SMALL, "attention_head_dim": 16}, weights=str(eclipse))
    with pytest.raises(ValueError, match="of another shape"):
        EclipsePrior(space(24), **SMALL, weights=str(eclipse))
    with pytest.raises(ValueError, match="holds a diffusion prior: load it into DiffusionPrior or FlowPrior"):
        EclipsePrior(space(), **SMALL, weights=str(stock))
    with pytest.raises(ValueError, match="holds an ECLIPSE prior, without time token: load it into EclipsePrior"):
        DiffusionPrior(space(), **SMALL, weights=str(eclipse))
    for prior in (MLPPrior, LinearPrior):
        with pytest.raises(ValueError, match=f"{prior.__name__} has no prior transformer"):
            prior(space(), weights=str(eclipse))


def test_statistics_of_a_diffusion_prior_must_be_there(tmp_path: Path) -> None:
    folder = write_stock(tmp_path / "stock", **TINY)
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    save_file({**state, "clip_std": torch.zeros(1, 16)}, path)
    with pytest.raises(ValueError, match="has a clip_std that is zero: its output cannot be converted to raw embeddings"):
        DiffusionPrior(space(), **SMALL, weights=str(folder))
    save_file({key: value for key, value in state.items() if key != "clip_std"}, path)
    with pytest.raises(ValueError, match="has no clip_mean and clip_std"):
        DiffusionPrior(space(), **SMALL, weights=str(folder))


def test_standardise_must_agree_with_the_weights(tmp_path: Path) -> None:
    eclipse, stock = write_eclipse(tmp_path / "eclipse", **TINY), write_stock(tmp_path / "stock", **TINY)
    with pytest.raises(ValueError, match="predict raw embeddings: set the prior's standardise to none"):
        EclipsePrior(space(), **SMALL, standardise="diagonal", weights=str(eclipse))
    with pytest.raises(ValueError, match="predict standardised embeddings: set the prior's standardise to diagonal"):
        DiffusionPrior(space(), **SMALL, standardise="none", weights=str(stock))


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    folder = write_eclipse(tmp_path / "eclipse", **TINY)
    path = folder / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), folder / "diffusion_pytorch_model.bin")
    path.unlink()
    with pytest.raises(ValueError, match="as a pickle only") as refusal:
        read_released(str(folder))
    (line,) = [part for part in str(refusal.value).split('"') if part.startswith("import torch")]
    exec(line, {})
    EclipsePrior(space(), **SMALL, weights=str(folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "holds a UNet2DConditionModel, not a PriorTransformer"),
        (
            {"encoder_hid_proj_type": None},
            "is not a text-to-image prior: its PriorTransformer has {'encoder_hid_proj_type': None}",
        ),
        ({"clip_embed_dim": 8}, "is not a text-to-image prior"),
    ],
)
def test_another_kind_of_model(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    folder = write_eclipse(tmp_path / "eclipse", **TINY)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(ValueError, match=message):
        read_released(str(folder))


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    folder = write_eclipse(tmp_path / "eclipse", **TINY)
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged"):
        read_released(str(folder))
    path.unlink()
    with pytest.raises(ValueError, match=r"holds no diffusion_pytorch_model\.safetensors"):
        read_released(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_released(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        read_released(str(folder))
    with pytest.raises(ValueError, match=r"There is no folder .*eclipsee, and it is no hub id .* Near it: .*/eclipse\."):
        read_released(str(tmp_path / "eclipsee"))
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder" / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyV22Pipeline"}))
    with pytest.raises(ValueError, match=r"is a pipeline without a prior \(KandinskyV22Pipeline\)"):
        read_released(str(tmp_path / "decoder"))


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"could not be fetched from the hub .* Connect this machine once"):
        read_released("ECLIPSE-Community/ECLIPSE_Karlo_Prior")


def test_what_diffusers_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MLPPrior has no prior transformer"):
        write_released(MLPPrior(space(), num_layers=1, width=8), tmp_path)
    with pytest.raises(ValueError, match="one width for embeddings and token states, but this space has 16 and 6"):
        write_released(EclipsePrior(make_space(16, 6), **SMALL), tmp_path)
    with pytest.raises(ValueError, match="This prior has linear and x0"):
        scheduler_config(DiffusionPrior(space(), **SMALL, schedule="linear"))
    with pytest.raises(ValueError, match="This prior has cosine and v"):
        scheduler_config(DiffusionPrior(space(), **SMALL, prediction="v"))
