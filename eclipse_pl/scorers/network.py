"""Networks of scorers. They are read from safetensors only, built when first used, and freed after use."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch

from eclipse_pl.arguments import one_of
from eclipse_pl.device import free_memory, pick_device
from eclipse_pl.model_folder import find_model_folder, find_weights, read_config, sha256_of, sha256_of_all

Precision = Literal["float32", "bfloat16", "float16"]

TOKENIZER_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
FILES = (*TOKENIZER_FILES, "model.safetensors", "model-?????-of-?????.safetensors")
"""Files downloaded from a repository of the hub: configs, tokenizer and weights, never pickles or code."""

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
_TOKENIZER = (
    *TOKENIZERS, "merges.txt", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json",
    "chat_template.json", "chat_template.jinja",
)  # fmt: skip
_IMAGE_PROCESSOR = ("preprocessor_config.json", "processor_config.json")
PROCESSOR_FILES = {"tokenizer": _TOKENIZER, "image_processor": _IMAGE_PROCESSOR, "both": (*_TOKENIZER, *_IMAGE_PROCESSOR)}
"""Part of a processor -> files that its output depends on (crop, size, words), in transformers 4 and 5."""


class ScorerNetwork(ABC):
    """A network. The first use builds it, `close` frees it.

    Args:
        device: ``auto`` takes a GPU where there is one.
    """

    def __init__(self, device: str = "auto") -> None:
        self.device = pick_device(device)

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name: ``grounding-dino-tiny``."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Name and hash of the weights, and every option that its output depends on."""

    def require_ready(self) -> None:
        """Raise ValueError where the files are wrong, without loading weights."""
        _ = self.version

    @abstractmethod
    def build(self) -> Any:
        """Build the module with its weights."""

    @cached_property
    def model(self) -> Any:
        return self.build().requires_grad_(False).eval().to(self.device)

    def load(self) -> torch.device:
        """Build the module unless it exists, and return its device."""
        assert self.model is not None
        return self.device

    def close(self) -> None:
        """Free the memory."""
        if self.__dict__.pop("model", None) is not None:
            free_memory(self.device)


class PretrainedNetwork(ScorerNetwork):
    """A network of transformers, in the layout that ``save_pretrained`` writes.

    Args:
        path: Folder, or id of a repository of the Hugging Face hub (``owner/name``, ``owner/name@revision``).
        precision: Precision of weights and computation. It is part of the version.
        device: ``auto`` takes a GPU where there is one.
    """

    classes: tuple[str, ...] = ()
    """Accepted classes of transformers."""
    unused: str = "$^"
    """Pattern of tensors that a checkpoint may lack, because the scorer does not use them."""
    parts: Mapping[str, Any] = MappingProxyType({})
    """Further arguments of the class, such as parts of the network that are not built."""
    reads: tuple[str, ...] = ("tokenizer", "image_processor")
    """Attributes that it reads from the processor's folder, among `PROCESSOR_FILES`. Their files are part of the version."""

    def __init__(self, path: str, precision: Precision = "float32", device: str = "auto") -> None:
        super().__init__(device)
        one_of("precision", precision, ("float32", "bfloat16", "float16"))
        self.path = str(path)
        self.precision: torch.dtype = getattr(torch, precision)

    @property
    def name(self) -> str:
        local = Path(self.path).expanduser().is_dir()  # in whose path "@" may be a part of a name
        return Path(self.path if local else self.path.partition("@")[0]).name

    @property
    def version(self) -> str:
        precision = "" if self.precision == torch.float32 else f" {self.precision}".replace("torch.", "")
        return f"{self.name} sha256-{sha256_of_all(find_weights(self.folder, 'model'))}{self._processor_hash()}{precision}"

    def _processor_hash(self) -> str:
        """Name the files that prepare its input: other ones give other scores by the same weights."""
        if not self.reads:
            return ""
        names = sorted({name for part in self.reads for name in PROCESSOR_FILES[part]})
        files = [path for name in names if (path := self.processor_folder / name).is_file()]
        return f" processor-{sha256(''.join(f'{path.name} {sha256_of(path)} ' for path in files).encode()).hexdigest()[:8]}"

    @cached_property
    def folder(self) -> Path:
        return find_model_folder(self.path, FILES)

    def accepted(self) -> tuple[str, ...]:
        return self.classes

    @cached_property
    def config(self) -> Any:
        """The model's config, with the defaults of its class, which is read without weights."""
        import transformers

        kind = getattr(transformers, class_in(self.folder, self.accepted())).config_class
        return kind.from_pretrained(self.folder, local_files_only=True)

    def require_ready(self) -> None:
        class_in(self.folder, self.accepted())
        find_weights(self.folder, "model")
        for part in self.reads:
            getattr(self, part)

    def build(self) -> Any:
        import transformers
        from safetensors import SafetensorError

        kind = getattr(transformers, class_in(self.folder, self.accepted()))
        find_weights(self.folder, "model")
        try:
            model, info = kind.from_pretrained(
                self.folder,
                dtype=self.precision,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **self.parts,
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ValueError(f"{self.folder} could not be loaded as {kind.__name__} ({reason}).") from error
        if missing := sorted(key for key in info["missing_keys"] if not re.match(self.unused, key)):
            # transformers would use random weights in their place
            raise ValueError(
                f"The weights in {self.folder} lack {len(missing)} of the tensors of {kind.__name__}, {missing[0]} among "
                "them. Download them again, or convert the right checkpoint."
            )
        return model

    @cached_property
    def processor_folder(self) -> Path:
        """Folder of tokenizer and image processor."""
        return self.folder

    @cached_property
    def tokenizer(self) -> Any:
        return self.processor("AutoTokenizer")

    @cached_property
    def image_processor(self) -> Any:
        return self.processor("AutoImageProcessor")

    def processor(self, kind: str) -> Any:
        """Load a tokenizer or processor by its class in transformers (``AutoTokenizer``).

        Raises:
            ValueError: It cannot be loaded.
        """
        import transformers

        folder = self.processor_folder
        try:
            if kind != "AutoImageProcessor" and not any((folder / file).is_file() for file in TOKENIZERS):
                # transformers 5 would return a tokenizer without words
                raise OSError(f"none of {', '.join(TOKENIZERS)} is there")
            return getattr(transformers, kind).from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ValueError(
                f"{folder} has no {kind} that can be loaded ({reason}). Copy tokenizer and processor into this folder."
            ) from error


def class_in(folder: Path, classes: tuple[str, ...]) -> str:
    """Return the class in the folder's config.json.

    Raises:
        ValueError: It is not one of ``classes``.
    """
    import transformers

    config = read_config(folder)
    named = list(config.get("architectures") or [])
    for name in classes:
        # old configs name only their model type
        of_type = not named and getattr(transformers, name).config_class.model_type == config.get("model_type")
        if name in named or of_type:
            return name
    found = ", ".join(named) or f"a model of type {config.get('model_type')!r}"
    wanted = " or ".join(classes[:3]) + (f" or {len(classes) - 3} others" if len(classes) > 3 else "")
    raise ValueError(f"{folder} holds {found}, and this scorer works with {wanted}.")
