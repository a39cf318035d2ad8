"""Decoders of OpenAI's ViT-L/14 space: Karlo (unCLIP with super-resolution) and Stable unCLIP."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from eclipse_pl.arguments import require_whole
from eclipse_pl.decoders.decoder import Embeds
from eclipse_pl.decoders.pipeline_decoder import PipelineDecoder, require_size
from eclipse_pl.decoders.pipeline_folder import Classes, load_part, load_scheduler
from eclipse_pl.model_folder import read_config


class UnclipDecoder(PipelineDecoder):
    """Karlo's decoder and its super-resolution, from a published `UnCLIPPipeline`. The pipeline's own prior is not loaded.

    It also reads the prompt, with the text encoder in its folder. Guidance leads away from the empty prompt and a learned
    embedding, so it takes no ``negative_embed``. On a CPU ``precision`` is float32: torch does not enlarge images in half
    precision there.

    Args:
        model: Hub id or local folder of the pipeline, with safetensors.
        space: Name or encoder tag of the CLIP space.
        steps: Denoising steps of the decoder.
        super_resolution_steps: Steps from the small image to the large one.
        guidance: Classifier-free guidance scale of the decoder. 1 or less turns guidance off and halves the work.
        **options: Those of PipelineDecoder.
    """

    reads_caption = True
    half_on_cpu = False
    classes: ClassVar[Classes] = {
        "UnCLIPPipeline": (
            "text_encoder",
            "tokenizer",
            "text_proj",
            "decoder",
            "super_res_first",
            "super_res_last",
            "decoder_scheduler",
            "super_res_scheduler",
        )
    }

    def __init__(
        self,
        model: str = "kakaobrain/karlo-v1-alpha",
        space: str = "ViT-L-14/openai",
        steps: int = 50,
        super_resolution_steps: int = 7,
        guidance: float = 7.5,
        **options: Any,
    ) -> None:
        if min(steps, super_resolution_steps) < 2:
            raise ValueError(
                f"{steps} steps and {super_resolution_steps} super_resolution_steps: Karlo's schedule needs 2 or more of each."
            )
        self.super_resolution_steps = super_resolution_steps
        super().__init__(model, space, steps, guidance, **options)

    @property
    def takes_negative(self) -> bool:
        return False

    @property
    def options(self) -> dict[str, Any]:
        return {"super_resolution_steps": self.super_resolution_steps}

    @property
    def dim(self) -> int:
        return int(read_config(self.configs / "text_proj").get("clip_embeddings_dim", 768))

    def load(self, folder: Path) -> Any:
        from diffusers import UnCLIPPipeline, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
        from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        given = _GivenEmbedding(self.dim)
        # Part by part, because the published index names a module "unclip", which diffusers has moved.
        weights = {"torch_dtype": self.precision, "use_safetensors": True}
        return UnCLIPPipeline(
            prior=given,
            decoder=load_part(UNet2DConditionModel, folder, "decoder", **weights),
            text_encoder=load_part(CLIPTextModelWithProjection, folder, "text_encoder", **weights),
            tokenizer=load_part(CLIPTokenizer, folder, "tokenizer"),
            text_proj=load_part(UnCLIPTextProjModel, folder, "text_proj", **weights),
            super_res_first=load_part(UNet2DModel, folder, "super_res_first", **weights),
            super_res_last=load_part(UNet2DModel, folder, "super_res_last", **weights),
            prior_scheduler=given,
            decoder_scheduler=load_part(UnCLIPScheduler, folder, "decoder_scheduler"),
            super_res_scheduler=load_part(UnCLIPScheduler, folder, "super_res_scheduler"),
        )

    def generate(
        self,
        pipeline: Any,
        image_embed: Embeds,
        prompts: list[str],
        generators: list[torch.Generator],
        negative: Embeds | None,
    ) -> list[Image.Image]:
        pipeline.prior.image_embed = image_embed
        images: list[Image.Image] = pipeline(
            prompts,
            prior_latents=image_embed,
            prior_guidance_scale=self.guidance,
            decoder_num_inference_steps=self.steps,
            decoder_guidance_scale=self.guidance,
            super_res_num_inference_steps=self.super_resolution_steps,
            generator=generators,
        ).images
        return images


class _GivenEmbedding:
    """Replaces the pipeline's prior and its scheduler: it runs no steps and returns the given embedding."""

    init_noise_sigma, timesteps = 1.0, ()

    def __init__(self, dim: int) -> None:
        self.config = SimpleNamespace(embedding_dim=dim)
        self.image_embed: Tensor

    def set_timesteps(self, steps: int, device: torch.device) -> None:
        pass

    def post_process_latents(self, latents: Tensor) -> Tensor:
        return self.image_embed


