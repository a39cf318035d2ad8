"""python -m eclipse_pl sample: prompts -> prior -> image embeddings, written for whatever comes next."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from eclipse_pl.data.manifest import write_json
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.find_encoder import find_encoder
from eclipse_pl.load_prior import load_prior


def sample(
    prior: str,
    prompt: list[str],
    out: str = "samples",
    count: int = 1,
    seed: int = 0,
    device: str = "auto",
    encoder: Encoder | None = None,
) -> None:
    """Write ``OUT/embeddings.safetensors`` (image_embed, one row a sample) and ``OUT/samples.json`` (prompt and seed of each).

    Args:
        prior: folder of a run, or a released prior (folder or hub id).
        prompt: captions; the option may be given as a list: --prompt '["a red star", "two blue squares"]'.
        out: folder to write.
        count: samples a prompt; the k-th has the seed SEED + k, whatever the prompt.
        seed: of the first sample of every prompt.
        device: auto (a GPU where there is one), cpu, cuda.
        encoder: the CLIP of the prior, where its space does not say where that lies.
    """
    from safetensors.torch import save_file

    if count < 1:
        raise ValueError(f"--count is {count}; it must be 1 or more.")
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    made = load_prior(prior, encoder).to(place)
    encoder = encoder or find_encoder(made.space, str(place))
    rows = [(row, seed + number) for row in range(len(prompt)) for number in range(count)]
    text = encoder.encode_text(prompt).to(place).select([row for row, _ in rows])
    embeds = made.sample(text, [torch.Generator().manual_seed(one) for _, one in rows]).cpu()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "embeddings.safetensors.part"
    save_file({"image_embed": embeds.contiguous()}, partial)
    os.replace(partial, folder / "embeddings.safetensors")
    samples = [{"prompt": prompt[row], "seed": one} for row, one in rows]
    write_json(folder / "samples.json", {"prior": prior, "space": made.space.identity, "samples": samples})
    print(f"{folder}: {len(rows)} image embeddings of {made.space}")


def main(args: list[str] | None = None) -> None:
    from jsonargparse import auto_cli

    auto_cli(sample, args=sys.argv[1:] if args is None else args, as_positional=False, prog="python -m eclipse_pl sample")
