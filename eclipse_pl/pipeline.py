"""EclipsePriorPipeline: an ECLIPSE prior as a diffusers pipeline. ``KandinskyV22Pipeline`` takes its output unchanged.

    prior = EclipsePriorPipeline.from_pretrained("FOLDER")          # as `python -m eclipse_pl export` writes it
    image_embeds, negative_image_embeds = prior("a red star", return_dict=False)

Unlike the pipeline of ECLIPSE's authors it has no argument that it ignores.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.kandinsky.pipeline_kandinsky_prior import KandinskyPriorPipelineOutput
from jaxtyping import Float
from torch import Tensor

from eclipse_pl.embedding import TextCondition
from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.priors.prior import gaussian_noise
from eclipse_pl.priors.released import PLAIN


class EclipsePriorTransformer(ModelMixin, PriorNetwork, ConfigMixin):
    """PriorNetwork without time token as a diffusers model. It reads folders of ECLIPSE's authors and of `export`.

    Args:
        zero_image_embed: Embedding of the all-zero image, Kandinsky's unconditional embedding. None in published folders.
        **plain: Options of ``PriorTransformer`` that have their defaults in every published prior.
    """

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 16,
        attention_head_dim: int = 32,
        num_layers: int = 10,
        embedding_dim: int = 768,
        num_embeddings: int = 77,
        additional_embeddings: int = 3,
        zero_image_embed: list[float] | None = None,
        norm_in_type: str | None = None,
        embedding_proj_norm_type: str | None = None,
        encoder_hid_proj_type: str | None = "linear",
        added_emb_type: str | None = "prd",
        time_embed_act_fn: str = "silu",
        dropout: float = 0.0,
        time_embed_dim: int | None = None,
        embedding_proj_dim: int | None = None,
        clip_embed_dim: int | None = None,
    ) -> None:
        values = locals()
        other = {name: values[name] for name, value in PLAIN.items() if values[name] != value}
        if additional_embeddings != 3 or other:
            raise ValueError(
                f"This folder is no ECLIPSE prior: it has {additional_embeddings} extra tokens instead of 3"
                f"{f' and {other}' if other else ''}. Diffusion priors are diffusers' own PriorTransformer."
            )
        PriorNetwork.__init__(
            self, embedding_dim, embedding_dim, num_embeddings, num_layers, num_attention_heads, attention_head_dim
        )


class EclipsePriorPipeline(DiffusionPipeline):
    """Captions to image embeddings in one forward pass.

    Args:
        prior: Network of the prior.
        text_encoder: ``CLIPTextModelWithProjection`` of the prior's space.
        tokenizer: Tokenizer of the text encoder.
        image_encoder: ``CLIPVisionModelWithProjection`` of the prior's space; needed only if the prior does not hold the
            embedding of the all-zero image. Published priors do not hold it.
    """

    model_cpu_offload_seq = "text_encoder->prior"
    _exclude_from_cpu_offload: ClassVar[list[str]] = ["image_encoder"]
    _optional_components: ClassVar[list[str]] = ["image_encoder"]

    def __init__(
        self, prior: EclipsePriorTransformer, text_encoder: Any, tokenizer: Any, image_encoder: Any | None = None
    ) -> None:
        super().__init__()
        self.register_modules(prior=prior, text_encoder=text_encoder, tokenizer=tokenizer, image_encoder=image_encoder)
        self._zero_image: Tensor | None = None

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        negative_prompt: str | list[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Float[Tensor, "images dim"] | None = None,
        output_type: str = "pt",
        return_dict: bool = True,
    ) -> KandinskyPriorPipelineOutput | tuple[Any, ...]:
        """Image embeddings and negative embeddings. Images of one prompt are neighbours.

        Args:
            prompt: One caption or a list.
            negative_prompt: Prompt that guides the decoder away: one for all prompts, or one for each. The prior predicts its
                embedding with the noise of the prompt. None takes the embedding of the all-zero image, as Kandinsky does.
            num_images_per_prompt: Number of embeddings of each prompt, with different noise.
            generator: Generator of the noise. With a list, one for each image, an embedding depends only on its prompt and
                generator.
            latents: The noise itself. Pass it without a generator.
            output_type: "pt" for tensors, "np" for arrays.
            return_dict: If False, return a tuple.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts:
            raise ValueError("prompt is an empty list: give at least one caption.")
        negatives = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else negative_prompt
        if num_images_per_prompt < 1:
            raise ValueError(f"num_images_per_prompt is {num_images_per_prompt}; it must be 1 or more.")
        if negatives is not None and len(negatives) != len(prompts):
            raise ValueError(
                f"{len(negatives)} negative prompts for {len(prompts)} prompts: pass one for each, or a single string for all."
            )
        if output_type not in ("pt", "np"):
            raise ValueError(f"output_type is {output_type!r}; choose one of 'pt', 'np'.")
        shape = (len(prompts) * num_images_per_prompt, int(self.prior.config["embedding_dim"]))
        if latents is not None and (generator is not None or tuple(latents.shape) != shape):
            raise ValueError(
                f"latents must have the shape {shape}, not {tuple(latents.shape)}, and a generator cannot be passed with them."
            )
        device, dtype = self._execution_device, self.prior.dtype
        if latents is None:
            latents = gaussian_noise(torch.empty(shape, device=device), generator)
        latents = latents.to(device, dtype)
        image_embeds = self._predict(prompts, num_images_per_prompt, latents)
        if negatives is None:
            negative = self.zero_image(device).to(dtype).expand(len(latents), -1)
        else:
            negative = self._predict(negatives, num_images_per_prompt, latents)
        self.maybe_free_model_hooks()
        embeds: tuple[Any, ...] = (image_embeds, negative)
        if output_type == "np":
            embeds = tuple(embed.cpu().float().numpy() for embed in embeds)
        return KandinskyPriorPipelineOutput(*embeds) if return_dict else embeds

    def encode_prompt(self, prompts: list[str]) -> TextCondition:
        """Encode captions without padding. Longer ones are truncated at the context as in CLIP, with a warning."""
        length = self.tokenizer.model_max_length
        whole = self.tokenizer(prompts, truncation=False, padding=False, verbose=False).input_ids
        if cut := [prompt for prompt, ids in zip(prompts, whole, strict=True) if len(ids) > length]:
            warnings.warn(
                f"CLIP reads {length} tokens; the end of this prompt is not read: {cut[0]!r}", UserWarning, stacklevel=2
            )
        tokens = self.tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        mask = tokens.attention_mask.bool()
        encoded = self.text_encoder(tokens.input_ids.to(self._execution_device))
        return TextCondition(encoded.text_embeds, encoded.last_hidden_state[mask], mask.sum(1).to(encoded.text_embeds.device))

    def zero_image(self, device: torch.device) -> Float[Tensor, "1 dim"]:
        """Embedding of the all-zero image, computed once."""
        if self._zero_image is None:
            stored = self.prior.config["zero_image_embed"]
            if stored is not None:
                self._zero_image = torch.tensor([stored])
            elif self.image_encoder is not None:
                size, encoder = self.image_encoder.config.image_size, self.image_encoder
                pixels = torch.zeros(1, 3, size, size, device=encoder.device, dtype=encoder.dtype)
                self._zero_image = encoder(pixels).image_embeds
            else:
                raise ValueError(
                    "This prior does not hold the embedding of the all-zero image. Pass negative_prompt, or give the pipeline "
                    "the image_encoder of its space (the folder image_encoder of published Kandinsky priors)."
                )
        return self._zero_image.to(device)

    def _predict(self, prompts: list[str], images: int, noise: Float[Tensor, "images dim"]) -> Float[Tensor, "images dim"]:
        rows = [row for row in range(len(prompts)) for _ in range(images)]
        text = self.encode_prompt(prompts).select(rows).to(noise.device, noise.dtype)
        predicted: Tensor = self.prior(noise, text)
        return predicted