class StableUnclipDecoder(PipelineDecoder):
    """Stable unCLIP: Stable Diffusion 2.1 finetuned on image embeddings. `small` takes those of ViT-L/14, Karlo's space.

    It also reads the prompt, with the text encoder in its folder. Guidance leads away from the empty prompt and a zero
    embedding, so it takes no ``negative_embed``.

    Args:
        model: Hub id or local folder of a `StableUnCLIPPipeline` or `StableUnCLIPImg2ImgPipeline`, with safetensors. The
            default is an unofficial copy: Stability AI removed the original from the hub in November 2025.
        space: Name or encoder tag of the CLIP space.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale. 1 or less turns guidance off and halves the work.
        noise_level: Noise that is added to the embeddings, as a step of the model's noising schedule. 0 adds least.
        size: Side of the images in pixels. The default is the training size.
        **options: Those of PipelineDecoder.
    """

    reads_caption = True
    classes: ClassVar[Classes] = dict.fromkeys(
        ("StableUnCLIPImg2ImgPipeline", "StableUnCLIPPipeline"),
        ("image_normalizer", "image_noising_scheduler", "tokenizer", "text_encoder", "unet", "scheduler", "vae"),
    )

    def __init__(
        self,
        model: str = "sd2-community/stable-diffusion-2-1-unclip-small",
        space: str = "ViT-L-14/openai",
        steps: int = 20,
        guidance: float = 10.0,
        noise_level: int = 0,
        size: int | None = None,
        **options: Any,
    ) -> None:
        self.noise_level, self.size = noise_level, size
        super().__init__(model, space, steps, guidance, **options)
        require_whole("noise_level", noise_level, 0, ": it is a step of the noising schedule")
        require_size(size, 8, "Stable unCLIP")

    @property
    def takes_negative(self) -> bool:
        return False

    @property
    def options(self) -> dict[str, Any]:
        return {"noise_level": self.noise_level, "size": self.size}

    def check(self) -> None:
        super().check()
        steps = int(read_config(self.configs / "image_noising_scheduler", "scheduler_config.json")["num_train_timesteps"])
        if self.noise_level >= steps:
            raise ValueError(
                f"noise_level is {self.noise_level}, and the noising schedule of {self.model} has the steps 0 to {steps - 1}."
            )

    @property
    def dim(self) -> int:
        return int(read_config(self.configs / "image_normalizer").get("embedding_dim", 768))

    def load(self, folder: Path) -> Any:
        from diffusers import AutoencoderKL, DDPMScheduler, StableUnCLIPImg2ImgPipeline, UNet2DConditionModel
        from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
        from transformers import CLIPTextModel, CLIPTokenizer

        weights = {"torch_dtype": self.precision, "use_safetensors": True}
        return StableUnCLIPImg2ImgPipeline(
            feature_extractor=None,
            # The prior gives the embeddings. The pipeline reads only the precision of its image encoder.
            image_encoder=StableUnCLIPImageNormalizer(1).to(self.precision),
            image_normalizer=load_part(StableUnCLIPImageNormalizer, folder, "image_normalizer", **weights),
            image_noising_scheduler=load_part(DDPMScheduler, folder, "image_noising_scheduler"),
            tokenizer=load_part(CLIPTokenizer, folder, "tokenizer"),
            text_encoder=load_part(CLIPTextModel, folder, "text_encoder", **weights),
            unet=load_part(UNet2DConditionModel, folder, "unet", **weights),
            scheduler=load_scheduler(folder, "scheduler"),
            vae=load_part(AutoencoderKL, folder, "vae", **weights),
        )

    def generate(
        self,
        pipeline: Any,
        image_embed: Embeds,
        prompts: list[str],
        generators: list[torch.Generator],
        negative: Embeds | None,
    ) -> list[Image.Image]:
        images: list[Image.Image] = pipeline(
            prompt=prompts,
            image_embeds=image_embed,
            noise_level=self.noise_level,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            height=self.size,
            width=self.size,
            generator=generators,
        ).images
        return images
