from __future__ import annotations

import difflib
import importlib.util
import inspect
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from eclipse_pl.arguments import require_finite, require_whole
from eclipse_pl.decoders.batches import Batches
from eclipse_pl.decoders.pipeline_folder import CONFIGS, pipeline_hash
from eclipse_pl.device import free_memory, pick_device, require_no_half_on_cpu
from eclipse_pl.model_folder import find_model_folder, read_config
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.text_to_image.text_to_image import TextToImage

FILES = (*CONFIGS, "*.model", "*/*.safetensors")
"""Files downloaded from a repository. Single-file copies of all weights, at its top level, are left out."""

COMBINED = {
    "KandinskyPipeline": ("KandinskyCombinedPipeline", "kandinsky-community/kandinsky-2-1-prior"),
    "KandinskyV22Pipeline": ("KandinskyV22CombinedPipeline", "kandinsky-community/kandinsky-2-2-prior"),
    "WuerstchenDecoderPipeline": ("WuerstchenCombinedPipeline", "warp-ai/wuerstchen-prior"),
    "StableCascadeDecoderPipeline": ("StableCascadeCombinedPipeline", "stabilityai/stable-cascade-prior"),
}
"""Decoder pipeline -> combined pipeline of prior and decoder, and hub id of the published prior."""

OWN = ("prompt", "generator", "num_images_per_prompt", "output_type", "return_dict")
"""Arguments of a pipeline's call that are not options: an image a prompt, as a PIL image, from a seed."""
NEGATIVE = ("negative_prompt", "negative_prompt_2", "negative_prompt_3")


