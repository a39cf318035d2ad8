"""Find, check and load a diffusers pipeline by folder or hub id. Safetensors only; code of the folder is never run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eclipse_pl.model_folder import HUB_ID, PICKLES, find_model_folder, read_config, sha256_of_all

CONFIGS, WEIGHTS = ("*.json", "*.txt"), ("*.safetensors",)
Classes = Mapping[str, tuple[str, ...]]
"""Pipeline classes in ``model_index.json``, each with the components that a decoder loads."""


def find_pipeline(model: str, classes: Classes, weights: bool = True) -> Path:
    """Return the folder of a pipeline. A hub id is downloaded; without ``weights``, only its configs are.

    Raises:
        ValueError: There is no such folder or hub id, its pipeline class is not one of ``classes``, one of the components is
            missing, or its weights exist as pickles only.
    """
    local = Path(model).expanduser().is_dir()
    # Neither half-precision copies, nor files of all weights at the top of a repository, nor other components are downloaded.
    components = dict.fromkeys(part for parts in classes.values() for part in parts)
    files = [f"{part}/{pattern}" for part in components for pattern in WEIGHTS] if weights else []
    folder = find_model_folder(model, [*CONFIGS, *files], ignored=("*.fp16.*", "*.non_ema.*"))
    kind = pipeline_class(folder)
    if kind not in classes:
        raise ValueError(
            f"{model} is a {kind}, and this decoder needs a {' or '.join(classes)}. Use the decoder class of that pipeline; "
            "docs/decoders.md has a table of them."
        )
    for part in classes[kind]:
        suffixes = {f"*{path.suffix}" for path in (folder / part).glob("*")}
        if not suffixes:
            raise ValueError(f"{model} has no {part}/, which a {kind} needs. Use the whole folder.")
        if (local or weights) and suffixes & set(PICKLES) and "*.safetensors" not in suffixes:
            # Other parts may be safetensors, so diffusers chooses for each.
            convert = f'P.from_pretrained({json.dumps(str(folder))}).save_pretrained("converted")'
            raise ValueError(
                f"{model} has the weights of {part}/ as a pickle only, and a pickle can run code when it is read. If you "
                "trust its source, convert it once: python -c "
                f"{shlex.quote(f'from diffusers import DiffusionPipeline as P; {convert}')} and use `converted`."
            )
    return folder


def pipeline_class(folder: Path) -> str:
    """Return the class that the index of a pipeline names."""
    return str(read_config(folder, "model_index.json").get("_class_name"))


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
    from safetensors import SafetensorError

    try:
        return kind.from_pretrained(folder / part, local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
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


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """Without diffusers' advice on what is done on purpose: no image encoder, no LoRA of the text encoder."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
