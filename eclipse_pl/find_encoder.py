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
    named = published(space)
    found = WorldEncoder(device=device) if named is None else OpenClipEncoder(*named, device=device)
    found.require_space(space, "the prior")
    return found


def require_encoder(space: ClipSpace) -> None:
    """Raise ValueError where the tag names a local checkpoint, whose place nobody knows. Nothing is loaded."""
    if space.encoder != local_dir_tag(FOLDER) and published(space) is None:
        raise ValueError(
            f"--encoder is needed: nothing says where the CLIP of {space} lies. (In a config: samples.encoder and "
            "benchmark.encoder.)"
        )


def published(space: ClipSpace) -> tuple[str, str] | None:
    """Model and pretrained tag of open_clip; None where the space was made by something else."""
    library, _, name = space.encoder.partition(":")
    model, _, pretrained = name.partition(":")
    known = library == "open_clip" and pretrained and "sha256-" not in pretrained and model != "local-dir"
    return (model, pretrained) if known else None
