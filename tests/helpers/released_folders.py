"""Folders exactly as they were published: made from diffusers' own class, never by our writer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import PriorTransformer
from safetensors.torch import save_file

# config.json of ECLIPSE-Community/ECLIPSE_Karlo_Prior, and of the Kandinsky 2.2 one with 1280 for 768
ECLIPSE_CONFIG = {
    "_class_name": "PriorTransformer",
    "_diffusers_version": "0.20.2",
    "added_emb_type": "prd",
    "additional_embeddings": 3,
    "attention_head_dim": 32,
    "clip_embed_dim": None,
    "dropout": 0.0,
    "embedding_dim": 768,
    "embedding_proj_dim": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "norm_in_type": None,
    "num_attention_heads": 16,
    "num_embeddings": 77,
    "num_layers": 10,
}
# kakaobrain/karlo-v1-alpha and kandinsky-community/kandinsky-2-2-prior (1280): 1 billion parameters
STOCK_CONFIG = {
    "_class_name": "PriorTransformer",
    "additional_embeddings": 4,
    "attention_head_dim": 64,
    "dropout": 0.0,
    "embedding_dim": 768,
    "num_attention_heads": 32,
    "num_embeddings": 77,
    "num_layers": 20,
}
KANDINSKY_SCHEDULER = {
    "_class_name": "UnCLIPScheduler",
    "clip_sample": True,
    "clip_sample_range": 10.0,
    "num_train_timesteps": 1000,
    "prediction_type": "sample",
    "variance_type": "fixed_small_log",
}
TINY = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "embedding_dim": 16}


def reference_network(config: dict[str, Any]) -> PriorTransformer:
    """diffusers' class of this config, random everywhere."""
    network = PriorTransformer(**{key: value for key, value in config.items() if not key.startswith("_")})
    draw = torch.Generator().manual_seed(0)
    for name in ("positional_embedding", "prd_embedding"):
        torch.nn.init.normal_(getattr(network, name), std=0.3, generator=draw)
    return network


def write_eclipse(folder: Path, **changes: Any) -> Path:
    """An ECLIPSE prior: diffusers' class without its time embedding, clip_mean and clip_std zero."""
    config = {**ECLIPSE_CONFIG, **changes}
    state = reference_network(config).state_dict()
    write(folder, config, {key: value for key, value in state.items() if not key.startswith("time_embedding.")})
    return folder


def write_stock(folder: Path, **changes: Any) -> Path:
    """A diffusion prior with statistics."""
    config = {**STOCK_CONFIG, **changes}
    state = reference_network(config).state_dict()
    draw = torch.Generator().manual_seed(1)
    dim = config["embedding_dim"]
    state |= {
        "clip_mean": torch.randn(1, dim, generator=draw),
        "clip_std": torch.rand(1, dim, generator=draw) + 0.5,
    }
    write(folder, config, state)
    return folder


def write_pipeline(folder: Path, **changes: Any) -> Path:
    """kandinsky-community/kandinsky-2-2-prior as far as a prior is concerned."""
    write_stock(folder / "prior", **changes)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(KANDINSKY_SCHEDULER))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyV22PriorPipeline"}))
    return folder


def write(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "diffusion_pytorch_model.safetensors")
