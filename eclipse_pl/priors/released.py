"""Released priors: folders as diffusers' ``PriorTransformer`` and ECLIPSE's authors publish them, and our networks in them.

config.json and diffusion_pytorch_model.safetensors; in a whole pipeline the scheduler's config beside them. ECLIPSE's
folders name the same class but hold no time token (``additional_embeddings`` 3), so that diffusers itself cannot run them;
they predict raw embeddings, and their ``clip_mean`` and ``clip_std`` are zeros that nothing reads (eclipse-inference).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.model_folder import find_model_folder, find_weights, read_config
from eclipse_pl.priors.diffusion import DiffusionPrior
from eclipse_pl.priors.direct import DirectPrior
from eclipse_pl.priors.network import PriorNetwork

WEIGHTS = "diffusion_pytorch_model.safetensors"
SPACE = "space.safetensors"
"""Beside the weights of what we export: which CLIP they belong to. Nobody else reads it."""
PLAIN = {
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
    "time_embed_act_fn": "silu",
    "dropout": 0.0,
}
"""What every published text-to-image prior has of ``PriorTransformer``'s options."""
SIZES = {"num_layers": 20, "num_attention_heads": 32, "attention_head_dim": 64, "embedding_dim": 768, "num_embeddings": 77}
"""``PriorTransformer``'s defaults: published configs leave some of them out."""
PREDICTION = {"sample": "x0", "epsilon": "eps"}
"""diffusers' words for what a network says, which ``UnCLIPScheduler`` knows."""


@dataclass(frozen=True, eq=False)
class ReleasedPrior:
    """One released prior, by diffusers' names."""

    source: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    scheduler: dict[str, Any] | None = None
    """None for a folder of the network alone."""
    space: ClipSpace | None = None
    """Known where `export` wrote the folder."""

    @property
    def is_diffusion(self) -> bool:
        return "time_embedding.linear_1.weight" in self.tensors

    def size(self, name: str) -> int:
        return int(self.config.get(name) or SIZES[name])

    @property
    def init_args(self) -> dict[str, Any]:
        """Arguments of the EclipsePrior or DiffusionPrior that these weights fill."""
        sizes = {name: self.size(name) for name in ("num_layers", "num_attention_heads", "attention_head_dim")}
        if not self.is_diffusion or self.scheduler is None:
            return sizes
        clip = self.scheduler.get("clip_sample", True)
        return sizes | {
            "num_train_timesteps": self.scheduler.get("num_train_timesteps", 1000),
            "prediction": prediction_of(self.scheduler, self.source),
            "clamp": float(self.scheduler.get("clip_sample_range", 1.0)) if clip else None,
        }

    def load_into(self, network: PriorNetwork) -> None:
        """Fill a network of the same sizes.

        Raises:
            ValueError: other keys or shapes, naming them; or a diffusion prior whose statistics are zero.
        """
        tensors = dict(self.tensors)
        mean, std = (tensors.pop(name, None) for name in ("clip_mean", "clip_std"))
        ours = {key: value for key, value in network.state_dict().items() if key not in ("clip_mean", "clip_std")}
        if (network.time_embedding is not None) != self.is_diffusion:
            raise ValueError(
                f"{self.source} holds {'a diffusion prior' if self.is_diffusion else 'an ECLIPSE prior, without time token'}: "
                f"take it into {'DiffusionPrior' if self.is_diffusion else 'EclipsePrior'}."
            )
        require_same_weights(ours, tensors, f"The weights {self.source}")
        with torch.no_grad():
            network.load_state_dict(tensors, strict=False)
            if self.is_diffusion:
                if mean is None or std is None or not bool((std > 0).all()):
                    what = "no clip_mean and clip_std" if mean is None or std is None else "a clip_std that is zero"
                    raise ValueError(
                        f"{self.source} has {what}: its embeddings could not be made raw again, and every sample would be the "
                        "same. A prior trained on raw embeddings says so with clip_mean 0 and clip_std 1: fill them in first."
                    )
                network.set_statistics(mean[0].float(), std[0].float())
            else:
                network.clip_mean.zero_()
                network.clip_std.fill_(1)


