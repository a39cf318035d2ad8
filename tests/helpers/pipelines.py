"""Tiny untrained pipelines of the classes that decoders load, written as they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

UNET = {
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "resnet_time_scale_shift": "scale_shift",
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
}


def kandinsky(folder: Path, dim: int = 12, **scheduler: Any) -> Path:
    """Images of 32 x 32 from latents of 8 x 8; the scheduler as Kandinsky 2.2's, with a learned variance."""
    from diffusers import DDPMScheduler, KandinskyV22Pipeline, UNet2DConditionModel, VQModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        encoder_hid_dim=dim,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
        **UNET,
    )
    movq = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 32, 32),
        latent_channels=4,
        norm_num_groups=8,
        num_vq_embeddings=4,
        norm_type="spatial",
        mid_block_add_attention=False,
    )
    options = {"beta_start": 0.00085, "beta_end": 0.012, "variance_type": "learned_range", "thresholding": True, **scheduler}
    KandinskyV22Pipeline(unet, DDPMScheduler(**options), movq).save_pretrained(folder)
    return folder


def karlo(folder: Path, dim: int = 12) -> Path:
    """Images of 32 x 32 by super-resolution from 16 x 16; the index names the module ``unclip``, as the published one."""
    from diffusers import PriorTransformer, UnCLIPPipeline, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
    from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel

    torch.manual_seed(0)
    larger = {
        "sample_size": 32,
        "in_channels": 6,
        "out_channels": 3,
        "layers_per_block": 1,
        "down_block_types": ("ResnetDownsampleBlock2D",) * 2,
        "up_block_types": ("ResnetUpsampleBlock2D",) * 2,
        "block_out_channels": (16, 32),
        "norm_num_groups": 8,
    }
    pipeline = UnCLIPPipeline(
        prior=PriorTransformer(num_attention_heads=2, attention_head_dim=4, num_layers=1, embedding_dim=dim),
        decoder=UNet2DConditionModel(sample_size=16, in_channels=3, out_channels=6, class_embed_type="identity", **UNET),
        text_encoder=text_encoder(dim, projected=True),
        tokenizer=tokenizer(folder),
        text_proj=UnCLIPTextProjModel(clip_embeddings_dim=dim, time_embed_dim=64, cross_attention_dim=16),
        super_res_first=UNet2DModel(**larger),
        super_res_last=UNet2DModel(**larger),
        prior_scheduler=UnCLIPScheduler(prediction_type="sample", num_train_timesteps=1000, clip_sample_range=5.0),
        decoder_scheduler=UnCLIPScheduler(variance_type="learned_range", prediction_type="epsilon"),
        super_res_scheduler=UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="epsilon"),
    )
    pipeline.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["text_proj"] = ["unclip", "UnCLIPTextProjModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def stable_unclip(folder: Path, dim: int = 12) -> Path:
    """Images of 32 x 32, in the layout of stable-diffusion-2-1-unclip-small."""
    from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableUnCLIPImg2ImgPipeline, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
    from transformers import CLIPImageProcessor

    torch.manual_seed(0)
    StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(size=8, crop_size=8),
        image_encoder=image_encoder(dim),
        image_normalizer=StableUnCLIPImageNormalizer(dim),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer(folder),
        text_encoder=text_encoder(dim, projected=False),
        unet=UNet2DConditionModel(
            sample_size=16,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=(2, 4),
            class_embed_type="projection",
            projection_class_embeddings_input_dim=2 * dim,
            cross_attention_dim=dim,
        ),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction"),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            norm_num_groups=8,
        ),
    ).save_pretrained(folder)
    return folder


def stable_diffusion(folder: Path) -> Path:
    """A tiny StableDiffusionPipeline without a word of the world."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from eclipse_pl.encoders.clip_text import tokenizer_of
    from eclipse_pl.world.encoder import WorldEncoder

    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=80,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=32,
    )
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=8, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4, latent_channels=4,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer_of(WorldEncoder(device="cpu")),
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def stable_diffusion_1_5(folder: Path, cross: int = 16) -> Path:
    """Images of 16 x 16, in the layout of Stable Diffusion 1.5, with its text tower and its safety checker left out."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=text_encoder(cross, projected=False),
        tokenizer=tokenizer(folder),
        unet=tiny_unet(cross),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def stable_diffusion_xl(folder: Path) -> Path:
    """Images of 16 x 16, in the layout of SDXL: two text towers, and the scheduler of Turbo, which draws noise."""
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline

    torch.manual_seed(0)
    times = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64}
    StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=text_encoder(16, projected=False),
        text_encoder_2=text_encoder(16, projected=True),
        tokenizer=tokenizer(folder),
        tokenizer_2=tokenizer(folder.with_name(f"{folder.name}_second")),
        unet=tiny_unet(32, **times),
        scheduler=EulerAncestralDiscreteScheduler(timestep_spacing="trailing"),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def image_variations(folder: Path, dim: int = 12) -> Path:
    """Images of 16 x 16, in the layout of Stable Diffusion image variations, with its image encoder."""
    from diffusers import DDIMScheduler, StableDiffusionImageVariationPipeline
    from transformers import CLIPImageProcessor

    torch.manual_seed(0)
    StableDiffusionImageVariationPipeline(
        vae=tiny_vae(),
        image_encoder=image_encoder(dim),
        unet=tiny_unet(dim),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(size=8, crop_size=8),
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def flux(folder: Path) -> Path:
    """In the layout of FLUX.1-dev: two blocks of each kind, and a T5 that knows no word."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    torch.manual_seed(0)
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            norm_num_groups=4,
            latent_channels=4,
            shift_factor=0.0,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=text_encoder(16, projected=False),
        tokenizer=tokenizer(folder),
        text_encoder_2=T5EncoderModel(T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)),
        tokenizer_2=T5TokenizerFast(),
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    ).save_pretrained(folder)
    return folder


def flux_adapter(path: Path, dim: int = 12) -> Path:
    """A random adapter for `flux`, with the names of XLabs' file."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(7)
    shapes = {
        "ip_adapter_proj_model.proj.weight": (4 * 32, dim),
        "ip_adapter_proj_model.proj.bias": (4 * 32,),
        "ip_adapter_proj_model.norm.weight": (32,),
        "ip_adapter_proj_model.norm.bias": (32,),
    }
    for block in range(2):
        for kind in "kv":
            name = f"double_blocks.{block}.processor.ip_adapter_double_stream_{kind}_proj"
            shapes |= {f"{name}.weight": (32, 32), f"{name}.bias": (32,)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, path)
    return path


def tiny_unet(cross: int, **options: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=(1, 2),
        cross_attention_dim=cross,
        **options,
    )


def tiny_vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
    )


