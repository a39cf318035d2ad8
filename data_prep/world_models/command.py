"""``python -m data_prep world-models`` trains the world's CLIP and its decoder.

This command, with its defaults, made the weights in eclipse_pl/world/models.
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
    """Train the world's CLIP and its decoder, and write them as folders that open_clip and diffusers load.

    Args:
        out: Folder to write. Its `clip/` and `decoder/` get weights in float16, and a README.md with measurements.
        only: Train one of the two. A decoder alone is trained for the CLIP in `out`.
        clip: Settings of the CLIP's training.
        decoder: Settings of the decoder's training.
        work: Folder for the state of the decoder's training. A killed run resumes from it.
        seed: Seed of weights and scenes.
        command: Command line for the README.
    """
    from eclipse_pl.encoders.openclip import OpenClipEncoder

    folder = Path(out).expanduser()
    if only != "decoder":
        train_clip(folder / "clip", clip, seed, command)
    if only != "clip":
        encoder = OpenClipEncoder(f"local-dir:{folder / 'clip'}", None, device="cpu", name="world")
        train_decoder(folder / "decoder", encoder, Path(work), decoder, seed, command)
