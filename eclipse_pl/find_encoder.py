from __future__ import annotations

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.world.encoder import WorldEncoder


def find_encoder(space: ClipSpace, device: str = "auto") -> Encoder:
    """The encoder that ``space.encoder`` names: the world's own, or an open_clip model by its tag.

    Raises:
        ValueError: the tag names a local checkpoint, whose place nobody knows.
    """
    world = WorldEncoder(device=device)
    if space.encoder == world.tag:
        return world
    library, _, name = space.encoder.partition(":")
    model, _, pretrained = name.partition(":")
    if library == "open_clip" and pretrained and "sha256-" not in pretrained and model != "local-dir":
        return OpenClipEncoder(model, pretrained, device=device)
    raise ValueError(f"--encoder is needed: nothing says where the CLIP of {space} lies.")
