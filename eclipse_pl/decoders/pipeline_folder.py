"""Find, check and load a diffusers pipeline by folder or hub id. Safetensors only; code of the folder is never run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eclipse_pl.model_folder import HUB_ID, PICKLES, find_model_folder, read_config, sha256_of_all

CONFIGS, WEIGHTS = ("*.json", "*.txt"), ("*.safetensors",)


def find_pipeline(model: str, classes: Sequence[str], parts: Sequence[str], weights: bool = True) -> Path:
    """Return the folder of a pipeline. A hub id is downloaded; without ``weights``, only its configs are.

    Raises:
        ValueError: There is no such folder or hub id, its pipeline class is not one of ``classes``, one of ``parts`` is
            missing, or its weights exist as pickles only.
    """
    local = Path(model).expanduser().is_dir()
    # The half-precision copies of a repository are not downloaded.
    folder = find_model_folder(model, CONFIGS + WEIGHTS * weights, ignored=("*.fp16.*", "*.non_ema.*"))
    index = read_config(folder, "model_index.json")
    if index.get("_class_name") not in classes:
        raise ValueError(
            f"{model} is a {index.get('_class_name')}, and this decoder needs a {' or '.join(classes)}. Use the decoder "
            "class of that pipeline: KandinskyDecoder, UnclipDecoder or StableUnclipDecoder."
        )
    for part in parts:
        files = {f"*{path.suffix}" for path in (folder / part).glob("*")}
        if not files:
            raise ValueError(f"{model} has no {part}/, which a {index['_class_name']} needs. Use the whole folder.")
        if (local or weights) and files & set(PICKLES) and "*.safetensors" not in files:
            raise ValueError(
                f"{model} has the weights of {part}/ as a pickle only, and a pickle can run code when it is read. If you "
                "trust its source, convert it once: python -c 'from diffusers import DiffusionPipeline as P; "
                f'P.from_pretrained("{model}", use_safetensors=False).save_pretrained("converted")\'. Then use `converted`.'
            )
    return folder


def pipeline_hash(folder: Path, parts: Sequence[str]) -> str:
    """Return 16 digits that identify the weights and configurations of a pipeline's ``parts``."""
    files = [file for part in parts for pattern in (*CONFIGS, *WEIGHTS) for file in sorted((folder / part).glob(pattern))]
    return sha256_of_all(files)


def is_on_hub(model: str) -> bool:
    """Return whether ``model`` has the form of a hub id and is no local folder."""
    return not Path(model).expanduser().is_dir() and HUB_ID.fullmatch(model) is not None


def load_part(kind: Any, folder: Path, part: str, **options: Any) -> Any:
    """Load one component by its ``from_pretrained`` with ``options``.

    Raises:
        ValueError: The component does not load.
    """
    try:
        return kind.from_pretrained(folder / part, local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{folder / part} does not load as {kind.__name__} ({reason}). Use a folder that diffusers' `save_pretrained` "
            "wrote, with safetensors."
        ) from error


def load_scheduler(folder: Path, part: str) -> Any:
    """Load the folder's scheduler, which must be one of diffusers'."""
    import diffusers

    name = read_config(folder / part, "scheduler_config.json").get("_class_name", "")
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ValueError(
            f"{folder / part} names the scheduler {name!r}, which diffusers {diffusers.__version__} does not have. Use one of "
            "diffusers' schedulers."
        )
    return load_part(kind, folder, part)
