"""OpenClipEncoder: every CLIP of open_clip, from OpenAI's ViT-L/14 to the CLIP of the world."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eclipse_pl.device import pick_device
from eclipse_pl.embedding import TextCondition
from eclipse_pl.encoders.cropped import Cropped
from eclipse_pl.encoders.encoder import Encoder, Tokens
from eclipse_pl.open_clip_model import LOCAL, load_open_clip, model_config

_OTHER_TOWER = (
    "The text tower of {} is not causal, or is not pooled at its end token, so its token states differ from CLIP's. "
    "Use a model with CLIP's own text tower, such as ViT-B-32, ViT-L-14, ViT-H-14 or ViT-bigG-14."
)
_MOST_ASPECT = 16
"""Largest ratio of long to short side at which open_clip's transform gets the whole image."""
PRECISION = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class OpenClipEncoder(Encoder):
    """An open_clip model with open_clip's own text tower (causal, pooled at the end token, as in CLIP).

    Args:
        model: Name of an open_clip model (``ViT-L-14``, ``ViT-bigG-14``), or ``local-dir:/folder`` with
            open_clip_config.json, open_clip_model.safetensors and optional tokenizer files. The pretrained tag selects
            OpenAI's activation. For OpenAI weights in a *local file* the name must select it: ``ViT-L-14-quickgelu``.
        pretrained: A tag of that model, a checkpoint file (safetensors, or a torch file that loads with
            ``weights_only=True``), or ``random``: untrained weights, which are always equal. None only with ``local-dir:``.
        precision: Precision of the matrix products, by autocast. Weights and results stay float32.
        device: Device of the model; ``auto`` takes a GPU if there is one.
        name: Name of the space; by default model/pretrained, or the folder's name.
    """

    def __init__(
        self,
        model: str = "ViT-L-14",
        pretrained: str | None = "openai",
        precision: Literal["float32", "bfloat16", "float16"] = "float32",
        device: str = "auto",
        name: str | None = None,
    ) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        if precision not in PRECISION:
            raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISION)}.")
        self.device = pick_device(device, float64=False)
        self.precision = PRECISION[precision]
        require_causal(model)
        self.model, self.tokenizer, self.tag = load_open_clip(model, pretrained)
        folder = Path(model.removeprefix(LOCAL)).resolve().name
        self.name = name or (folder if model.startswith(LOCAL) else f"{model}/{Path(pretrained or '').stem}")
        self.tower = text_tower(self.model, model)
        self.model.requires_grad_(False).eval()
        self._placed: set[str] = set()
        preprocess = PreprocessCfg(**self.model.visual.preprocess_cfg)
        size = preprocess.size
        self.image_size = size if isinstance(size, int) else size[0]
        transform = image_transform_v2(preprocess, is_train=False)
        # "longest" pads the whole image: it is cropped only if its short side would become zero pixels
        most = {"shortest": _MOST_ASPECT, "longest": self.image_size}.get(preprocess.resize_mode)
        self.image_transform = transform if most is None else Cropped(transform, most)
        self.context_length, self.text_width = self.tower.positional_embedding.shape
        self.dim = self._project(self.tower.positional_embedding[:1]).shape[-1]

    def place(self, tower: Literal["image", "text"]) -> None:
        """Move a tower to the device at its first use. A config builds an encoder before a rank knows its GPU.

        Training on token ids needs the text tower alone. The image tower is the larger one.
        """
        if tower in self._placed:
            return
        image_tower = self.model.visual
        if tower == "text":  # all other parts of the model
            self.model.visual = nn.Identity()
            self.model.to(self.device)
            self.model.visual = image_tower
        else:
            image_tower.to(self.device)
        self._placed.add(tower)

    @torch.no_grad()
    def encode_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        self.place("image")
        with self._autocast():
            return self.model.encode_image(pixels.to(self.device)).float()

    def tokenize(self, captions: list[str]) -> Tokens:
        # One token more than the context: a caption is too long if its end token is at this last place.
        wide = self.tokenizer(captions, context_length=self.context_length + 1)
        end = wide.argmax(1) if self.pool == "argmax" else (wide == self.end_id).int().argmax(1)
        cut = end == self.context_length
        ids = wide[:, : self.context_length].clone()
        ids[cut, -1] = wide[cut, -1]
        return Tokens(ids, torch.clamp(end + 1, max=self.context_length), cut)

    @torch.no_grad()
    def encode_tokens(self, tokens: Tokens) -> TextCondition:
        """See `Encoder.encode_tokens`. The host reads its own numbers alone: it does not wait for a GPU."""
        self.place("text")
        tower = self.tower
        # The tower is causal: tokens after the end token do not change it, so common padding is not computed.
        shortest, longest = (int(length) for length in tokens.lengths.aminmax())
        real = (torch.arange(longest) < tokens.lengths[:, None]).flatten().nonzero()[:, 0]
        ids, lengths, rows = (self._sent(tensor) for tensor in (tokens.ids[:, :longest], tokens.lengths, real))
        with self._autocast():
            hidden = tower.token_embedding(ids) + tower.positional_embedding[:longest]
            states = tower.ln_final(tower.transformer(hidden, attn_mask=tower.attn_mask[:longest, :longest]))
            pooled = self._project(states[torch.arange(len(ids), device=self.device), lengths - 1])
        return TextCondition(pooled.float(), states.flatten(0, 1)[rows].float(), lengths, (shortest, longest))

    def _sent(self, tensor: Tensor) -> Tensor:
        """On the device, by a copy that the host does not wait for."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    @property
    def pool(self) -> str:
        """The pooling of the tower: ``argmax`` (the end token has the largest id) or ``eos`` (its id is in the config)."""
        return self.tower.pool_type if hasattr(self.tower, "pool_type") else self.tower.text_pool_type

    @property
    def end_id(self) -> int:
        return self.tower.eos_id if hasattr(self.tower, "eos_id") else self.tower.text_eos_id

    def _project(self, pooled: Tensor) -> Tensor:
        projection = self.tower.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)


def text_tower(model: Any, name: str) -> Any:
    """The module that holds the text tower's parts: CLIP itself, or its ``text`` in the newer layout."""
    tower = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    pool = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    causal = getattr(tower, "attn_mask", None) is not None and getattr(tower, "cls_emb", None) is None
    if pool not in ("argmax", "eos") or not causal:
        raise ValueError(_OTHER_TOWER.format(name))
    return tower


def require_causal(name: str) -> None:
    """Raise ValueError for a model whose config has another text tower, before its weights are downloaded."""
    text = model_config(name)["text_cfg"]
    other = any(text.get(option) for option in ("hf_model_name", "no_causal_mask", "embed_cls"))
    if other or text.get("pool_type", "argmax") not in ("argmax", "eos"):
        raise ValueError(_OTHER_TOWER.format(name))
