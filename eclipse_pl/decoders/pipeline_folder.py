"""A diffusers pipeline as a folder or a hub id: found, checked, its parts loaded. Safetensors only, and no code from it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
CONFIGS, WEIGHTS = ("*.json", "*.txt"), ("*.safetensors",)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def find_pipeline(model: str, classes: Sequence[str], parts: Sequence[str], weights: bool = True) -> Path:
    """The folder of a published pipeline; from the hub it is downloaded, without ``weights`` its configs alone.

    Raises:
        ValueError: where there is no such folder or hub id, it holds a pipeline of another class than ``classes``, it lacks
            one of ``parts``, or it has weights as pickles only.
    """
    folder = Path(model).expanduser()
    local = folder.is_dir()
    folder = folder if local else _download(model, CONFIGS + WEIGHTS * weights)
    index = read_json(folder / "model_index.json", "A pipeline's folder")
    if index.get("_class_name") not in classes:
        raise ValueError(
            f"{model} is a {index.get('_class_name')}, and this decoder paints with {' or '.join(classes)}. Take the decoder "
            "class of that pipeline: KandinskyDecoder, UnclipDecoder or StableUnclipDecoder."
        )
    for part in parts:
        files = {path.suffix for path in (folder / part).glob("*")}
        if not files:
            raise ValueError(f"{model} has no {part}/, which a {index['_class_name']} needs. Take the whole folder.")
        if (local or weights) and files & set(PICKLES) and ".safetensors" not in files:
            raise ValueError(
                f"{model} has the weights of {part}/ as a pickle only, and a pickle can run code when it is read. If you "
                "trust where it comes from, convert it once: python -c 'from diffusers import DiffusionPipeline as P; "
                f'P.from_pretrained("{model}", use_safetensors=False).save_pretrained("converted")\'. Then take `converted`.'
            )
    return folder


def is_on_hub(model: str) -> bool:
    """True for what is no folder here and has the form of a hub id."""
    return not Path(model).expanduser().is_dir() and _HUB_ID.fullmatch(model) is not None


def read_json(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"There is no {path}. {what} has a {path.name}, as diffusers' `save_pretrained` writes it.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}). Copy or download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no configuration. Copy or download it again.")
    return content


def load_part(kind: Any, folder: Path, part: str, **options: Any) -> Any:
    """One component, by its own ``from_pretrained`` with ``options``; ValueError where it does not load."""
    try:
        return kind.from_pretrained(folder / part, local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{folder / part} does not load as {kind.__name__} ({reason}). Take a folder as diffusers' `save_pretrained` "
            "writes it, with safetensors."
        ) from error


def load_scheduler(folder: Path, part: str) -> Any:
    """The folder's own scheduler, if it is one of diffusers'."""
    import diffusers

    name = read_json(folder / part / "scheduler_config.json", "A scheduler's folder").get("_class_name", "")
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ValueError(f"{folder / part} names the scheduler {name!r}, which diffusers {diffusers.__version__} has not.")
    return load_part(kind, folder, part)


def _download(model: str, patterns: Sequence[str]) -> Path:
    if not is_on_hub(model):
        path = Path(model).expanduser()
        beside = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        near = [str(path.parent / name) for name in get_close_matches(path.name, beside, n=3, cutoff=0.5)]
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"There is no folder {model}.{hint} A decoder is a pipeline's folder or a hub id, OWNER/NAME.")
    from huggingface_hub import snapshot_download

    try:
        # One file a weight: the half-precision copies that a repository may hold beside it stay there.
        return Path(snapshot_download(model, allow_patterns=list(patterns), ignore_patterns=["*.fp16.*", "*.non_ema.*"]))
    except Exception as error:  # the hub's client raises its own kinds, for the network, the name and the disk
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{model} is no folder here, and could not be had from the hub ({reason}). Check the name, connect this machine "
            "once, or give a local folder."
        ) from error
