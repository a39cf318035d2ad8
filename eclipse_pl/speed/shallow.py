"""ShallowEncoder: the towers of a CLIP at their true widths, with few of their layers and untrained weights."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from eclipse_pl.encoders.encoder import Tokens
from eclipse_pl.encoders.openclip import PRECISION, OpenClipEncoder, require_causal, text_tower
from eclipse_pl.open_clip_model import model_config
from eclipse_pl.speed.timing import in_turns

FEW, MORE = 1, 3
"""The two depths at which a tower is timed."""


class ShallowEncoder(OpenClipEncoder):
    """An open_clip model with `MORE` layers a tower. It can be built in seconds for the largest models.

    An image tower that is not open_clip's vision transformer has all its layers.

    Args:
        model: Name of an open_clip model, or ``local-dir:/folder``.
        precision: Precision of the matrix products.
        device: Device of the model.
    """

    def __init__(
        self, model: str, precision: Literal["float32", "bfloat16", "float16"] = "float32", device: str = "cpu"
    ) -> None:
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
        from open_clip.transform import PreprocessCfg, image_transform_v2

        require_causal(model)
        config = copy.deepcopy(model_config(model))
        vision, self.text_layers = CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"]).layers
        self.image_layers = None if vision.timm_model_name else vision.layers
        config["text_cfg"] = {**config["text_cfg"], "layers": MORE}
        if self.is_transformer:
            config["vision_cfg"]["layers"] = MORE
        kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
        self.model = kind(**config).requires_grad_(False).eval().to(device)
        self.device, self.precision = torch.device(device), PRECISION[precision]
        self.tower = text_tower(self.model, model)
        self._placed: set[str] = set()
        size = self.model.visual.image_size
        self.image_size = size if isinstance(size, int) else size[0]
        self.image_transform = image_transform_v2(PreprocessCfg(size=self.image_size), is_train=False)
        self.context_length, self.text_width = self.tower.positional_embedding.shape
        self.dim = config["embed_dim"]

    def place(self, *towers: str) -> None:
        """Both towers are on the device from the start."""

    @property
    def is_transformer(self) -> bool:
        """Whether the image tower is open_clip's vision transformer, whose time grows by the same step with each layer."""
        return isinstance(self.image_layers, int) and self.image_layers > MORE

    def image_seconds(self, images: int) -> float:
        """Seconds per image of the whole image tower, in batches of ``images``."""
        pixels = torch.randn(images, 3, self.image_size, self.image_size)
        layers = self.image_layers if self.is_transformer else None
        transformer = self.model.visual.transformer if self.is_transformer else None
        return self._seconds(transformer, layers, lambda: self.encode_images(pixels)) / images

    def caption_seconds(self, lengths: Int[Tensor, " captions"]) -> float:
        """Seconds per caption of the whole text tower, in a batch of captions of ``lengths`` tokens."""
        lengths = lengths.clamp(max=self.context_length)
        ids = torch.zeros(len(lengths), self.context_length, dtype=torch.int64)
        tokens = Tokens(ids, lengths, torch.zeros(len(lengths), dtype=torch.bool))
        return self._seconds(self.tower.transformer, self.text_layers, lambda: self.encode_tokens(tokens)) / len(lengths)

    def _seconds(self, transformer: Any, layers: int | None, function: Any) -> float:
        """Seconds of ``function`` if ``transformer`` had ``layers``: measured at two depths, and extended in a line."""
        if transformer is None or layers is None:
            return in_turns([function], self.device, repetitions=2)[0]
        blocks = transformer.resblocks

        def few() -> None:
            transformer.resblocks = nn.ModuleList(list(blocks)[:FEW])
            function()

        def more() -> None:
            transformer.resblocks = blocks
            function()

        first, second = in_turns([few, more], self.device, repetitions=3)
        return first + (layers - FEW) * max(second - first, 0.0) / (MORE - FEW)
