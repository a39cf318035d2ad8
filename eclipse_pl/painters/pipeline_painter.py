from __future__ import annotations

import difflib
import gc
import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image

from eclipse_pl.model_folder import find_model_folder, read_config
from eclipse_pl.painters.painter import Painter
from eclipse_pl.prompts.prompt import Prompt


class PipelinePainter(Painter):
    """Any text-to-image pipeline of diffusers: Stable Diffusion, Karlo, Kandinsky with its own prior, Würstchen and others.

    Args:
        model: hub id or local folder of the pipeline, with safetensors.
        steps: denoising steps; None is the pipeline's own default.
        guidance: guidance scale; None is the pipeline's own default.
        size: side of the pictures in pixels; None is the pipeline's own default.
        precision: of the weights and of everything that is computed.
        device: auto (a GPU where there is one), cpu, cuda.
        options: further arguments of the pipeline's call, such as ``prior_num_inference_steps``.
    """

    def __init__(
        self,
        model: str,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
        precision: Literal["float32", "bfloat16", "float16"] = "float32",
        device: str = "auto",
        options: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.precision = model, precision
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        given = {"num_inference_steps": steps, "guidance_scale": guidance, "height": size, "width": size}
        self.options = {name: value for name, value in given.items() if value is not None} | (options or {})
        self._pipeline: Any = None

    @property
    def identity(self) -> dict[str, Any]:
        return {"pipeline": self.model, "precision": self.precision, **self.options}

    def require_ready(self) -> None:
        read_config(find_model_folder(self.model), "model_index.json")

    def paint(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        pipeline = self._load()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with torch.autocast(self.device.type, enabled=False):
            images: list[Image.Image] = pipeline(
                [prompt.text for prompt in prompts], generator=generators, **self.options
            ).images
        return images

    def _load(self) -> Any:
        if self._pipeline is None:
            from diffusers import DiffusionPipeline

            folder = find_model_folder(self.model)
            try:
                loaded = DiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
            except (OSError, AttributeError, ValueError) as error:
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
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
