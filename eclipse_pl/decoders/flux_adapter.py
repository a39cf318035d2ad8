"""FluxAdapterDecoder: FLUX.1-dev, driven by an image embedding alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from eclipse_pl.arguments import require_finite
from eclipse_pl.decoders.adapter_file import AdapterFile, require_scale
from eclipse_pl.decoders.decoder import Embeds
from eclipse_pl.decoders.pipeline_decoder import PipelineDecoder, require_size
from eclipse_pl.decoders.pipeline_folder import Classes, load_part, load_scheduler, quiet_diffusers
from eclipse_pl.model_folder import read_config


class FluxAdapterDecoder(PipelineDecoder):
    """FLUX.1-dev with the image-prompt adapter of XLabs, which reads ViT-L/14, the text prompt empty.

    Guidance leads away from the zero vector, or from ``negative_embed``. The weights of FLUX.1-dev are for non-commercial use,
    and the hub gives them to users who agree to that. Not run on a GPU, nor with the published weights, yet.

    Args:
        model: Hub id or local folder of a `FluxPipeline`, with safetensors.
        adapter: Hub id or local folder of the adapter.
        adapter_file: Path of the safetensors file in ``adapter``.
        space: Name or encoder tag of the CLIP space.
        scale: Weight of the image prompt.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale. 1 or less turns guidance off and halves the work.
        distilled_guidance: The scale that FLUX.1-dev reads as a number, because it was distilled from guided predictions.
        size: Side of the images in pixels. The default is the training size.
        **options: Those of PipelineDecoder. ``attention_slicing`` must be false: the transformer has none.
    """

    classes: ClassVar[Classes] = {
        "FluxPipeline": ("transformer", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    }
    slices_attention: ClassVar[bool] = False

    def __init__(
        self,
        model: str = "black-forest-labs/FLUX.1-dev",
        adapter: str = "XLabs-AI/flux-ip-adapter-v2",
        adapter_file: str = "ip_adapter.safetensors",
        space: str = "ViT-L-14/openai",
        scale: float = 1.0,
        steps: int = 28,
        guidance: float = 4.0,
        distilled_guidance: float = 3.5,
        size: int | None = None,
        attention_slicing: bool = False,
        **options: Any,
    ) -> None:
        require_size(size, 16, "FLUX")
        require_scale(scale)
        require_finite("distilled_guidance", distilled_guidance)
        if attention_slicing:
            raise ValueError("attention_slicing is not for FLUX's transformer: set it to false, and offload to true.")
        self.adapter = AdapterFile(adapter, adapter_file)
        self.scale, self.distilled_guidance, self.size = scale, distilled_guidance, size
        super().__init__(model, space, steps, guidance, **options)

    @property
    def options(self) -> dict[str, Any]:
        adapter = {"adapter": self.adapter.file, "adapter_weights": self.adapter.sha256}
        return {"scale": self.scale, "distilled_guidance": self.distilled_guidance, "size": self.size} | adapter

    @property
    def dim(self) -> int:
        return self.adapter.dim

    @property
    def is_local(self) -> bool:
        return super().is_local and self.adapter.is_local

    def check(self) -> None:
        super().check()
        transformer = read_config(self.configs / "transformer")
        layers, width = self.adapter.keys_width
        if (layers, width) != (transformer["num_layers"], transformer["joint_attention_dim"]):
            raise ValueError(
                f"{self.adapter.file} has {layers} layers that read tokens {width} wide, and the transformer of {self.model} "
                f"has {transformer['num_layers']} that read {transformer['joint_attention_dim']}: take the adapter that was "
                "trained for this pipeline."
            )

    def load(self, folder: Path) -> Any:
        from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
        from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

        self.check()  # of the hub only the configs were there before
        weights = {"torch_dtype": self.precision, "use_safetensors": True}
        pipeline = FluxPipeline(
            scheduler=load_scheduler(folder, "scheduler"),
            vae=load_part(AutoencoderKL, folder, "vae", **weights),
            text_encoder=load_part(CLIPTextModel, folder, "text_encoder", **weights),
            tokenizer=load_part(CLIPTokenizer, folder, "tokenizer"),
            text_encoder_2=load_part(T5EncoderModel, folder, "text_encoder_2", **weights),
            tokenizer_2=load_part(T5TokenizerFast, folder, "tokenizer_2"),
            transformer=load_part(FluxTransformer2DModel, folder, "transformer", **weights),
        )
        place, name = self.adapter.path.parent, self.adapter.path.name
        with quiet_diffusers():
            pipeline.load_ip_adapter(str(place), name, image_encoder_pretrained_model_name_or_path=None, local_files_only=True)
        pipeline.set_ip_adapter_scale(self.scale)
        pipeline.prepare_ip_adapter_image_embeds = as_given
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
            prompt="",
            negative_prompt="",
            num_images_per_prompt=len(image_embed),  # one empty prompt for all images is encoded once
            ip_adapter_image_embeds=[image_embed[:, None]],
            negative_ip_adapter_image_embeds=[negative[:, None]],
            num_inference_steps=self.steps,
            true_cfg_scale=self.guidance,
            guidance_scale=self.distilled_guidance,
            height=self.size,
            width=self.size,
            generator=generators,
        ).images
        return images


def as_given(image: None, embeds: list[Tensor], device: torch.device, images: int) -> list[Tensor]:
    """One embedding for each image of a batch; see `eclipse_pl.decoders.ip_adapter.as_given`."""
    return [one.to(device) for one in embeds]
