"""A small open_clip model with CLIP's tokenizer and context and random weights, as a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def write_open_clip(folder: Path, embed_dim: int = 16, **config: Any) -> Path:
    """Write the model and return its folder, which `local-dir:FOLDER` names."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2, **config.pop("text_cfg", {})}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    return write_weights(folder, {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text, **config})


def write_weights(folder: Path, model_config: dict[str, Any]) -> Path:
    """Write the config and random weights of its model."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # biases and norms too, so that a wrong place would show
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def tiny_config(model: str) -> dict[str, Any]:
    """The config of an open_clip model with narrow towers of few layers. All that decides how it computes is kept."""
    import open_clip

    config = open_clip.get_model_config(model)
    text, vision = config["text_cfg"], config["vision_cfg"]
    equal_widths = config["embed_dim"] == text["width"]
    config["text_cfg"] = {**text, "width": 32, "heads": 2, "layers": 2}
    if "hf_tokenizer_name" in text:
        config["text_cfg"] |= {"hf_tokenizer_name": "tiny", "vocab_size": 64}
    if "timm_model_name" in vision:
        kind = "test_convnext" if vision["timm_model_name"].startswith("convnext") else "test_vit"
        config["vision_cfg"] = {**vision, "timm_model_name": kind, "image_size": 160}
        equal_widths = vision["timm_proj"] is not None and equal_widths
    elif isinstance(vision["layers"], list):
        config["vision_cfg"] = {**vision, "layers": [1, 1, 1, 1], "width": 16, "image_size": 32}
    else:
        config["vision_cfg"] = {**vision, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    return {**config, "embed_dim": 32 if equal_widths else 64}
