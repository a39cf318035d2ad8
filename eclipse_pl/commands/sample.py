"""python -m eclipse_pl sample: prompts -> prior -> image embeddings -> images and a contact sheet."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from eclipse_pl.arguments import call
from eclipse_pl.compbench.generation import write_image
from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.device import pick_device
from eclipse_pl.embedding import TextCondition
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.files import write_atomically, write_json
from eclipse_pl.loading import find_encoder, load_prior
from eclipse_pl.priors.prior import Prior
from eclipse_pl.prompts.typed import prompts_of, with_typed_prompts
from eclipse_pl.text_to_image.contact_sheet import contact_sheet
from eclipse_pl.world.decoder import WorldDecoder
from eclipse_pl.world.encoder import WorldEncoder


def sample(
    prior: str,
    prompt: str | list[str],
    out: str = "samples",
    count: int = 1,
    seed: int = 0,
    device: str = "auto",
    encoder: Encoder | None = None,
    decoder: Decoder | None = None,
    negative_prompt: str | None = None,
) -> None:
    """Write ``OUT/embeddings.safetensors`` (image_embed, one row a sample) and ``OUT/samples.json`` (prompt and seed of each).

    With a decoder also an image of each row, ``OUT/0000.png`` ..., and all of them in ``OUT/contact_sheet.png``.

    Args:
        prior: Folder of a run, or a released prior (folder or hub id).
        prompt: Any text, or a list of texts; on a command line repeat the option for several.
        out: Folder to write.
        count: Samples a prompt; the k-th has the seed SEED + k, whatever the prompt.
        seed: Of the first sample of every prompt.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``.
        encoder: The CLIP of the prior, where its space does not say where that lies.
        decoder: Decodes the embeddings, such as experiments/parts/decoder/world.yaml; the world's is found without it.
        negative_prompt: A text that the images should not show. The decoder gets the prior's embedding of it.
    """
    prompts = prompts_of(prompt, "--prompt")
    if negative_prompt is not None:
        prompts_of(negative_prompt, "--negative_prompt")
    if count < 1:
        raise ValueError(f"--count is {count}; it must be 1 or more.")
    place = pick_device(device)
    made = load_prior(prior, encoder).to(place)
    encoder = encoder or find_encoder(made.space, str(place))
    if decoder is None and isinstance(encoder, WorldEncoder):
        decoder = WorldDecoder(device=str(place))
    if decoder is None and negative_prompt is not None:
        raise ValueError("--negative_prompt is for the decoder, and there is none: add --decoder FILE.")
    if decoder is not None:
        decoder.require_space(made.space, "the prior")
    rows = [(one, seed + number) for one in prompts for number in range(count)]
    embeds = embed(made, encoder, [one for one, _ in rows], [one for _, one in rows], place)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_embeddings(folder / "embeddings.safetensors", embeds)
    samples = [{"prompt": one, "seed": of_row} for one, of_row in rows]
    stated = {"prior": prior, "space": made.space.identity, "negative_prompt": negative_prompt}
    write_json(folder / "samples.json", {**stated, "samples": samples})
    print(f"{folder}: {len(rows)} image embeddings of {made.space}")
    if decoder is not None:
        seeds = [of_row for _, of_row in rows]
        negative = None if negative_prompt is None else embed(made, encoder, [negative_prompt] * len(rows), seeds, place)
        images = decoder.decode(embeds, [one for one, _ in rows], seeds, negative)
        for number, image in enumerate(images):
            write_image(folder / f"{number:04d}.png", image)
        grid = [(one, images[row * count : (row + 1) * count]) for row, one in enumerate(prompts)]
        write_image(folder / "contact_sheet.png", contact_sheet(grid, [f"seed {seed + number}" for number in range(count)]))
        print(f"{folder / 'contact_sheet.png'}: {len(images)} images")


def embed(
    prior: Prior, encoder: Encoder, texts: list[str], seeds: list[int], place: torch.device
) -> Float[Tensor, "samples dim"]:
    """Image embeddings, each a function of its text and seed, on the CPU."""
    # one at a time: read together, a caption's last digits would depend on the others
    read = {one: encoder.encode_text([one]).to(place) for one in dict.fromkeys(texts)}
    text = TextCondition.join([read[one] for one in texts])
    return prior.sample(text, [torch.Generator().manual_seed(seed) for seed in seeds]).cpu()


def write_embeddings(path: Path, embeds: Float[Tensor, "samples dim"]) -> None:
    from safetensors.torch import save

    write_atomically(path, save({"image_embed": embeds.contiguous()}))


def main(args: list[str] | None = None) -> None:
    words = with_typed_prompts(sys.argv[1:] if args is None else args, "--prompt")
    call(sample, words, "eclipse_pl sample")
