"""Models of open_clip, for encoders and scorers: by name and pretrained tag, by name and checkpoint file, or from a folder."""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from eclipse_pl.model_folder import read_config, sha256_of

LOCAL = "local-dir:"
CONFIG = "open_clip_config.json"


def load_open_clip(model: str, pretrained: str | None) -> tuple[Any, Any, str]:
    """The open_clip model, its tokenizer, and the tag that names its weights."""
    import open_clip

    options, tag = _find(model, pretrained)
    if model.startswith(LOCAL):
        model_config(model)  # open_clip's own errors do not name the file
        model = f"{LOCAL}{_local_dir(model)}"
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            built = open_clip.create_model(model, require_pretrained=pretrained != "random", **options)
        tokenizer = open_clip.get_tokenizer(model)
    except Exception as error:  # open_clip and its loaders raise many kinds of errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if tag.startswith("open_clip:") and pretrained in open_clip.list_pretrained_tags_by_model(model):
            raise ValueError(
                f"The weights of {model} with tag {pretrained!r} could not be downloaded ({reason}). Connect this machine "
                "once, or copy the checkpoint to this machine and pass its path as `pretrained`."
            ) from error
        raise ValueError(
            f"{model} could not be loaded with pretrained={pretrained!r} ({reason}). The checkpoint must hold all weights of "
            "exactly this model, as a safetensors file or a torch file that loads with weights_only=True."
        ) from error
    if pretrained == "random":
        tag += hashlib.sha256(b"".join(t.numpy().tobytes() for t in built.state_dict().values())).hexdigest()[:16]
    return built, tokenizer, tag


def open_clip_tag(model: str, pretrained: str | None) -> str:
    """The tag that names the weights, without loading them. For ``random`` weights it lacks their hash."""
    return _find(model, pretrained)[1]


def model_config(model: str) -> dict[str, Any]:
    """The config that open_clip builds the model from: ``embed_dim``, ``vision_cfg``, ``text_cfg`` and others.

    Raises:
        ValueError: There is no such model, or the config in its folder is damaged.
    """
    import open_clip

    if model.startswith(LOCAL):
        local_dir_tag(folder := _local_dir(model))
        config = read_config(folder, CONFIG).get("model_cfg")
        if not isinstance(config, dict):
            raise ValueError(f"{folder / CONFIG} holds no model_cfg, so it is no config of open_clip. Fetch it again.")
        return config
    _built_in(model, "random")
    return open_clip.get_model_config(model)


def local_dir_tag(folder: Path) -> str:
    """``ClipSpace.encoder`` of the model in a folder, without loading it."""
    weights = folder / "open_clip_model.safetensors"
    for file in (folder / CONFIG, weights):
        if not file.is_file():
            raise ValueError(
                f"There is no {file}. A `local-dir:` model is a folder with open_clip_config.json, "
                "open_clip_model.safetensors and its tokenizer files; `python -m data_prep world-models` writes one."
            )
    return f"open_clip:local-dir:sha256-{sha256_of(weights)}"


def _find(model: str, pretrained: str | None) -> tuple[dict[str, Any], str]:
    """Options of ``open_clip.create_model``, and the tag."""
    if model.startswith(LOCAL):
        return _folder(_local_dir(model), pretrained)
    return _built_in(model, pretrained)


def _local_dir(model: str) -> Path:
    """The folder that a ``local-dir:`` model names."""
    return Path(model.removeprefix(LOCAL)).expanduser()


def _folder(folder: Path, pretrained: str | None) -> tuple[dict[str, Any], str]:
    if pretrained is not None:
        raise ValueError(
            f"A `local-dir:` model holds its weights, so pretrained={pretrained!r} has no effect. Set it to null."
        )
    return {}, local_dir_tag(folder)


def _built_in(model: str, pretrained: str | None) -> tuple[dict[str, Any], str]:
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    if model not in open_clip.list_models():
        near = get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.4)
        raise ValueError(
            f"open_clip has no model {model!r}. {_near(near)}`open_clip.list_models()` lists all. Pass your own model as "
            "`local-dir:/folder`."
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained == "random":
        return {}, f"open_clip:{model}:random-sha256-"
    if pretrained in tags:
        wants, has = get_pretrained_cfg(model, pretrained).get("quick_gelu", False), open_clip.get_model_config(model)
        if has.get("quick_gelu", False) and not wants:
            raise ValueError(
                f"The weights {pretrained!r} were not trained with QuickGELU. Use model {model.removesuffix('-quickgelu')!r}."
            )
        # open_clip 3 only warns when OpenAI's weights meet the ordinary GELU; the embeddings are then slightly wrong.
        return {"pretrained": pretrained, "force_quick_gelu": wants}, f"open_clip:{model}:{pretrained}"
    if pretrained is not None and (checkpoint := Path(pretrained).expanduser()).is_file():
        return {"pretrained": str(checkpoint)}, f"open_clip:{model}:sha256-{sha256_of(checkpoint)}"
    what = (
        f"{pretrained!r} is neither a file nor a tag of {model}"
        if pretrained
        else "pretrained is null, so no weights are named"
    )
    near = get_close_matches(pretrained or "", tags, n=3, cutoff=0.4)
    raise ValueError(
        f"{what}. {_near(near)}Tags of {model}: {', '.join(tags) or 'none'}. A path to a checkpoint file works too, "
        "and pretrained='random' gives untrained weights."
    )


def _near(matches: list[str]) -> str:
    return f"Did you mean {' or '.join(matches)}? " if matches else ""
