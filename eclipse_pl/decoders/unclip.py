"""Decoders of OpenAI's ViT-L/14 space: Karlo (unCLIP with super-resolution) and Stable unCLIP."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from eclipse_pl.decoders.pipeline_decoder import PipelineDecoder, Precision
from eclipse_pl.decoders.pipeline_folder import load_part, load_scheduler
from eclipse_pl.model_folder import read_config


class UnclipDecoder(PipelineDecoder):
    """Karlo's decoder and its super-resolution, from an `UnCLIPPipeline` as it was published. Its own prior is not loaded.

    It reads the prompt too, by the text encoder in its folder. Guidance leads to the empty prompt and a learned embedding, so
    it takes no ``negative_embed``.

    Args:
        model: hub id or local folder of the pipeline, with safetensors.
        space: name or encoder tag of the CLIP space that it decodes.
        steps: denoising steps of the decoder.
        super_resolution_steps: steps from its small image to the large one.
        guidance: classifier-free guidance scale of the decoder; up to 1 there is none, and half the work.
        precision: of the weights and of everything that is computed.
        device: ``auto`` takes a GPU where there is one.
        batch_size: images at a time; halved where memory does not suffice. Fewer images are filled up to it.
        attention_slicing: compute attention in slices: less memory, slower.
        offload: keep each part of the pipeline on the GPU only while it works.
    """

    classes = ("UnCLIPPipeline",)
    parts = (
        "text_encoder",
        "tokenizer",
        "text_proj",
        "decoder",
        "super_res_first",
        "super_res_last",
        "decoder_scheduler",
        "super_res_scheduler",
    )

    def __init__(
        self,
        model: str = "kakaobrain/karlo-v1-alpha",
        space: str = "ViT-L-14/openai",
        steps: int = 50,
        super_resolution_steps: int = 7,
        guidance: float = 7.5,
        precision: Precision = "float32",
        device: str = "auto",
        batch_size: int = 8,
        attention_slicing: bool = False,
        offload: bool = False,
    ) -> None:
        if min(steps, super_resolution_steps) < 2:
            raise ValueError(
                f"{steps} steps and {super_resolution_steps} super_resolution_steps: Karlo's schedule needs 2 or more of each."
            )
        self.super_resolution_steps = super_resolution_steps
        super().__init__(model, space, steps, guidance, precision, device, batch_size, attention_slicing, offload)

    @property
    def options(self) -> dict[str, Any]:
        return {"super_resolution_steps": self.super_resolution_steps}

    @property
    def dim(self) -> int:
        config = read_config(self.configs / "text_proj")
        return int(config.get("clip_embeddings_dim", 768))

    def load(self, folder: Path) -> Any:
        from diffusers import UnCLIPPipeline, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
        from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        given = _GivenEmbedding(self.dim)
        # Part by part: the published index names the module "unclip", which diffusers no longer has under that name.
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
        image_embed: Float[Tensor, "batch dim"],
        prompts: list[str],
        generators: list[torch.Generator],
        negative_embed: Float[Tensor, "batch dim"] | None,
    ) -> list[Image.Image]:
        _refuse_negative(self.model, negative_embed)
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
    """Stands where the pipeline's prior and its scheduler stand: no steps, and what comes out is what was given."""

    init_noise_sigma, timesteps = 1.0, ()

    def __init__(self, dim: int) -> None:
        self.config = SimpleNamespace(embedding_dim=dim)
        self.image_embed: Tensor

    def set_timesteps(self, steps: int, device: torch.device) -> None:
        pass

    def post_process_latents(self, latents: Tensor) -> Tensor:
        return self.image_embed


class StableUnclipDecoder(PipelineDecoder):
    """Stable unCLIP: Stable Diffusion 2.1 finetuned on image embeddings; `small` takes those of ViT-L/14, Karlo's space.

    It reads the prompt too, by the text encoder in its folder. Guidance leads to the empty prompt and a zero embedding, so it
    takes no ``negative_embed``.

    Args:
        model: hub id or local folder of a `StableUnCLIPPipeline` or `StableUnCLIPImg2ImgPipeline`, with safetensors. The
            default is an unofficial copy: Stability AI removed the original from the hub in November 2025.
        space: name or encoder tag of the CLIP space that it decodes.
        steps: denoising steps.
        guidance: classifier-free guidance scale; up to 1 there is none, and half the work.
        noise_level: of the noise that is added to the embeddings, in steps of the model's noising schedule. 0 is least.
        size: side of the images in pixels; None is the size that it was trained at.
        precision: of the weights and of everything that is computed.
        device: ``auto`` takes a GPU where there is one.
        batch_size: images at a time; halved where memory does not suffice. Fewer images are filled up to it.
        attention_slicing: compute attention in slices: less memory, slower.
        offload: keep each part of the pipeline on the GPU only while it works.
    """

    classes = ("StableUnCLIPImg2ImgPipeline", "StableUnCLIPPipeline")
    parts = (
        "image_normalizer",
        "image_noising_scheduler",
        "tokenizer",
        "text_encoder",
        "unet",
        "scheduler",
        "vae",
    )

    def __init__(
        self,
        model: str = "sd2-community/stable-diffusion-2-1-unclip-small",
        space: str = "ViT-L-14/openai",
        steps: int = 20,
        guidance: float = 10.0,
        noise_level: int = 0,
        size: int | None = None,
        precision: Precision = "float32",
        device: str = "auto",
        batch_size: int = 8,
        attention_slicing: bool = False,
        offload: bool = False,
    ) -> None:
        self.noise_level, self.size = noise_level, size
        super().__init__(model, space, steps, guidance, precision, device, batch_size, attention_slicing, offload)

        if noise_level < 0:
            raise ValueError(f"noise_level {noise_level} is a step of the noising schedule: it must be 0 or more.")
        if size is not None and (size < 8 or size % 8):
            raise ValueError(f"size {size} cannot be generated by Stable unCLIP: take a multiple of 8.")

    @property
    def options(self) -> dict[str, Any]:
        return {"noise_level": self.noise_level, "size": self.size}

    @property
    def dim(self) -> int:
        config = read_config(self.configs / "image_normalizer")
        return int(config.get("embedding_dim", 768))

    def load(self, folder: Path) -> Any:
        from diffusers import AutoencoderKL, DDPMScheduler, StableUnCLIPImg2ImgPipeline, UNet2DConditionModel
        from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
        from transformers import CLIPTextModel, CLIPTokenizer

        weights = {"torch_dtype": self.precision, "use_safetensors": True}
        return StableUnCLIPImg2ImgPipeline(
            feature_extractor=None,
            # Embeddings come from the prior; of its image encoder the pipeline asks nothing but the precision.
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
        image_embed: Float[Tensor, "batch dim"],
        prompts: list[str],
        generators: list[torch.Generator],
        negative_embed: Float[Tensor, "batch dim"] | None,
    ) -> list[Image.Image]:
        _refuse_negative(self.model, negative_embed)
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


def _refuse_negative(model: str, negative_embed: Tensor | None) -> None:
    if negative_embed is not None:
        raise ValueError(
            f"{model} has a negative condition of its own, beside the empty prompt, and takes no other. Only Kandinsky's "
            "decoder is guided away from given embeddings."
        )
