from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.decoders.batches import Batches, collect
from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.decoders.pipeline_folder import find_pipeline, is_on_hub, pipeline_hash
from eclipse_pl.device import find_device

Precision = Literal["float32", "bfloat16", "float16"]


class PipelineDecoder(Decoder):
    """A diffusers pipeline as a decoder: loaded when first used, fed in batches, freed by ``close``.

    Args:
        model: hub id or local folder of the pipeline, with safetensors. Nothing is unpickled, no code of the folder is run.
        space: name or encoder tag of the CLIP space that it decodes.
        steps: denoising steps.
        guidance: classifier-free guidance scale; up to 1 there is none, and half the work.
        precision: of the weights and of everything that is computed.
        device: ``auto`` takes a GPU where there is one.
        batch_size: images at a time; halved where memory does not suffice. Fewer images are filled up to it.
        attention_slicing: compute attention in slices: less memory, slower.
        offload: keep each part of the pipeline on the GPU only while it works.
    """

    classes: ClassVar[tuple[str, ...]]
    """What ``model_index.json`` may call the pipeline."""
    parts: ClassVar[tuple[str, ...]]
    """The components that are loaded."""

    def __init__(
        self,
        model: str,
        space: str,
        steps: int,
        guidance: float,
        precision: Precision,
        device: str,
        batch_size: int,
        attention_slicing: bool,
        offload: bool,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps {steps} generates nothing: it must be 1 or more.")
        if precision not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"precision {precision!r} is not one of float32, bfloat16, float16.")
        self.model, self.space, self.steps, self.guidance = model, space, steps, guidance
        self.device = find_device(device)
        self.precision: torch.dtype = getattr(torch, precision)
        self.attention_slicing, self.offload = attention_slicing, offload
        remedy = "Set precision to float16, attention_slicing or offload to true, or take a smaller size."
        self.batches = Batches(batch_size, model, self.device, remedy)
        if offload and self.device.type == "cpu":
            raise ValueError("offload moves parts off the GPU, and this decoder works on the CPU: set offload to false.")
        self._pipeline: Any = None
        if not is_on_hub(model):
            self.check()  # what is wrong with a local folder is told before anything is trained

    @cached_property
    def configs(self) -> Path:
        """The folder with the pipeline's configurations; its weights may still be on the hub."""
        return find_pipeline(self.model, self.classes, self.parts, weights=False)

    @cached_property
    def folder(self) -> Path:
        """The whole pipeline."""
        return find_pipeline(self.model, self.classes, self.parts)

    @cached_property
    def weights(self) -> str:
        """Names what lies in the pipeline's folder: a path or a hub id can come to hold another model."""
        return pipeline_hash(self.folder, self.parts)

    @property
    def identity(self) -> dict[str, Any]:
        told = {"class": type(self).__name__, "model": self.model, "weights": self.weights, "steps": self.steps}
        precision = str(self.precision).removeprefix("torch.")
        return told | {"guidance": self.guidance, "precision": precision} | self.options

    @property
    def options(self) -> dict[str, Any]:
        """What else of a subclass's arguments its images depend on."""
        return {}

    def check(self) -> None:
        """Raise ValueError for what the configurations show to be wrong."""
        _ = self.dim

    @abstractmethod
    def load(self, folder: Path) -> Any:
        """The pipeline with its weights, on the CPU."""

    @abstractmethod
    def generate(
        self,
        pipeline: Any,
        image_embed: Float[Tensor, "batch dim"],
        prompts: list[str],
        generators: list[torch.Generator],
        negative_embed: Float[Tensor, "batch dim"] | None,
    ) -> list[Image.Image]:
        """One call of the pipeline. Embeddings come on its device and in its precision, generators on the CPU."""

    def decode(
        self,
        image_embed: Float[Tensor, "batch dim"],
        prompts: Sequence[str],
        seeds: Sequence[int],
        negative_embed: Float[Tensor, "batch dim"] | None = None,
    ) -> list[Image.Image]:
        if not len(image_embed) == len(prompts) == len(seeds):
            raise ValueError(
                f"{len(image_embed)} embeddings, {len(prompts)} prompts and {len(seeds)} seeds do not make images: give as "
                "many of each."
            )
        if image_embed.shape[1] != self.dim:
            raise ValueError(f"{self.model} decodes embeddings {self.dim} wide; these are {image_embed.shape[1]} wide.")

        def batch(rows: list[int]) -> list[Image.Image]:
            negative = None if negative_embed is None else negative_embed[rows]
            return self._batch(image_embed[rows], [prompts[i] for i in rows], [seeds[i] for i in rows], negative)

        return self.batches.generate(len(seeds), batch)

    @torch.no_grad()
    def _batch(self, embed: Tensor, prompts: list[str], seeds: list[int], negative: Tensor | None) -> list[Image.Image]:
        if self._pipeline is None:
            self._pipeline = self._prepared(self.load(self.folder))
        # One generator an image, on the CPU: the same noise whatever the batch, the rank and the device.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        negative = None if negative is None else negative.to(self.device, self.precision)
        return self.generate(self._pipeline, embed.to(self.device, self.precision), prompts, generators, negative)

    def _prepared(self, pipeline: Any) -> Any:
        pipeline.set_progress_bar_config(disable=True)
        if self.attention_slicing:
            pipeline.enable_attention_slicing()
        if self.offload:
            pipeline.enable_model_cpu_offload(device=self.device)
            return pipeline
        return pipeline.to(self.device)

    def close(self) -> None:
        self._pipeline = None
        collect(self.device)
