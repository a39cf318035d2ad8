"""Find the local folder of a published model: a folder, or a repository of the hub that is fetched once."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from eclipse_pl.files import file_sha256

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
GONE = {"stabilityai/stable-diffusion-2": "sd2-community", "runwayml/stable-diffusion-": "stable-diffusion-v1-5"}
"""Beginnings of the ids of repositories that their owners removed from the hub (November 2025, August 2024), and the owners of
copies with the same names. The copies are unofficial."""


def find_model_folder(
    source: str, wanted: Sequence[str] = ("*.json", "*.safetensors", "*.txt"), ignored: Sequence[str] = ()
) -> Path:
    """The folder of ``source``: a local folder, or the ``wanted`` files of the hub's repository of that name.

    ``OWNER/NAME@REVISION`` names a branch, a tag, a commit or a pull request (``refs/pr/3``) of the repository.

    Raises:
        ValueError: It is neither, or the hub cannot be reached. The message names similar folders.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    near = difflib.get_close_matches(path.name, [other.name for other in siblings(path)], n=3, cutoff=0.5)
    hint = f" Near it: {', '.join(str(path.parent / name) for name in near)}." if near else ""
    # if its parent exists, it is probably a mistyped path
    if path.exists() or path.parent.is_dir() or not HUB_ID.fullmatch(source):
        raise ValueError(f"There is no folder {source}, and it is no hub id (OWNER/NAME).{hint}")
    from huggingface_hub import snapshot_download

    try:
        repository, _, revision = source.partition("@")
        return Path(
            snapshot_download(
                repository, revision=revision or None, allow_patterns=list(wanted), ignore_patterns=list(ignored)
            )
        )
    except Exception as error:  # the hub's client raises many kinds of errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        failure = f"{source} is no local folder, and could not be fetched from the hub ({reason}).{hint}"
        if mirror := mirror_of(repository):
            raise ValueError(
                f"{failure} Its owner removed it; {mirror} is a copy of it, but not an official one. If you trust it, pass "
                "its name, or pass the folder of your own copy."
            ) from error
        raise ValueError(
            f"{failure} Connect this machine once, or copy the repository to this machine and pass its folder."
        ) from error


def mirror_of(repository: str) -> str | None:
    """The id of a copy of a repository that its owner removed; None if there is none."""
    name = repository.partition("/")[2]
    return next((f"{owner}/{name}" for start, owner in GONE.items() if repository.startswith(start)), None)


def siblings(path: Path) -> list[Path]:
    return [other for other in path.parent.iterdir() if other.is_dir()] if path.parent.is_dir() else []


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """The JSON object in a model's folder."""
    path = folder / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no {name}, so it is not a model folder of diffusers or transformers.") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}). Fetch it again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object. Fetch it again.")
    return content


def find_weights(folder: Path, stem: str = "diffusion_pytorch_model") -> list[Path]:
    """The safetensors files that together hold a model's weights.

    Raises:
        ValueError: There are none, or only pickles. For pickles the message holds the command that converts them.
    """
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        named = read_config(folder, index.name).get("weight_map")
        if not isinstance(named, dict):
            raise ValueError(f"{index} holds no weight_map, which names the files of the weights. Fetch it again.")
        names = sorted(set(named.values()))
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise ValueError(f"{folder} lacks {missing[0]}, which {index.name} names. Fetch it again.")
        return [folder / name for name in names]
    whole = folder / f"{stem}.safetensors"
    found = [whole] if whole.is_file() else sorted(folder.glob(f"{stem}.*.safetensors"))
    if found:
        return found[:1]
    if pickles := find_pickles(folder):
        convert = (
            "import torch; from safetensors.torch import save_file; weights = {}; "
            f"[weights.update(torch.load(file, weights_only=True)) for file in {[str(path) for path in pickles]}]; "
            "save_file({key: value.clone().contiguous() for key, value in weights.items()}, "
            f"'{whole}', {{'format': 'pt'}})"
        )
        raise ValueError(
            f"{folder} holds its weights as a pickle only ({pickles[0].name}). Pickles of other people are not loaded. "
            f'Convert it once: python -c "{convert}"'
        )
    raise ValueError(
        f"{folder} holds no {whole.name}. Fetch it again, or name the folder that holds it. If the repository holds "
        "pickles only, fetch them into a folder and name it: the next error shows the command that converts them."
    )


def find_pickles(folder: Path) -> list[Path]:
    """The pickles of a model's weights, by the names that diffusers and transformers give them; without any, all pickles.

    Other files, such as ``training_args.bin``, are pickles too. Copies in another precision are taken if there are no others.
    """
    for name in ("diffusion_pytorch_model", "pytorch_model"):
        for pattern in (f"{name}.bin", f"{name}-*.bin", f"{name}*.bin"):
            if found := sorted(folder.glob(pattern)):
                return found
    return sorted(path for pattern in PICKLES for path in folder.glob(pattern))


def sha256_of(path: Path) -> str:
    """First 16 digits of the file's hash. The hub's cache names large files by their hash. Others are read once."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
        return blob.name[:16]
    stat = blob.stat()
    return _sha256(blob, stat.st_mtime_ns, stat.st_size)


def sha256_of_all(files: Sequence[Path]) -> str:
    """16 digits for several files in their order. They are equal only if all files are equal."""
    hashes = [sha256_of(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]


@lru_cache
def _sha256(path: Path, _modified: int, _size: int) -> str:
    return file_sha256(path)[:16]
