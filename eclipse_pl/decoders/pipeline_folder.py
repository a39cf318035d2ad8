"""A diffusers pipeline as a folder or a hub id: found, checked, its parts loaded. Safetensors only, and no code from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eclipse_pl.model_folder import HUB_ID, PICKLES, find_model_folder, read_config, sha256_of_all

CONFIGS, WEIGHTS = ("*.json", "*.txt"), ("*.safetensors",)


def find_pipeline(model: str, classes: Sequence[str], parts: Sequence[str], weights: bool = True) -> Path:
    """The folder of a published pipeline; from the hub it is downloaded, without ``weights`` its configs alone.

    Raises:
        ValueError: where there is no such folder or hub id, it holds a pipeline of another class than ``classes``, it lacks
            one of ``parts``, or it has weights as pickles only.
    """
    local = Path(model).expanduser().is_dir()
    # One file a weight: the half-precision copies that a repository may hold beside it stay there.
    folder = find_model_folder(model, CONFIGS + WEIGHTS * weights, ignored=("*.fp16.*", "*.non_ema.*"))
    index = read_config(folder, "model_index.json")
    if index.get("_class_name") not in classes:
        raise ValueError(
            f"{model} is a {index.get('_class_name')}, and this decoder needs a {' or '.join(classes)}. Take the decoder "
            "class of that pipeline: KandinskyDecoder, UnclipDecoder or StableUnclipDecoder."
        )
    for part in parts:
        files = {f"*{path.suffix}" for path in (folder / part).glob("*")}
        if not files:
            raise ValueError(f"{model} has no {part}/, which a {index['_class_name']} needs. Take the whole folder.")
        if (local or weights) and files & set(PICKLES) and "*.safetensors" not in files:
            raise ValueError(
                f"{model} has the weights of {part}/ as a pickle only, and a pickle can run code when it is read. If you "
                "trust where it comes from, convert it once: python -c 'from diffusers import DiffusionPipeline as P; "
                f'P.from_pretrained("{model}", use_safetensors=False).save_pretrained("converted")\'. Then take `converted`.'
            )
    return folder


def pipeline_hash(folder: Path, parts: Sequence[str]) -> str:
    """16 digits that name the weights and configurations of a pipeline's ``parts``."""
    files = [file for part in parts for pattern in (*CONFIGS, *WEIGHTS) for file in sorted((folder / part).glob(pattern))]
    return sha256_of_all(files)


def is_on_hub(model: str) -> bool:
    """True for what is no folder here and has the form of a hub id."""
    return not Path(model).expanduser().is_dir() and HUB_ID.fullmatch(model) is not None


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

    name = read_config(folder / part, "scheduler_config.json").get("_class_name", "")
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ValueError(f"{folder / part} names the scheduler {name!r}, which diffusers {diffusers.__version__} has not.")
    return load_part(kind, folder, part)
