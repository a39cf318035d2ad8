"""Write a prior as a folder that diffusers, ECLIPSE's code and `read_released` read."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from eclipse_pl.files import atomic_path
from eclipse_pl.priors.diffusion import DiffusionPrior
from eclipse_pl.priors.direct import DirectPrior
from eclipse_pl.priors.flow import FlowPrior
from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.priors.released import PLAIN, PREDICTION, RULE, SPACE, WEIGHTS


def write_released(prior: DirectPrior | DiffusionPrior | FlowPrior, folder: Path) -> None:
    """Write the network as a folder that `read_released` reads. diffusers reads the folder of a diffusion prior.

    An ECLIPSE prior's statistics and fixed noise are folded into its last and first projection. The written network then
    predicts raw embeddings from Gaussian noise, as the published ones do.
    """
    from safetensors.torch import save_file

    network = prior.network
    remedy = "Use the run as it is: `load_prior(RUN).sample(TextCondition.pooled(conditions))`."
    prior.space.require_captions("A pipeline of diffusers", remedy)
    if not isinstance(network, PriorNetwork):
        raise ValueError(
            f"{type(prior).__name__} has no prior transformer. Only a prior transformer can be exported for diffusers."
        )
    dim, width = network.proj_in.in_features, network.encoder_hidden_states_proj.in_features
    if dim != width:
        raise ValueError(
            f"diffusers' PriorTransformer has one width for embeddings and token states, but this space has {dim} and {width}."
        )
    if isinstance(prior, FlowPrior) and prior.source == "text":
        raise ValueError(
            "diffusers' PriorTransformer has no network for the source of a flow that begins at the caption. Use the run as "
            "it is: `load_prior(RUN)`."
        )
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in network.state_dict().items()}
    if isinstance(prior, DirectPrior):
        fold_in(prior, tensors)
    elif network.whitening is not None:
        raise ValueError(
            "diffusers' PriorTransformer holds a mean and a standard deviation, and this prior denoises whitened embeddings. "
            "Train it with standardise: diagonal to export it."
        )
    config = {
        "_class_name": "PriorTransformer",
        "_diffusers_version": version("diffusers"),
        "additional_embeddings": network.extra_tokens,
        "attention_head_dim": network.proj_in.out_features // network.heads,
        "embedding_dim": dim,
        "num_attention_heads": network.heads,
        "num_embeddings": network.context_length,
        "num_layers": len(network.transformer_blocks),
        "clip_embed_dim": None,
        "embedding_proj_dim": None,
        "time_embed_dim": None,
        **PLAIN,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / WEIGHTS) as partial:
        save_file(tensors, partial, {"format": "pt"})
    prior.space.save(folder / SPACE)
    if not isinstance(prior, DirectPrior):
        (folder / RULE).write_text(json.dumps(rule_of(prior), indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def rule_of(prior: DiffusionPrior | FlowPrior) -> dict[str, Any]:
    """The arguments of training and sampling. Neither the weights nor config.json hold them."""
    shared = {"condition_dropout": prior.condition_dropout, "clamp": prior.clamp}
    if isinstance(prior, DiffusionPrior):
        return {**prior.trained_for, **prior.sampling, **shared, "spacing": prior.spacing}
    # a flow that can be exported begins at noise
    rule = {name: value for name, value in prior.trained_for.items() if name != "source"}
    return {**rule, **prior.sampling, **shared, "sigma": prior.sigma_distribution, "shift": prior.path.shift}


def fold_in(prior: DirectPrior, tensors: dict[str, Tensor]) -> None:
    mean, std = tensors["clip_mean"][0], tensors["clip_std"][0]
    if prior.network.whitening is not None:
        tensors.pop("whitening")
        unwhitening = tensors.pop("unwhitening")  # symmetric
        tensors["proj_to_clip_embeddings.weight"] = unwhitening @ tensors["proj_to_clip_embeddings.weight"]
        tensors["proj_to_clip_embeddings.bias"] = unwhitening @ tensors["proj_to_clip_embeddings.bias"]
    tensors["proj_to_clip_embeddings.weight"] *= std[:, None]
    tensors["proj_to_clip_embeddings.bias"].mul_(std).add_(mean)
    tensors["clip_mean"].zero_()
    tensors["clip_std"].fill_(1)
    if prior.noise != "gaussian":
        if prior.learned_noise is not None:
            tensors["proj_in.bias"] += tensors["proj_in.weight"] @ prior.learned_noise.detach().cpu()
        tensors["proj_in.weight"].zero_()


def scheduler_config(prior: DiffusionPrior | FlowPrior) -> dict[str, Any]:
    """Config of the ``UnCLIPScheduler`` of this prior, for Kandinsky's and Karlo's pipelines.

    A FlowPrior with x0 and the cosine schedule is trained on what a diffusion prior is trained on, but for the weight of each
    noise level, so they can sample it.
    """
    words = {ours: theirs for theirs, ours in PREDICTION.items()}
    rule = prior.trained_for
    prediction, schedule = str(rule["prediction"]), rule["schedule"]
    if schedule != "cosine" or prediction not in ("x0", "eps"):
        raise ValueError(
            "Kandinsky's and Karlo's pipelines sample with UnCLIPScheduler, which has the cosine schedule and the predictions "
            f"x0 and eps. This prior has {schedule} and {prediction}."
        )
    return {
        "_class_name": "UnCLIPScheduler",
        "_diffusers_version": version("diffusers"),
        "clip_sample": prior.clamp is not None,
        "clip_sample_range": prior.clamp or 1.0,
        "num_train_timesteps": rule["num_train_timesteps"],
        "prediction_type": words[prediction],
        "variance_type": "fixed_small_log",
    }