class DiffusersPipeline(TextToImage):
    """Any text-to-image pipeline of diffusers: Stable Diffusion, Karlo, Kandinsky and Würstchen with their priors, and others.

    Args:
        model: Hub id or local folder of the pipeline, with safetensors.
        prior: Hub id or local folder of the prior's pipeline. Kandinsky and Würstchen are published as two pipelines.
        steps: Denoising steps. The default is the pipeline's.
        guidance: Guidance scale. The default is the pipeline's.
        size: Side of the images in pixels. The default is the pipeline's.
        precision: Precision of weights and computation.
        device: ``auto`` takes a GPU where there is one.
        batch_size: Images at a time, halved where memory runs out. Smaller batches are filled up to it.
        options: Further arguments of the pipeline's call, such as ``prior_num_inference_steps``.
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
        for name, number in (("steps", steps), ("size", size)):
            if number is not None:  # some pipelines take 0 for their default
                require_whole(name, number, 1, ", or null for the pipeline's own")
        if guidance is not None:
            require_finite("guidance", guidance)
        self.model, self.prior, self.precision = model, prior, precision
        self.device = pick_device(device, float64=False)
        given = {"num_inference_steps": steps, "guidance_scale": guidance, "height": size, "width": size}
        stated = {name: value for name, value in given.items() if value is not None}
        if twice := sorted({*stated, *OWN} & set(options or {})):
            by = "steps, guidance or size" if twice[0] in stated else "the benchmark"
            raise ValueError(f"options.{twice[0]} is set by {by}: leave it out of `options`.")
        self.options = stated | (options or {})
        half = "Set precision to float16, or take" if precision == "float32" and self.device.type != "cpu" else "Take"
        self._batches = Batches(batch_size, model, self.device, f"{half} a smaller size.")
        self._pipeline: Any = None

    @cached_property
    def folders(self) -> list[Path]:
        """Folders of the pipeline and of its prior."""
        return [find_model_folder(one, FILES, ("*.fp16.*", "*.non_ema.*")) for one in (self.model, self.prior) if one]

    @cached_property
    def identity(self) -> dict[str, Any]:  # hashes gigabytes, so it is made once
        weights = [pipeline_hash(folder, list(parts_of(folder))) for folder in self.folders]
        named = {"pipeline": self.model, "prior_pipeline": self.prior, "precision": self.precision, **self.options}
        return {**{name: value for name, value in named.items() if value is not None}, "weights": " ".join(weights)}

    def require_ready(self) -> None:
        kind = read_config(self.folders[0], "model_index.json").get("_class_name", "")
        if kind in COMBINED and self.prior is None:
            raise ValueError(
                f"{self.model} is a {kind}: it decodes the output of a prior's pipeline. Name that pipeline as `prior`, on a "
                "command line by --text_to_image eclipse_pl.text_to_image.DiffusersPipeline --text_to_image.model "
                f"{shlex.quote(self.model)} --text_to_image.prior {COMBINED[kind][1]} (with no --pipeline)."
            )
        if kind not in COMBINED and self.prior is not None:
            raise ValueError(f"{self.model} is a {kind} and reads prompts itself: it takes no `prior` ({self.prior}).")
        if kind == "UnCLIPPipeline":
            require_no_half_on_cpu(self.model, self.precision, self.device)

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        def batch(rows: list[int]) -> list[Image.Image]:
            generators = [torch.Generator().manual_seed(seeds[row]) for row in rows]
            with warnings.catch_warnings():
                # diffusers' combined pipelines still pass it
                warnings.filterwarnings("ignore", "`callback_steps` is deprecated", FutureWarning)
                generated = pipeline([prompts[row].text for row in rows], generator=generators, **options(len(rows)))
            if hidden := sum(getattr(generated, "nsfw_content_detected", None) or []):
                print(
                    f"{self.model} blackened {hidden} of {len(rows)} images as unsafe; they are scored.",
                    file=sys.stderr,
                )
            return list(generated.images)

        def options(count: int) -> dict[str, Any]:
            """A negative prompt stands beside each prompt: diffusers wants both as text, or both as lists."""
            texts = {name: [text] * count for name, text in self.options.items() if name in NEGATIVE and isinstance(text, str)}
            return {**self.options, **texts}

        pipeline = self._load()
        with torch.autocast(self.device.type, enabled=False):
            return self._batches.generate(len(seeds), batch)

    def count_cut(self, prompts: Sequence[Prompt]) -> int | None:
        """Count prompts that all tokenizers of the pipeline and of its prior cut at their own length.

        All images are there by then, so a tokenizer that transformers cannot load alone is no error: the count is not known.
        """
        from transformers import AutoTokenizer

        folders = [folder / part for folder in self.folders for part in parts_of(folder) if part.startswith("tokenizer")]
        if not folders:
            return None
        try:
            tokenizers = [AutoTokenizer.from_pretrained(folder, local_files_only=True) for folder in folders]
        except (OSError, ValueError, TypeError, KeyError, ImportError):
            return None
        return sum(
            all(len(one(prompt.text, verbose=False).input_ids) > one.model_max_length for one in tokenizers)
            for prompt in prompts
        )

    def _load(self) -> Any:
        from safetensors import SafetensorError

        if self._pipeline is None:
            self.require_ready()
            try:
                loaded, *prior = map(load_pipeline, self.folders)
                if prior:
                    loaded = combined(loaded, prior[0])
            except (OSError, AttributeError, ImportError, RuntimeError, ValueError, TypeError, SafetensorError) as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ValueError(f"{self.model} could not be loaded as a text-to-image pipeline ({reason}).") from error
            self._require_options(loaded)
            loaded.set_progress_bar_config(disable=True)
            self._pipeline = loaded.to(self.device, getattr(torch, self.precision))
        return self._pipeline

    def _require_options(self, pipeline: Any) -> None:
        """Raise ValueError for an option that the pipeline does not take. Many pipelines ignore unknown keywords."""
        known = list(inspect.signature(pipeline.__call__).parameters)
        if unknown := [name for name in ("prompt", "generator", *self.options) if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, n=3) or known
            raise ValueError(f"{type(pipeline).__name__} takes no {unknown[0]}. Near it: {', '.join(near)}.")

    def close(self) -> None:
        self._pipeline = None
        free_memory(self.device)


def parts_of(folder: Path) -> dict[str, tuple[str, str]]:
    """Return {part: (library, class)} of a pipeline's index, without its empty parts."""
    index = read_config(folder, "model_index.json")
    pairs = ((part, named) for part, named in index.items() if isinstance(named, list) and len(named) == 2)
    return {part: (library, name) for part, (library, name) in pairs if library and name}


def load_pipeline(folder: Path) -> Any:
    """Load a pipeline as it was published."""
    from diffusers import DiffusionPipeline

    with old_names({library for library, _ in parts_of(folder).values()}):
        return DiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)


@contextmanager
def old_names(libraries: Iterable[str]) -> Iterator[None]:
    """Make modules that diffusers has moved available under the names that old indexes use."""
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
    """Join both pipelines in diffusers' combined pipeline."""
    import diffusers

    kind = getattr(diffusers, COMBINED[type(decoder).__name__][0])
    return kind(**decoder.components, **{f"prior_{name}": part for name, part in prior.components.items()})
