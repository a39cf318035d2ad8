"""ImageVariationsDecoder: Stable Diffusion that was finetuned to read an image embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from eclipse_pl.decoders.decoder import Embeds
from eclipse_pl.decoders.pipeline_decoder import PipelineDecoder, require_size
from eclipse_pl.decoders.pipeline_folder import Classes, load_part, load_scheduler
from eclipse_pl.model_folder import read_config


class ImageVariationsDecoder(PipelineDecoder):
    """Stable Diffusion image variations: Stable Diffusion 1.4 finetuned to read the embedding of ViT-L/14 in place of a text.

    It reads no prompt. Guidance leads away from the zero vector, or from ``negative_embed``. Not run on a GPU, nor with the
    published weights, yet.

    Args:
        model: Hub id or local folder of a `StableDiffusionImageVariationPipeline`, with safetensors. The pipeline's own image
            encoder is not loaded.
        space: Name or encoder tag of the CLIP space.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale. 1 or less turns guidance off and halves the work.
        size: Side of the images in pixels. The default is the training size.
        **options: Those of PipelineDecoder.
    """

    classes: ClassVar[Classes] = {"StableDiffusionImageVariationPipeline": ("unet", "vae", "scheduler")}

    def __init__(
        self,
        model: str = "lambdalabs/sd-image-variations-diffusers@v2.0",
        space: str = "ViT-L-14/openai",
        steps: int = 50,
        guidance: float = 3.0,
        size: int | None = None,
        **options: Any,
    ) -> None:
        require_size(size, 8, "Stable Diffusion")
        self.size = size
        super().__init__(model, space, steps, guidance, **options)

    @property
    def options(self) -> dict[str, Any]:
        return {"size": self.size}

    @property
    def dim(self) -> int:
        return int(read_config(self.configs / "unet").get("cross_attention_dim", 0))

    def load(self, folder: Path) -> Any:
        from diffusers import AutoencoderKL, StableDiffusionImageVariationPipeline, UNet2DConditionModel

        weights = {"torch_dtype": self.precision, "use_safetensors": True}
        pipeline = StableDiffusionImageVariationPipeline(
            vae=load_part(AutoencoderKL, folder, "vae", **weights),
            image_encoder=None,
            unet=load_part(UNet2DConditionModel, folder, "unet", **weights),
            scheduler=load_scheduler(folder, "scheduler"),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline._encode_image = condition  # the pipeline has no argument for an embedding
        return pipeline

    def generate(
        self,
        pipeline: Any,
        image_embed: Embeds,
        prompts: list[str],
        generators: list[torch.Generator],
        negative: Embeds | None,
    ) -> list[Image.Image]:
        negative = torch.zeros_like(image_embed) if negative is None else negative
        images: list[Image.Image] = pipeline(
            torch.stack([image_embed, negative], dim=1),
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            height=self.size,
            width=self.size,
            generator=generators,
        ).images
        return images


def condition(pairs: Tensor, device: torch.device, images: int, guided: bool) -> Tensor:
    """What the UNet attends to, (batch, 1, dim), of pairs of an embedding and the one that guidance leads away from."""
    given, negative = pairs.to(device).split(1, dim=1)
    return torch.cat([negative, given]) if guided else given
