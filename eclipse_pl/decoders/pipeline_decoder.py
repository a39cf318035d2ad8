from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor

from eclipse_pl.arguments import one_of, require_finite, require_whole
from eclipse_pl.decoders.batches import Batches
from eclipse_pl.decoders.decoder import Decoder, Embeds
from eclipse_pl.decoders.pipeline_folder import Classes, find_pipeline, is_on_hub, pipeline_class, pipeline_hash
from eclipse_pl.device import free_memory, pick_device, precision_name, require_no_half_on_cpu

Precision = Literal["float32", "bfloat16", "float16"]


class PipelineDecoder(Decoder):
    """A diffusers pipeline as a decoder. The first use loads it, ``close`` frees it.

    Args:
        model: Hub id or local folder of the pipeline, with safetensors. Pickles and code of the folder are never read.
        space: Name or encoder tag of the CLIP space.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale. 1 or less turns guidance off and halves the work.
        precision: Precision of weights and computation.
        device: ``auto`` takes a GPU where there is one.
        batch_size: Images at a time, halved where memory runs out. Smaller batches are filled up to it.
        attention_slicing: Compute attention in slices: less memory, slower.
        offload: Keep each part of the pipeline on the GPU only while it works.
    """

    classes: ClassVar[Classes]
    """Accepted pipeline classes, each with the components that are loaded."""
    slices_attention: ClassVar[bool] = True
    """Whether ``attention_slicing`` may be true."""
    half_on_cpu: ClassVar[bool] = True
    """Whether ``precision`` may be a half precision on a CPU."""

    def __init__(
        self,
        model: str,
        space: str,
        steps: int,
        guidance: float,
        precision: Precision = "float32",
        device: str = "auto",
        batch_size: int = 8,
        attention_slicing: bool = False,
        offload: bool = False,
    ) -> None:
        require_whole("steps", steps, 1)
        require_finite("guidance", guidance)
        one_of("precision", precision, ("float32", "bfloat16", "float16"))
        self.model, self.space, self.steps, self.guidance = model, space, steps, guidance
        self.device = pick_device(device, float64=False)
        if not self.half_on_cpu:
            require_no_half_on_cpu(model, precision, self.device)
        self.precision: torch.dtype = getattr(torch, precision)
        self.attention_slicing, self.offload = attention_slicing, offload
        self.batches = Batches(batch_size, model, self.device, self.remedy)
        if offload and self.device.type != "cuda":
            place = "the CPU" if self.device.type == "cpu" else f"{self.device}, which shares the memory of the CPU"
            raise ValueError(f"offload moves parts off the GPU, and this decoder works on {place}: set offload to false.")
        self._pipeline: Any = None
        if self.is_local:
            self.check()  # an error in a local folder shows before training begins

    @cached_property
    def configs(self) -> Path:
        """Folder with the pipeline's configurations. The weights may still be on the hub."""
        return find_pipeline(self.model, self.classes, weights=False)

    @property
    def is_local(self) -> bool:
        """Whether all of its files lie in local folders."""
        return not is_on_hub(self.model)

    @property
    def kind(self) -> str:
        """Class of the pipeline, one of ``classes``."""
        return pipeline_class(self.configs)

    @cached_property
    def folder(self) -> Path:
        """Folder with the whole pipeline."""
        return find_pipeline(self.model, self.classes)

    @cached_property
    def weights(self) -> str:
        """Hash of the pipeline's folder: the model under a path or hub id can change."""
        return pipeline_hash(self.folder, self.classes[self.kind])

    @property
    def identity(self) -> dict[str, Any]:
        pipeline = {"class": type(self).__name__, "model": self.model, "weights": self.weights}
        precision = precision_name(self.precision)
        text = {"reads_caption": True} if self.reads_caption else {}
        return pipeline | {"steps": self.steps, "guidance": self.guidance, "precision": precision} | self.options | text

    @property
    def remedy(self) -> str:
        """What would save memory and is not in use."""
        ways = {
            "precision: float16": self.precision == torch.float32 and (self.half_on_cpu or self.device.type != "cpu"),
            "attention_slicing: true": self.slices_attention and not self.attention_slicing,
            "offload: true": self.device.type == "cuda" and not self.offload,
            "a smaller size": "size" in signature(type(self)).parameters,
        }
        unused = [way for way, helps in ways.items() if helps]
        return f"Less memory suffices with {' or '.join(unused)}." if unused else "Take a smaller pipeline, or another device."

    @property
    def takes_negative(self) -> bool:
        return self.guidance > 1

    @property
    def options(self) -> dict[str, Any]:
        """Further arguments of a subclass that its images depend on."""
        return {}

    def check(self) -> None:
        """Check the configurations.

        Raises:
            ValueError: They do not fit the decoder.
        """
        _ = self.dim

    @abstractmethod
    def load(self, folder: Path) -> Any:
        """Load the pipeline with its weights, on the CPU."""

    @abstractmethod
    def generate(
        self,
        pipeline: Any,
        image_embed: Embeds,
        prompts: list[str],
        generators: list[torch.Generator],
        negative: Embeds | None,
    ) -> list[Image.Image]:
        """Call the pipeline once. Embeddings are on its device and in its precision, generators on the CPU."""

    def decode(
        self,
        image_embed: Embeds,
        prompts: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        negative_embed: Embeds | None = None,
    ) -> list[Image.Image]:
        prompts = [""] * len(image_embed) if prompts is None else prompts
        seeds = range(len(image_embed)) if seeds is None else seeds
        if not len(image_embed) == len(prompts) == len(seeds):
            raise ValueError(
                f"{len(image_embed)} embeddings, {len(prompts)} prompts and {len(seeds)} seeds do not match: pass the same "
                "number of each."
            )
        if image_embed.shape[1] != self.dim:
            raise ValueError(f"{self.model} decodes embeddings {self.dim} wide; these are {image_embed.shape[1]} wide.")
        self.require_finite(image_embed)
        if negative_embed is not None:
            self.require_negative()
            self.require_finite(negative_embed)

        def batch(rows: list[int]) -> list[Image.Image]:
            negative = None if negative_embed is None else negative_embed[rows]
            return self._batch(image_embed[rows], [prompts[i] for i in rows], [seeds[i] for i in rows], negative)

        return self.batches.generate(len(seeds), batch, self.fills_batches)

    @torch.no_grad()
    def _batch(self, embed: Tensor, prompts: list[str], seeds: list[int], negative: Tensor | None) -> list[Image.Image]:
        if self._pipeline is None:
            self._pipeline = self._prepared(self.load(self.folder))
        # One generator per image, on the CPU: the noise depends on neither batch, rank nor device.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        negative = None if negative is None else negative.to(self.device, self.precision)
        return self.generate(self._pipeline, embed.to(self.device, self.precision), prompts, generators, negative)

    def _prepared(self, pipeline: Any) -> Any:
        pipeline.set_progress_bar_config(disable=True)
        if self.attention_slicing:
            pipeline.enable_attention_slicing()
        if self.offload:
            # Without a number diffusers takes GPU 0, whichever GPU this process works on.
            gpu = torch.cuda.current_device() if self.device.index is None else self.device.index
            pipeline.enable_model_cpu_offload(device=torch.device("cuda", gpu))
            return pipeline
        return pipeline.to(self.device)

    def close(self) -> None:
        self._pipeline = None
        free_memory(self.device)


def require_size(size: int | None, step: int, name: str) -> None:
    """Raise ValueError for a side that ``name`` cannot generate, because it is no multiple of ``step`` pixels."""
    if size is not None and (size < step or size % step):
        raise ValueError(f"size {size} cannot be generated by {name}: take a multiple of {step}.")
