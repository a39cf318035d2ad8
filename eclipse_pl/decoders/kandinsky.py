from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.decoders.pipeline_decoder import PipelineDecoder, Precision
from eclipse_pl.decoders.pipeline_folder import load_part, load_scheduler
from eclipse_pl.model_folder import read_config


class KandinskyDecoder(PipelineDecoder):
    """Kandinsky 2.2's decoder, or any other `KandinskyV22Pipeline`: a UNet with image projection, in the latents of a MoVQ.

    It does not read the prompt. Guidance leads away from ``negative_embed``, by default the embedding of the all-zero image,
    as in KandinskyV22PriorPipeline.

    Args:
        model: hub id or local folder of the pipeline, with safetensors.
        space: name or encoder tag of the CLIP space that it paints; Kandinsky 2.2 was trained on
            ``ViT-bigG-14/laion2b_s39b_b160k``.
        steps: denoising steps. ECLIPSE was evaluated with 50 steps of DDIM.
        guidance: classifier-free guidance scale, in ECLIPSE 7.5; up to 1 there is none, and half the work.
        scheduler: ``ddim``, ``ddpm``, or ``own``: the folder's.
        size: side of the pictures in pixels; None is the size that it was trained at.
        precision: of the weights and of everything that is computed.
        device: ``auto`` takes a GPU where there is one.
        batch_size: pictures at a time; halved where memory does not suffice. Fewer pictures are filled up to it.
        attention_slicing: compute attention in slices: less memory, slower.
        offload: keep each part of the pipeline on the GPU only while it works.
    """

    classes = ("KandinskyV22Pipeline",)
    parts = ("unet", "movq", "scheduler")

    def __init__(
        self,
        model: str = "kandinsky-community/kandinsky-2-2-decoder",
        space: str = "ViT-bigG-14/laion2b_s39b_b160k",
        steps: int = 50,
        guidance: float = 7.5,
        scheduler: Literal["ddim", "ddpm", "own"] = "ddim",
        size: int | None = None,
        precision: Precision = "float32",
        device: str = "auto",
        batch_size: int = 8,
        attention_slicing: bool = False,
        offload: bool = False,
    ) -> None:
        if scheduler not in ("ddim", "ddpm", "own"):
            raise ValueError(f"scheduler {scheduler!r} is not one of ddim, ddpm, own.")
        self.scheduler, self.size = scheduler, size
        super().__init__(model, space, steps, guidance, precision, device, batch_size, attention_slicing, offload)

    @property
    def options(self) -> dict[str, Any]:
        return {"scheduler": self.scheduler, "size": self.size}

    @property
    def dim(self) -> int:
        dim = self._unet_config.get("encoder_hid_dim")
        if not isinstance(dim, int):
            raise ValueError(f"The UNet of {self.model} takes no image embeddings: its config.json has no encoder_hid_dim.")
        return dim

    def check(self) -> None:
        super().check()
        _ = self.side

    @property
    def _unet_config(self) -> dict[str, Any]:
        return read_config(self.configs / "unet")

    @property
    def side(self) -> int:
        """Of the pictures, in pixels. ValueError for a size that the latent grid does not divide."""
        movq = read_config(self.configs / "movq")
        pixels = 2 ** (len(movq["block_out_channels"]) - 1)  # a side of one latent
        side = self.size or self._unet_config["sample_size"] * pixels
        step = pixels**2  # KandinskyV22Pipeline rounds every size up to a multiple of this
        if side < 1 or side % step:
            below = max(side // step, 1) * step
            raise ValueError(
                f"size {side} cannot be painted by {self.model}: take a multiple of {step}, as {below} or {below + step}. "
                f"It was trained at {self._unet_config['sample_size'] * pixels}."
            )
        return int(side)

    def load(self, folder: Path) -> Any:
        from diffusers import DDIMScheduler, DDPMScheduler, KandinskyV22Pipeline, UNet2DConditionModel, VQModel

        scheduler = load_scheduler(folder, "scheduler")
        if self.scheduler != "own":
            kind = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler}[self.scheduler]
            # DDIM draws no variance. In its config the pipeline would take `variance_type` for a promise that it does.
            dropped = ("variance_type",) * (self.scheduler == "ddim")
            scheduler = kind.from_config({key: value for key, value in scheduler.config.items() if key not in dropped})
        weights = {"torch_dtype": self.precision, "use_safetensors": True}
        unet = load_part(UNet2DConditionModel, folder, "unet", **weights)
        return KandinskyV22Pipeline(unet, scheduler, load_part(VQModel, folder, "movq", **weights))

    def paint(
        self,
        pipeline: Any,
        image_embed: Float[Tensor, "batch dim"],
        prompts: list[str],
        generators: list[torch.Generator],
        negative_embed: Float[Tensor, "batch dim"] | None,
    ) -> list[Image.Image]:
        if negative_embed is None and self.guidance > 1:
            if self.zero_image is None:
                raise ValueError(
                    f"{self.model} needs the embedding of the all-zero image for its guidance, and no space that holds one "
                    "was seen: call `require_space` with a space that `python -m data_prep embed` wrote, give "
                    "`negative_embed`, or set guidance to 1."
                )
            negative_embed = self.zero_image.to(image_embed).expand_as(image_embed)
        images: list[Image.Image] = pipeline(
            image_embed,
            negative_embed,
            height=self.side,
            width=self.side,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=generators,
        ).images
        return images