def ip_adapter(path: Path, pipeline: Path, dim: int = 12, tokens: int = 4) -> Path:
    """A random adapter for a pipeline's UNet, one file with the names of h94/IP-Adapter."""
    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file

    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet")
    cross, generator = unet.config.cross_attention_dim, torch.Generator().manual_seed(7)

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    tensors = {
        "image_proj.proj.weight": weight(tokens * cross, dim),
        "image_proj.proj.bias": weight(tokens * cross),
        "image_proj.norm.weight": weight(cross),
        "image_proj.norm.bias": weight(cross),
    }
    for place, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            width = unet.get_submodule(name.removesuffix(".processor")).inner_dim
            tensors |= {f"ip_adapter.{place}.to_{kind}_ip.weight": weight(width, cross) for kind in "kv"}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def kandinsky_prior(folder: Path, dim: int = 12) -> Path:
    """What makes image embeddings for `kandinsky`."""
    from diffusers import KandinskyV22PriorPipeline, PriorTransformer, UnCLIPScheduler
    from transformers import CLIPImageProcessor

    torch.manual_seed(0)
    KandinskyV22PriorPipeline(
        prior=PriorTransformer(num_attention_heads=2, attention_head_dim=4, num_layers=1, embedding_dim=dim),
        image_encoder=image_encoder(dim),
        text_encoder=text_encoder(dim, projected=True),
        tokenizer=tokenizer(folder),
        scheduler=UnCLIPScheduler(prediction_type="sample", num_train_timesteps=1000, clip_sample_range=5.0),
        image_processor=CLIPImageProcessor(size=8, crop_size=8),
    ).save_pretrained(folder)
    return folder


def wuerstchen(folder: Path) -> tuple[Path, Path]:
    """Decoder and prior; their indices name the module ``wuerstchen``, as the published ones."""
    from diffusers import DDPMWuerstchenScheduler, WuerstchenDecoderPipeline, WuerstchenPriorPipeline
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior

    torch.manual_seed(0)
    unet = WuerstchenDiffNeXt(
        c_cond=32, c_hidden=[32], nhead=[-1], blocks=[1], level_config=["CT"], clip_embd=32, inject_effnet=[False]
    )
    decoder, prior = folder / "decoder", folder / "prior"
    WuerstchenDecoderPipeline(
        tokenizer=tokenizer(decoder),
        text_encoder=text_encoder(32, projected=False),
        decoder=unet,
        scheduler=DDPMWuerstchenScheduler(),
        vqgan=PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=16),
    ).save_pretrained(decoder)
    WuerstchenPriorPipeline(
        tokenizer=tokenizer(prior),
        text_encoder=text_encoder(32, projected=False),
        prior=WuerstchenPrior(c_in=2, c=8, c_cond=32, c_r=8, depth=2, nhead=2),
        scheduler=DDPMWuerstchenScheduler(),
    ).save_pretrained(prior)
    for place in (decoder, prior):
        index = json.loads((place / "model_index.json").read_text())
        for part, named in index.items():
            if isinstance(named, list) and named[1] in ("PaellaVQModel", "WuerstchenDiffNeXt", "WuerstchenPrior"):
                index[part] = ["wuerstchen", named[1]]
        (place / "model_index.json").write_text(json.dumps(index))
    return decoder, prior


def image_encoder(dim: int) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sides = {"image_size": 8, "patch_size": 4}
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(hidden_size=8, projection_dim=dim, num_hidden_layers=1, num_attention_heads=2, **sides)
    )


def text_encoder(dim: int, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(LETTERS) * 2 + 3,
        hidden_size=dim,
        intermediate_size=16,
        projection_dim=dim,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=len(LETTERS) * 2,
        eos_token_id=len(LETTERS) * 2 + 1,
        pad_token_id=len(LETTERS) * 2 + 1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tokenizer(folder: Path) -> Any:
    """CLIP's byte pairs with no merges: one token a letter."""
    from transformers import CLIPTokenizer

    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>", "<|unk|>"]
    files = folder.with_name(folder.name + "_tokenizer")
    files.mkdir(parents=True)
    (files / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (files / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(files, model_max_length=77)
