"""python -m eclipse_pl sample: prompts -> prior -> image embeddings -> images and a contact sheet."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eclipse_pl.arguments import require_seeds
from eclipse_pl.command_line import call
from eclipse_pl.compbench.generation import write_image
from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.device import pick_device
from eclipse_pl.embedding import ClipSpace, TextCondition
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.files import write_atomically, write_json
from eclipse_pl.loading import find_encoder, load_prior
from eclipse_pl.priors.prior import Prior
from eclipse_pl.prompts.typed import prompts_of, with_typed_prompts
from eclipse_pl.text_to_image.contact_sheet import contact_sheet
from eclipse_pl.world.decoder import WorldDecoder
from eclipse_pl.world.encoder import WorldEncoder

AT_ONCE = 256
"""Samples in a batch of the prior."""
EMBEDDINGS, SAMPLES, SHEET = "embeddings.safetensors", "samples.json", "contact_sheet.png"
NUMBERED = re.compile(r"[0-9]{4,}\.png")


def sample(
    prior: str,
    prompt: str | list[str] | None = None,
    out: str = "samples",
    count: int = 1,
    seed: int = 0,
    device: str = "auto",
    encoder: Encoder | None = None,
    decoder: Decoder | None = None,
    negative_prompt: str | None = None,
    conditions: str | None = None,
) -> None:
    """Write ``OUT/embeddings.safetensors`` (image_embed, one row a sample) and ``OUT/samples.json`` (prompt and seed of each).

    With a decoder also an image of each row, ``OUT/0000.png`` ..., and all of them in ``OUT/contact_sheet.png``. What an
    earlier `sample` wrote into the folder is removed, and no other file.

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
        conditions: Npy file of vectors, a row each, in place of --prompt; for a prior of conditions that are no captions.
    """
    if (prompt is None) == (conditions is None):
        raise ValueError("Give either --prompt, or --conditions for a prior of conditions that are no captions.")
    prompts = [] if prompt is None else prompts_of(prompt, "--prompt")
    if negative_prompt is not None:
        prompts_of(negative_prompt, "--negative_prompt")
        if conditions is not None:
            raise ValueError("--negative_prompt is a text, and a prior of --conditions reads none. Leave one of them out.")
    if count < 1:
        raise ValueError(f"--count is {count}; it must be 1 or more.")
    require_seeds(seed, count)
    place = pick_device(device)
    made = load_prior(prior, encoder).to(place)
    if conditions is None:
        encoder = encoder or find_encoder(made.space, str(place))
    if decoder is None and isinstance(encoder, WorldEncoder):
        decoder = WorldDecoder(device=str(place))
    if decoder is None and negative_prompt is not None:
        raise ValueError("--negative_prompt is for the decoder, and there is none: add --decoder FILE.")
    if decoder is not None:
        decoder.require_space(made.space, "the prior")
        if negative_prompt is not None:
            decoder.require_negative()
    called: list[dict[str, str | int]]
    if conditions is not None:
        texts = read_conditions(conditions, made.space).to(place).split()
        called = [{"condition": row} for row in range(len(texts))]
    else:
        assert encoder is not None
        # one at a time: read together, a caption's last digits would depend on the others
        texts = [encoder.encode_text([one]).to(place) for one in prompts]
        called = [{"prompt": one} for one in prompts]
    seeds = [seed + number for number in range(count)]
    embeds = embed(made, texts, seeds)
    folder = Path(out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    remove_former(folder)
    write_embeddings(folder / EMBEDDINGS, embeds)
    samples = [{**one, "seed": of_row} for one in called for of_row in seeds]
    count_of_images = 0 if decoder is None else len(embeds)
    stated = {"prior": prior, "space": made.space.identity, "negative_prompt": negative_prompt, "images": count_of_images}
    write_json(folder / SAMPLES, {**stated, "samples": samples})
    print(f"{folder}: {len(embeds)} image embeddings of {made.space}")
    if decoder is not None:
        negative = None
        if negative_prompt is not None and encoder is not None:
            negative = embed(made, [encoder.encode_text([negative_prompt]).to(place)] * len(texts), seeds)
        words = [one for one in prompts for _ in seeds] or None
        images = decoder.decode(embeds, words, seeds * len(texts), negative)
        for number, image in enumerate(images):
            write_image(folder / image_name(number), image)
        titles = prompts or [f"condition {row}" for row in range(len(texts))]
        grid = [(one, images[row * count : (row + 1) * count]) for row, one in enumerate(titles)]
        write_image(folder / SHEET, contact_sheet(grid, [f"seed {of_row}" for of_row in seeds]))
        print(f"{folder / 'contact_sheet.png'}: {len(images)} images")


def image_name(number: int) -> str:
    return f"{number:04d}.png"


def remove_former(folder: Path) -> None:
    """Remove what an earlier `sample` wrote: images beside rows of other samples would be taken for theirs.

    Its ``samples.json`` says how many images are its own. It goes last, so that a command that is killed here can be repeated.
    """
    written = images_of(folder / SAMPLES)
    if written is None:
        return
    for path in list(folder.iterdir()) if written else ():
        if path.name == SHEET or (NUMBERED.fullmatch(path.name) and int(path.stem) < written):
            path.unlink()
    for name in (EMBEDDINGS, SAMPLES):
        (folder / name).unlink(missing_ok=True)


def images_of(path: Path) -> int | None:
    """The number of images that an earlier `sample` wrote beside its ``samples.json``; None where there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        _ = found["prior"], found["space"]  # a file of this name may be somebody else's
        # one that does not count its images is of an earlier version
        return int(found.get("images", len(found["samples"])))
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None


def embed(prior: Prior, texts: list[TextCondition], seeds: list[int]) -> Float[Tensor, "samples dim"]:
    """Image embeddings of each text by each seed, each a function of both, on the CPU."""
    rows = [(text, seed) for text in texts for seed in seeds]
    made = []
    for start in range(0, len(rows), AT_ONCE):
        block = rows[start : start + AT_ONCE]
        generators = [torch.Generator().manual_seed(seed) for _, seed in block]
        made.append(prior.sample(TextCondition.join([text for text, _ in block]), generators).cpu())
    return torch.cat(made)


def read_conditions(path: str, space: ClipSpace) -> TextCondition:
    """The rows of an npy file. Nothing is unpickled.

    Raises:
        ValueError: The file is no array of finite floats, a row each, or the prior reads captions or another width.
    """
    if space.has_captions:
        raise ValueError(
            f"--conditions is for a prior of conditions that are no captions; {space} has captions: give --prompt."
        )
    try:
        found = np.load(Path(path).expanduser(), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"--conditions {path} cannot be read as an npy file ({error}). Write it with numpy.save.") from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f" or not len(found):
        what = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else "an npz of several arrays"
        raise ValueError(f"--conditions {path} is {what}; it must be floats, a row a condition.")
    if found.shape[1] != space.text_dim:
        raise ValueError(f"--conditions {path} is {found.shape[1]} wide; the prior was trained on {space}.")
    if not np.isfinite(found).all():
        raise ValueError(f"--conditions {path} holds NaN or infinity. Leave such rows out.")
    return TextCondition.pooled(torch.from_numpy(found.astype(np.float32)))


def write_embeddings(path: Path, embeds: Float[Tensor, "samples dim"]) -> None:
    from safetensors.torch import save

    write_atomically(path, save({"image_embed": embeds.contiguous()}))


def main(args: list[str] | None = None) -> None:
    words = with_typed_prompts(sys.argv[1:] if args is None else args, "--prompt")
    call(sample, words, "eclipse_pl sample")