def read_released(source: str) -> ReleasedPrior:
    """Read a folder or hub id: the network's own folder, or a pipeline that holds it as ``prior``.

    Raises:
        ValueError: it is missing, damaged, a pickle, or another kind of model, each in one sentence.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    root = find_model_folder(source, ["*.json", "prior/*.safetensors", "*.safetensors"])
    pipeline = (root / "model_index.json").is_file()
    if pipeline and not (root / "prior").is_dir():
        raise ValueError(
            f"{source} is a pipeline without a prior ({read_config(root, 'model_index.json').get('_class_name')})."
        )
    folder = root / "prior" if pipeline else root
    config = read_config(folder)
    if config.get("_class_name") != "PriorTransformer":
        raise ValueError(
            f"{folder} holds a {config.get('_class_name')}, not a PriorTransformer, which all released priors are."
        )
    other = {name: config[name] for name, value in PLAIN.items() if config.get(name, value) != value}
    other |= {
        n: config[n] for n in ("embedding_proj_dim", "clip_embed_dim") if config.get(n) not in (None, config["embedding_dim"])
    }
    if other:
        raise ValueError(f"{folder} is a PriorTransformer of another kind than text-to-image priors are: {other}.")
    tensors: dict[str, Tensor] = {}
    for path in find_weights(folder):
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}). Fetch it again.") from error
    schedulers = [root / name for name in ("prior_scheduler", "scheduler") if pipeline and (root / name).is_dir()]
    scheduler = read_config(schedulers[0], "scheduler_config.json") if schedulers else None
    space = ClipSpace.load(folder / SPACE) if (folder / SPACE).is_file() else None
    return ReleasedPrior(source, config, {key: value.float() for key, value in tensors.items()}, scheduler, space)


def prediction_of(scheduler: dict[str, Any], source: str) -> str:
    word = scheduler.get("prediction_type", "epsilon")
    if word not in PREDICTION:
        raise ValueError(
            f"The scheduler of {source} has prediction_type {word!r}; released priors have {', '.join(PREDICTION)}."
        )
    return PREDICTION[word]


def write_released(prior: DirectPrior | DiffusionPrior, folder: Path) -> None:
    """Write the network as a folder that `read_released` reads, and diffusers where the prior is a diffusion prior.

    An ECLIPSE prior's statistics and fixed noise are folded into its last and first projection, so that its folder predicts
    raw embeddings from Gaussian noise, as the published ones do.
    """
    from safetensors.torch import save_file

    network = prior.network
    if not isinstance(network, PriorNetwork):
        raise ValueError(f"{type(prior).__name__} has no prior transformer, and only that has a place in diffusers' folders.")
    dim, width = network.proj_in.in_features, network.encoder_hidden_states_proj.in_features
    if dim != width:
        raise ValueError(
            f"diffusers' PriorTransformer has one width for embeddings and token states, and this space has {dim} and {width}."
        )
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in network.state_dict().items()}
    if isinstance(prior, DirectPrior):
        fold_in(prior, tensors)
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
    partial = folder / f"{WEIGHTS}.part"
    save_file(tensors, partial, {"format": "pt"})
    os.replace(partial, folder / WEIGHTS)
    prior.space.save(folder / SPACE)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def fold_in(prior: DirectPrior, tensors: dict[str, Tensor]) -> None:
    mean, std = tensors["clip_mean"][0], tensors["clip_std"][0]
    tensors["proj_to_clip_embeddings.weight"] *= std[:, None]
    tensors["proj_to_clip_embeddings.bias"].mul_(std).add_(mean)
    tensors["clip_mean"].zero_()
    tensors["clip_std"].fill_(1)
    if prior.noise != "gaussian":
        if prior.learned_noise is not None:
            tensors["proj_in.bias"] += tensors["proj_in.weight"] @ prior.learned_noise.detach().cpu()
        tensors["proj_in.weight"].zero_()


def scheduler_config(prior: DiffusionPrior) -> dict[str, Any]:
    """``UnCLIPScheduler`` of this prior, which Kandinsky's and Karlo's pipelines sample with."""
    words = {ours: theirs for theirs, ours in PREDICTION.items()}
    prediction = prior.schedule.prediction
    if prior.schedule.curve != "cosine" or prediction not in words:
        raise ValueError(
            "Kandinsky's and Karlo's pipelines sample with UnCLIPScheduler, which knows the cosine schedule and predictions "
            f"x0 and eps; this prior has {prior.schedule.curve} and {prediction}. Train it so, or export it without --base."
        )
    return {
        "_class_name": "UnCLIPScheduler",
        "_diffusers_version": version("diffusers"),
        "clip_sample": prior.clamp is not None,
        "clip_sample_range": prior.clamp or 1.0,
        "num_train_timesteps": prior.schedule.steps,
        "prediction_type": words[prediction],
        "variance_type": "fixed_small_log",
    }


def require_same_weights(ours: dict[str, Tensor], theirs: dict[str, Tensor], name: str) -> None:
    """Raise ValueError, naming keys, unless ``theirs`` (of ``name``) fill exactly the tensors of ``ours``."""
    missing = sorted(ours.keys() - theirs.keys())
    unknown = sorted(theirs.keys() - ours.keys())
    reshaped = sorted(key for key in ours.keys() & theirs.keys() if ours[key].shape != theirs[key].shape)
    parts = [
        f"{len(keys)} {what}, such as {keys[0]}"
        for what, keys in (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
        if keys
    ]
    if reshaped:
        parts[-1] += f" ({tuple(theirs[reshaped[0]].shape)} instead of {tuple(ours[reshaped[0]].shape)})"
    if parts:
        raise ValueError(
            f"{name} belong to another architecture than the prior in the config: weights {'; '.join(parts)}. Use the sizes "
            "that they were trained with (config.yaml in a run's folder, config.json in a released one)."
        )
