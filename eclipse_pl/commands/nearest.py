"""python -m eclipse_pl nearest: prompt -> tokens -> prior -> embedding -> the nearest images, as one image."""

from __future__ import annotations

import io
import sys
import tarfile
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from eclipse_pl.arguments import sentence_parser
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.load_prior import find_encoder, load_prior
from eclipse_pl.priors.checkpoint import SavedRun, find_checkpoint
from eclipse_pl.prompts.typed import require_prompts, with_typed_prompts

IMAGES = {".png", ".jpg", ".jpeg", ".webp"}


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What a prior makes of one prompt, and the pairs of a split that lie nearest to it."""

    prompt: str
    tokens: int
    image_embed: Tensor
    keys: list[str]
    captions: list[str]
    cosines: list[float]


def nearest(
    run: str,
    prompt: list[str],
    out: str = "nearest.png",
    count: int = 5,
    split: str = "test",
    images: str | None = None,
    encoder: Encoder | None = None,
    seed: int = 0,
) -> list[Neighbours]:
    """Show which images lie nearest to the embeddings that a prior makes of prompts. No decoder is needed.

    Args:
        run: folder of a run.
        prompt: any text; for several repeat the option, or give a JSON list: --prompt '["a red star", "two blue squares"]'.
        out: the image to write.
        count: neighbours a prompt.
        split: the split of the run's shards to search.
        images: tars that hold the images, in quotes; the world's are found without it.
        encoder: the CLIP of the shards; the world's is found without it.
        seed: of the prior's noise.
    """
    require_prompts(prompt, "--prompt")
    checkpoint = find_checkpoint(run)
    if checkpoint is None:
        raise ValueError(f"{run} is not the folder of a run: it holds no checkpoints/last.ckpt.")
    prior = load_prior(run, encoder)
    shards = ShardSet(SavedRun(checkpoint, run).data_folder)
    prior.space.require_same(shards.space, f"the prior {run}", f"the shards {shards.folder}")
    encoder = encoder or find_encoder(prior.space, "cpu")
    text = encoder.encode_text(prompt).to("cpu")
    embeds = prior.sample(text, [torch.Generator().manual_seed(seed + row) for row in range(len(prompt))])
    found = search(shards, split, embeds, prompt, text.lengths.tolist(), count)
    tars = sorted(glob(images or str(shards.folder / "raw" / "*.tar")))
    draw(found, read_images(tars, {key for one in found for key in one.keys}), split, Path(out))
    for one in found:
        print(one.prompt)
        for cosine, caption in zip(one.cosines, one.captions, strict=True):
            print(f"  {cosine:.3f}  {caption}")
    return found


def search(
    shards: ShardSet, split: str, embeds: Tensor, prompts: list[str], lengths: list[int], count: int
) -> list[Neighbours]:
    """The ``count`` pairs of a split nearest to each embedding, by cosine."""
    records = shards.records(split)
    if not len(records):
        raise ValueError(f"{shards.folder} has no split {split!r}; it has {', '.join(shards.manifest.splits)}.")
    chunks = [shards.read_chunk(int(record)) for record in records]
    gallery = torch.from_numpy(np.concatenate([chunk.image_embed for chunk in chunks]).astype(np.float32))
    keys = [key for chunk in chunks for key in chunk.keys]
    captions = [caption for chunk in chunks for caption in chunk.captions]
    cosines, rows = (normalize(embeds, dim=-1) @ normalize(gallery, dim=-1).T).topk(min(count, len(gallery)))
    return [
        Neighbours(prompt, length, embed, [keys[i] for i in row], [captions[i] for i in row], cosine.tolist())
        for prompt, length, embed, row, cosine in zip(prompts, lengths, embeds, rows.tolist(), cosines, strict=True)
    ]


def read_images(tars: list[str], keys: set[str]) -> dict[str, Image.Image]:
    """The images of these keys, from webdataset tars."""
    images = {}
    for name in tars:
        with tarfile.open(name) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if key in keys and f".{suffix}" in IMAGES:
                    content = tar.extractfile(member)
                    assert content is not None
                    images[key] = Image.open(io.BytesIO(content.read())).convert("RGB")
    if missing := sorted(keys - images.keys()):
        raise ValueError(f"No image of {missing[0]} in {', '.join(tars) or 'any tar'}: say where they lie with --images.")
    return images


def draw(found: list[Neighbours], images: dict[str, Image.Image], split: str, out: Path) -> None:
    """One row a prompt: caption, tokens, prior, embedding, nearest images."""
    from matplotlib.figure import Figure

    count = max(len(one.keys) for one in found)
    figure = Figure(figsize=(5.2 + 1.15 * count, 1.55 * len(found) + 0.35), facecolor="white")
    widths = [3.1, 1.5, *[1.0] * count]
    grid = figure.add_gridspec(
        len(found), count + 2, width_ratios=widths, left=0.01, right=0.99, top=0.9, bottom=0.08, wspace=0.12
    )
    for row, one in enumerate(found):
        words = figure.add_subplot(grid[row, 0])
        words.set_axis_off()
        words.text(0.5, 0.68, f"“{one.prompt}”", ha="center", va="center", fontsize=10, wrap=True)
        words.text(0.5, 0.3, f"{one.tokens} tokens → prior, one forward pass →", ha="center", fontsize=8, color="0.35")
        strip = figure.add_subplot(grid[row, 1])
        side = int(np.ceil(len(one.image_embed) ** 0.5))
        cells = np.full(side * side, np.nan)
        cells[: len(one.image_embed)] = one.image_embed.numpy()
        strip.imshow(cells.reshape(side, side), cmap="RdBu", vmin=-np.nanmax(abs(cells)), vmax=np.nanmax(abs(cells)))
        strip.set_xticks([])
        strip.set_yticks([])
        for place, (key, cosine) in enumerate(zip(one.keys, one.cosines, strict=True)):
            axes = figure.add_subplot(grid[row, 2 + place])
            axes.imshow(images[key])
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel(f"{cosine:.3f}", fontsize=8, labelpad=2)
            if row == 0 and place == count // 2:
                axes.set_title(f"nearest images of the {split} split, by cosine", fontsize=9)
        if row == 0:
            words.set_title("prompt", fontsize=9)
            strip.set_title("image embedding", fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=130)


def main(args: list[str] | None = None) -> None:
    from jsonargparse import auto_cli

    words = with_typed_prompts(sys.argv[1:] if args is None else args, "--prompt")
    auto_cli(nearest, args=words, as_positional=False, prog="python -m eclipse_pl nearest", parser_class=sentence_parser())
