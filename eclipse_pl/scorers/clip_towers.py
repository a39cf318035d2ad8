"""The two towers of a CLIP, from transformers or open_clip, for scorers that compare images with texts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.model_folder import find_model_folder
from eclipse_pl.open_clip_model import LOCAL, load_open_clip, open_clip_tag
from eclipse_pl.scorers.network import TOKENIZER_FILES, PretrainedNetwork, ScorerNetwork


class ClipTowers(ScorerNetwork):
    """Raw embeddings in float32. Texts are cut at the model's context length."""

    @abstractmethod
    def embed_images(self, images: Sequence[Image.Image]) -> Float[Tensor, "images dim"]: ...

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]: ...

    @property
    def scale(self) -> float:
        """The model's factor for cosines."""
        return float(self.model.logit_scale.float().exp())

    def cosines(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Float[Tensor, " images"]:
        """Return the cosine of each image and its text. A text that several images share is encoded once."""
        distinct = list(dict.fromkeys(texts))
        embeddings = self.embed_texts(distinct)[[distinct.index(text) for text in texts]]
        return F.cosine_similarity(self.embed_images(images), embeddings)


class TransformersClip(PretrainedNetwork, ClipTowers):
    """A ``CLIPModel`` by folder or hub id (``openai/clip-vit-base-patch32``).

    Args:
        path: Folder or hub id of the weights.
        processor: Folder or hub id of tokenizer and image processor. The default is ``path``.
        **options: Those of PretrainedNetwork.
    """

    classes = ("CLIPModel",)

    def __init__(self, path: str, processor: str | None = None, **options: Any) -> None:
        super().__init__(path, **options)
        self.processor_path = processor

    @cached_property
    def processor_folder(self) -> Path:
        return self.folder if self.processor_path is None else find_model_folder(self.processor_path, TOKENIZER_FILES)

    # Not get_image_features and get_text_features: they return a tensor in transformers 4 and an object in 5.
    def embed_images(self, images: Sequence[Image.Image]) -> Float[Tensor, "images dim"]:
        pixels = self.image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        pooled = self.model.vision_model(pixel_values=pixels.to(self.device, self.precision)).pooler_output
        return self.model.visual_projection(pooled).float()

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        context = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=context, return_tensors="pt")
        pooled = self.model.text_model(
            input_ids=tokens["input_ids"].to(self.device), attention_mask=tokens["attention_mask"].to(self.device)
        ).pooler_output
        return self.model.text_projection(pooled).float()


class OpenClip(ClipTowers):
    """A model of open_clip.

    Args:
        model: Name of an open_clip model (``ViT-B-32``), or ``local-dir:/folder``.
        pretrained: Tag of that model, or a checkpoint file (safetensors, or a torch file that loads with
            ``weights_only=True``). Only ``local-dir:`` needs none.
        device: ``auto`` takes a GPU where there is one.
    """

    def __init__(self, model: str, pretrained: str | None = None, device: str = "auto") -> None:
        super().__init__(device)
        self.model_name, self.pretrained = model, pretrained

    @property
    def name(self) -> str:
        if self.model_name.startswith(LOCAL):
            return Path(self.model_name.removeprefix(LOCAL)).resolve().name
        return f"{self.model_name}/{Path(self.pretrained or '').stem}"

    @property
    def version(self) -> str:
        return open_clip_tag(self.model_name, self.pretrained)

    def build(self) -> Any:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        model, self.tokenizer, _ = load_open_clip(self.model_name, self.pretrained)
        self.transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
        return model

    def embed_images(self, images: Sequence[Image.Image]) -> Float[Tensor, "images dim"]:
        pixels = torch.stack([self.transform(image) for image in images])
        return self.model.encode_image(pixels.to(self.device)).float()

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        return self.model.encode_text(self.tokenizer(list(texts)).to(self.device)).float()
