"""IPAdapterDecoder: Stable Diffusion 1.5 and SDXL, driven by an image embedding alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from eclipse_pl.arguments import one_of
from eclipse_pl.decoders.adapter_file import AdapterFile, require_scale, shapes_of
from eclipse_pl.decoders.decoder import Embeds
from eclipse_pl.decoders.lora_file import LoraFile
from eclipse_pl.decoders.pipeline_decoder import PipelineDecoder, require_size
from eclipse_pl.decoders.pipeline_folder import Classes, load_part, load_scheduler, quiet_diffusers
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.model_folder import read_config

Scheduler = Literal["own", "ddim", "euler", "lcm"]
COMMON = ("tokenizer", "text_encoder", "unet", "scheduler", "vae")
PUBLISHED = {
    (768, 1024): "models/ip-adapter_sd15.safetensors",
    (768, 1280): "models/ip-adapter_sd15_vit-G.safetensors",
    (2048, 1024): "sdxl_models/ip-adapter_sdxl_vit-h.safetensors",
    (2048, 1280): "sdxl_models/ip-adapter_sdxl.safetensors",
}
"""Width of the UNet's text states, and of the embedding -> file of h94/IP-Adapter. 768 is Stable Diffusion 1.5, 2048 is SDXL.
1024 is ViT-H-14/laion2b_s32b_b79k, 1280 is ViT-bigG-14/laion2b_s39b_b160k."""


class IPAdapterDecoder(PipelineDecoder):
    """Stable Diffusion 1.5 or SDXL with an image-prompt adapter (IP-Adapter, Ye et al. 2023), the text prompt empty.

    The adapters of ``ViT-bigG-14/laion2b_s39b_b160k`` read the space of Kandinsky 2.2, so priors of Kandinsky drive Stable
    Diffusion and SDXL as they are. Those of ``ViT-H-14/laion2b_s32b_b79k`` need a prior of that space. Guidance leads away
    from the zero vector, which the adapters saw in training, or from ``negative_embed``. Not run on a GPU, nor with the
    published weights, yet.

    Args:
        model: Hub id or local folder of a `StableDiffusionPipeline` (1.5 and its relatives) or a
            `StableDiffusionXLPipeline`, with safetensors. The pipeline must not have an adapter yet.
        adapter: Hub id or local folder of the adapter.
        adapter_file: Path of the safetensors file in ``adapter``.
        space: Name or encoder tag of the CLIP space whose embeddings the adapter reads.
        scale: Weight of the image prompt. 1 is that of an empty text prompt.
        steps: Denoising steps. 1 to 8 for SDXL Turbo, and with LCM-LoRA.
        guidance: Classifier-free guidance scale. 1 or less turns guidance off and halves the work, as SDXL Turbo and LCM-LoRA
            need it.
        scheduler: ``own`` for the folder's scheduler, ``ddim``, ``euler``, or ``lcm``, which LCM-LoRA needs.
        size: Side of the images in pixels. The default is the training size.
        lora: Hub id or local folder of a LoRA, such as latent-consistency/lcm-lora-sdxl. It needs `peft`.
        read_caption: Give the caption to the pipeline as its text prompt. The decoder then generates what the caption says,
            whatever the prior predicts, so scores are no longer those of the prior alone. A scorecard says so.
        **options: Those of PipelineDecoder. ``attention_slicing`` must be false, because it would take out the adapter.
    """

    classes: ClassVar[Classes] = {
        "StableDiffusionPipeline": COMMON,
        "StableDiffusionXLPipeline": (*COMMON, "tokenizer_2", "text_encoder_2"),
    }
    slices_attention: ClassVar[bool] = False

    def __init__(
        self,
        model: str = "stabilityai/stable-diffusion-xl-base-1.0",
        adapter: str = "h94/IP-Adapter",
        adapter_file: str = "sdxl_models/ip-adapter_sdxl.safetensors",
        space: str = "ViT-bigG-14/laion2b_s39b_b160k",
        scale: float = 1.0,
        steps: int = 30,
        guidance: float = 5.0,
        scheduler: Scheduler = "own",
        size: int | None = None,
        lora: str | None = None,
        read_caption: bool = False,
        attention_slicing: bool = False,
        **options: Any,
    ) -> None:
        one_of("scheduler", scheduler, get_args(Scheduler))
        require_size(size, 8, "Stable Diffusion")
        require_scale(scale)
        if attention_slicing:
            raise ValueError(
                "attention_slicing replaces the attention of the adapter, and no image would depend on its embedding. Set it "
                "to false; offload or a smaller batch_size save memory too."
            )
        self.adapter = AdapterFile(adapter, adapter_file)
        self.lora = None if lora is None else LoraFile(lora)
        self.scale, self.scheduler, self.size, self.reads_caption = scale, scheduler, size, read_caption
        super().__init__(model, space, steps, guidance, **options)

    @property
    def options(self) -> dict[str, Any]:
        own = {"scale": self.scale, "scheduler": self.scheduler, "size": self.size}
        adapter = {"adapter": self.adapter.file, "adapter_weights": self.adapter.sha256}
        return own | adapter | ({} if self.lora is None else {"lora": self.lora.source, "lora_weights": self.lora.sha256})

    @property
    def dim(self) -> int:
        return self.adapter.dim

    @property
    def is_local(self) -> bool:
        return super().is_local and self.adapter.is_local

    def require_space(self, other: ClipSpace, name: str) -> None:
        """See `Decoder.require_space`. The error names the adapter that fits."""
        try:
            super().require_space(other, name)
        except ValueError as error:
            fitting = self._published_for(other.dim)
            if fitting in (None, self.adapter.file) or other.normalised:
                raise
            raise ValueError(f"{error} The adapter of h94/IP-Adapter that reads {other.dim} numbers is {fitting}.") from None

    def _published_for(self, dim: int) -> str | None:
        """Published adapter for the same pipeline that reads embeddings ``dim`` wide. Nothing is fetched to find it."""
        width = next((width for (width, _), file in PUBLISHED.items() if file == self.adapter.file), None)
        if width is None and super().is_local:
            width = self._text_width
        return None if width is None else PUBLISHED.get((width, dim))

    def check(self) -> None:
        super().check()
        require_no_adapter(self.configs / "unet", self.model)
        tokens_width, width = self.adapter.projection[0], self._text_width
        if tokens_width != 4 * width:
            fitting = PUBLISHED.get((width, self.adapter.dim))
            hint = f" Of h94/IP-Adapter that is {fitting}." if fitting else ""
            raise ValueError(
                f"{self.adapter.file} makes tokens {tokens_width // 4} wide, and the UNet of {self.model} reads tokens "
                f"{width} wide: it is the adapter of another Stable Diffusion. Take one for this pipeline.{hint}"
            )

    @property
    def _text_width(self) -> int:
        return int(read_config(self.configs / "unet").get("cross_attention_dim", 0))

    def load(self, folder: Path) -> Any:
        import diffusers
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        self.check()  # of the hub only the configs were there before
        weights = {"torch_dtype": self.precision, "use_safetensors": True}
        parts = {
            "unet": load_part(diffusers.UNet2DConditionModel, folder, "unet", **weights),
            "vae": load_part(diffusers.AutoencoderKL, folder, "vae", **weights),
            "text_encoder": load_part(CLIPTextModel, folder, "text_encoder", **weights),
            "tokenizer": load_part(CLIPTokenizer, folder, "tokenizer"),
            "scheduler": self._scheduler(folder),
        }
        if self.kind == "StableDiffusionXLPipeline":
            second = load_part(CLIPTextModelWithProjection, folder, "text_encoder_2", **weights)
            parts |= {"text_encoder_2": second, "tokenizer_2": load_part(CLIPTokenizer, folder, "tokenizer_2")}
            # A watermark would depend on whether a package is installed.
            pipeline = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
        else:
            unchecked = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
            pipeline = diffusers.StableDiffusionPipeline(**parts, **unchecked)
        if self.lora is not None:
            self.lora.merge_into(pipeline)
        self._load_adapter(pipeline)
        return pipeline

    def _scheduler(self, folder: Path) -> Any:
        from diffusers import DDIMScheduler, EulerDiscreteScheduler, LCMScheduler

        own = load_scheduler(folder, "scheduler")
        kinds = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "lcm": LCMScheduler}
        return own if self.scheduler == "own" else kinds[self.scheduler].from_config(own.config)

    def _load_adapter(self, pipeline: Any) -> None:
        layers = sum(name.endswith("attn2.processor") for name in pipeline.unet.attn_processors)
        try:
            if layers != self.adapter.keys_width[0]:
                raise ValueError(f"it has {self.adapter.keys_width[0]} layers, and the UNet {layers}")
            with quiet_diffusers():
                folder, name = self.adapter.path.parent, self.adapter.path.name
                pipeline.load_ip_adapter(str(folder), "", name, image_encoder_folder=None, local_files_only=True)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"The adapter {self.adapter.file} does not fit the UNet of {self.model} ({error}). Take the adapter that was "
                "trained for it."
            ) from error
        pipeline.set_ip_adapter_scale(self.scale)
        pipeline.prepare_ip_adapter_image_embeds = as_given

    def generate(
        self,
        pipeline: Any,
        image_embed: Embeds,
        prompts: list[str],
        generators: list[torch.Generator],
        negative: Embeds | None,
    ) -> list[Image.Image]:
        negative = torch.zeros_like(image_embed) if negative is None else negative
        # One empty prompt for all images is encoded once.
        text = {"prompt": prompts} if self.reads_caption else {"prompt": "", "num_images_per_prompt": len(image_embed)}
        with warnings.catch_warnings():
            # in half precision, the pipeline of SDXL calls a method of its own that diffusers has deprecated
            warnings.filterwarnings("ignore", "`upcast_vae` is deprecated", FutureWarning)
            images: list[Image.Image] = pipeline(
                **text,
                # SDXL replaces a negative prompt that is not given by zeros, which the adapter has not seen in training.
                negative_prompt=[""] * len(image_embed) if self.reads_caption else "",
                ip_adapter_image_embeds=[image_embed[:, None], negative[:, None]],
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                height=self.size,
                width=self.size,
                generator=generators,
            ).images
        return images


def as_given(image: None, embeds: list[Tensor], device: torch.device, images: int, guided: bool) -> list[Tensor]:
    """One embedding for each image of a batch, in place of diffusers' ``prepare_ip_adapter_image_embeds``.

    That method repeats all embeddings once for each image of the batch, and attention then folds them into the tokens of each
    image: every image sees the embeddings of all others, without an error (diffusers issue 9813).
    """
    given, negative = (one.to(device) for one in embeds)
    return [torch.cat([negative, given]) if guided else given]


def require_no_adapter(unet: Path, model: str) -> None:
    """Raise ValueError if a UNet was saved with an adapter. Its config does not always say so, but its weights do."""
    names = [name for file in unet.glob("*.safetensors") for name in shapes_of(file)]
    if read_config(unet).get("encoder_hid_dim_type") or any("to_k_ip" in name for name in names):
        raise ValueError(
            f"{model} has an adapter already, and only one embedding goes in. Take the pipeline without it (diffusers' "
            "`unload_ip_adapter`, then `save_pretrained`)."
        )
