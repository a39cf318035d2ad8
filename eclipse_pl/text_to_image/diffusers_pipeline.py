from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from eclipse_pl.decoders.batches import Batches, collect
from eclipse_pl.decoders.pipeline_folder import CONFIGS, pipeline_hash
from eclipse_pl.device import find_device
from eclipse_pl.model_folder import find_model_folder, read_config
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.text_to_image.text_to_image import TextToImage

FILES = (*CONFIGS, "*.model", "*/*.safetensors")
"""What is fetched of a repository: no single-file copies of all weights, which lie at its top."""

COMBINED = {
    "KandinskyPipeline": "KandinskyCombinedPipeline",
    "KandinskyV22Pipeline": "KandinskyV22CombinedPipeline",
    "WuerstchenDecoderPipeline": "WuerstchenCombinedPipeline",
    "StableCascadeDecoderPipeline": "StableCascadeCombinedPipeline",
}
"""Pipelines that generate what another one has made of the prompt, and both in one."""


class DiffusersPipeline(TextToImage):
    """Any text-to-image pipeline of diffusers: Stable Diffusion, Karlo, Kandinsky and Würstchen with their priors, and others.

    Args:
        model: hub id or local folder of the pipeline, with safetensors.
        prior: hub id or local folder of the pipeline that makes of a prompt what ``model`` generates; for Kandinsky and
            Würstchen, which are published in two.
        steps: denoising steps; None is the pipeline's own default.
        guidance: guidance scale; None is the pipeline's own default.
        size: side of the images in pixels; None is the pipeline's own default.
        precision: of the weights and of everything that is computed.
        device: auto (a GPU where there is one), cpu, cuda.
        batch_size: images at a time; halved where memory does not suffice. Fewer images are filled up to it.
        options: further arguments of the pipeline's call, such as ``prior_num_inference_steps``.
    """

    def __init__(
        self,
        model: str,
        prior: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
        precision: Literal["float32", "bfloat16", "float16"] = "float32",
        device: str = "auto",
        batch_size: int = 8,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.prior, self.precision = model, prior, precision
        self.device = find_device(device)
        given = {"num_inference_steps": steps, "guidance_scale": guidance, "height": size, "width": size}
        self.options = {name: value for name, value in given.items() if value is not None} | (options or {})
        self._batches = Batches(batch_size, model, self.device, "Set precision to float16, or take a smaller size.")
        self._pipeline: Any = None

    @cached_property
    def folders(self) -> list[Path]:
        """Of the pipeline, and of its prior."""
        return [find_model_folder(one, FILES, ("*.fp16.*", "*.non_ema.*")) for one in (self.model, self.prior) if one]

    @cached_property
    def identity(self) -> dict[str, Any]:  # hashes gigabytes, so it is made once
        weights = [pipeline_hash(folder, list(parts_of(folder))) for folder in self.folders]
        told = {"pipeline": self.model, "prior_pipeline": self.prior, "precision": self.precision, **self.options}
        return {**{name: value for name, value in told.items() if value is not None}, "weights": " ".join(weights)}

    def require_ready(self) -> None:
        kind = read_config(self.folders[0], "model_index.json").get("_class_name", "")
        if kind in COMBINED and self.prior is None:
            raise ValueError(
                f"{self.model} is a {kind}: it decodes what another pipeline made of the prompt. Name that one as `prior`, "
                "such as kandinsky-community/kandinsky-2-2-prior or warp-ai/wuerstchen-prior."
            )
        if kind not in COMBINED and self.prior is not None:
            raise ValueError(f"{self.model} is a {kind} and reads prompts itself: it takes no `prior` ({self.prior}).")

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        def batch(rows: list[int]) -> list[Image.Image]:
            generators = [torch.Generator().manual_seed(seeds[row]) for row in rows]
            with warnings.catch_warnings():
                # diffusers' own combined pipelines still hand it on
                warnings.filterwarnings("ignore", "`callback_steps` is deprecated", FutureWarning)
                generated = pipeline([prompts[row].text for row in rows], generator=generators, **self.options)
            # a hidden image would count as one that does not follow its prompt
            if hidden := sum(getattr(generated, "nsfw_content_detected", None) or []):
                print(f"{self.model} blackened {hidden} of {len(rows)} images as unsafe; they are scored so.", file=sys.stderr)
            return list(generated.images)

        pipeline = self._load()
        with torch.autocast(self.device.type, enabled=False):
            return self._batches.generate(len(seeds), batch)

    def _load(self) -> Any:
        if self._pipeline is None:
            self.require_ready()
            try:
                loaded, *prior = map(load_pipeline, self.folders)
                if prior:
                    loaded = combined(loaded, prior[0])
            except (OSError, AttributeError, ImportError, ValueError, TypeError) as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ValueError(f"{self.model} could not be loaded as a text-to-image pipeline ({reason}).") from error
            self._require_options(loaded)
            loaded.set_progress_bar_config(disable=True)
            self._pipeline = loaded.to(self.device, getattr(torch, self.precision))
        return self._pipeline

    def _require_options(self, pipeline: Any) -> None:
        """Raise ValueError for what the pipeline does not take; many swallow any keyword without a word."""
        known = list(inspect.signature(pipeline.__call__).parameters)
        if unknown := [name for name in ("prompt", "generator", *self.options) if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, n=3) or known
            raise ValueError(f"{type(pipeline).__name__} takes no {unknown[0]}. Near it: {', '.join(near)}.")

    def close(self) -> None:
        self._pipeline = None
        collect(self.device)


def parts_of(folder: Path) -> dict[str, tuple[str, str]]:
    """{part: (library, class)} of a pipeline's index, without those that are left empty."""
    index = read_config(folder, "model_index.json")
    pairs = ((part, named) for part, named in index.items() if isinstance(named, list) and len(named) == 2)
    return {part: (library, name) for part, (library, name) in pairs if library and name}


def load_pipeline(folder: Path) -> Any:
    """As published."""
    from diffusers import DiffusionPipeline

    with old_names({library for library, _ in parts_of(folder).values()}):
        return DiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)


@contextmanager
def old_names(libraries: Iterable[str]) -> Iterator[None]:
    """Modules that diffusers has moved since an index named them, where the index looks for them."""
    from diffusers import pipelines

    moved = {library: f"diffusers.pipelines.deprecated.{library}" for library in libraries if "." not in library}
    moved = {old: new for old, new in moved.items() if not hasattr(pipelines, old) and importlib.util.find_spec(new)}
    for old, new in moved.items():
        setattr(pipelines, old, importlib.import_module(new))
    try:
        yield
    finally:
        for old in moved:
            delattr(pipelines, old)


def combined(decoder: Any, prior: Any) -> Any:
    """Both pipelines as diffusers' own one of both."""
    import diffusers

    kind = getattr(diffusers, COMBINED[type(decoder).__name__])
    return kind(**decoder.components, **{f"prior_{name}": part for name, part in prior.components.items()})
