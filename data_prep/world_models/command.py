"""``python -m data_prep world-models``: train the world's own CLIP and its decoder.

The package's weights in eclipse_pl/world/models were made by this command with its defaults.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from data_prep.command import command_line, run
from data_prep.world_models.clip import ClipRecipe, train_clip
from data_prep.world_models.decoder import DecoderRecipe, train_decoder

CLIP, DECODER = ClipRecipe(), DecoderRecipe()


def main(args: list[str]) -> None:
    run(world_models, args, command=command_line(world_models, args))


def world_models(
    out: str,
    only: Literal["clip", "decoder"] | None = None,
    clip: ClipRecipe = CLIP,
    decoder: DecoderRecipe = DECODER,
    work: str = "data/world_decoder",
    seed: int = 0,
    command: str = "",
) -> None:
    """Train the world's CLIP, and a decoder for it, and write them as folders that open_clip and diffusers load.

    Args:
        out: folder to write; its `clip/` and `decoder/` get weights in float16, and a README.md with what was measured.
        only: one of the two; a decoder alone is trained for the CLIP that lies in `out`.
        clip: how the CLIP is trained.
        decoder: how the decoder is trained.
        work: folder for what the decoder's training has reached; a killed run goes on from there.
        seed: of weights and scenes.
        command: how this was called, for the README.
    """
    from eclipse_pl.encoders.openclip import OpenClipEncoder

    folder = Path(out)
    if only != "decoder":
        train_clip(folder / "clip", clip, seed, command)
    if only != "clip":
        encoder = OpenClipEncoder(f"local-dir:{folder / 'clip'}", None, device="cpu", name="world")
        train_decoder(folder / "decoder", encoder, Path(work), decoder, seed, command)
