from __future__ import annotations

from eclipse_pl.embedding import ClipSpace
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.open_clip_model import local_dir_tag
from eclipse_pl.world.encoder import FOLDER, WorldEncoder


def find_encoder(space: ClipSpace, device: str = "auto") -> Encoder:
    """The encoder that ``space.encoder`` names: the world's own, or an open_clip model by its tag.

    Raises:
        ValueError: see `require_encoder`.
    """
    require_encoder(space)
    found = WorldEncoder(device=device) if is_worlds(space) else OpenClipEncoder(*published(space), device=device)
    found.require_space(space, "the prior")
    return found


def require_encoder(space: ClipSpace) -> None:
    """Raise ValueError where the tag names a local checkpoint, whose place nobody knows. Nothing is loaded."""
    if not is_worlds(space) and not published(space):
        raise ValueError(
            f"--encoder is needed: nothing says where the CLIP of {space} lies. (In a config: samples.encoder and "
            "benchmark.encoder.)"
        )


def is_worlds(space: ClipSpace) -> bool:
    return space.encoder == local_dir_tag(FOLDER)


def published(space: ClipSpace) -> list[str]:
    """Model and pretrained tag of open_clip; empty where the space was made by something else."""
    library, _, name = space.encoder.partition(":")
    model, _, pretrained = name.partition(":")
    known = library == "open_clip" and pretrained and "sha256-" not in pretrained and model != "local-dir"
    return [model, pretrained] if known else []
