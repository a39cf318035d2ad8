"""python -m eclipse_pl nearest: prompt -> tokens -> prior -> embedding -> the nearest images, as one image."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eclipse_pl.arguments import require_seeds
from eclipse_pl.command_line import call
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.loading import find_encoder, load_prior
from eclipse_pl.priors.checkpoint import SavedRun, find_checkpoint
from eclipse_pl.prompts.typed import prompts_of, with_typed_prompts
from eclipse_pl.raw.image import ImageReader
from eclipse_pl.raw.real_pairs import ImageName, RealPairs, read_images
from eclipse_pl.raw.source import Source


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The prediction of a prior for one prompt, and the images of a split that lie nearest to it, each by its nearest pair."""

    prompt: str
    tokens: int
    image_embed: Tensor
    images: list[ImageName]
    captions: list[str]
    cosines: list[float]

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.images]


def nearest(
    prior: str,
    prompt: str | list[str],
    out: str = "nearest.png",
    count: int = 5,
    split: str = "test",
    images: Source | str | list[str] | None = None,
    encoder: Encoder | None = None,
    seed: int = 0,
) -> list[Neighbours]:
    """Show which images lie nearest to the embeddings that a prior predicts for prompts. No decoder is needed.

    Args:
        prior: Folder of a run.
        prompt: Any text, or a list of texts; on a command line repeat the option for several.
        out: The image to write.
        count: Images a prompt. One with several captions is shown once.
        split: The split of the run's shards to search.
        images: The source of the images, as `data_prep embed --source` takes it; by default those that the set was made of.
        encoder: The CLIP of the shards; the world's is found without it.
        seed: Of the prior's noise.
    """
    prompts = prompts_of(prompt, "--prompt")
    if count < 1:
        raise ValueError(f"--count is {count}; it must be 1 or more.")
    require_seeds(seed, len(prompts))
    require_image_name(out)
    checkpoint = find_checkpoint(prior)
    if checkpoint is None:
        raise ValueError(f"{prior} is not the folder of a run: it holds no checkpoint.")
    loaded = load_prior(prior, encoder)
    shards = ShardSet(SavedRun(checkpoint, prior).data_folder)
    loaded.space.require_same(shards.space, f"the prior {prior}", f"the shards {shards.name}")
    encoder = encoder or find_encoder(loaded.space, "cpu")
    text = encoder.encode_text(prompts).to("cpu")
    embeds = loaded.sample(text, [torch.Generator().manual_seed(seed + row) for row in range(len(prompts))])
    found = search(shards, split, embeds, prompts, text.lengths.tolist(), count)
    sources = shards.manifest.sources if images is None else [images] if isinstance(images, str | Source) else list(images)
    read = read_images(sources, {name for one in found for name in one.images}, ImageReader.of(shards.manifest.images))
    draw(found, read, split, loaded.forward_passes, Path(out).expanduser())
    for one in found:
        print(one.prompt)
        for cosine, caption in zip(one.cosines, one.captions, strict=True):
            print(f"  {cosine:.3f}  {caption}")
    return found


def require_image_name(out: str) -> None:
    """Check the name of the image before the work: matplotlib takes a name without an ending for one with ``.png``.

    Raises:
        ValueError: It has no ending of an image that matplotlib writes.
    """
    from matplotlib.figure import Figure

    endings = sorted(Figure().canvas.get_supported_filetypes())
    if Path(out).suffix.removeprefix(".").lower() not in endings:
        raise ValueError(f"--out {out} is no name of an image. Let it end in .png, or one of .{', .'.join(endings)}.")


def search(
    shards: ShardSet, split: str, embeds: Tensor, prompts: list[str], lengths: list[int], count: int
) -> list[Neighbours]:
    """The ``count`` images of a split nearest to each embedding, by cosine."""
    pairs = RealPairs.read(shards, split)
    found = []
    for prompt, length, embed, near in zip(prompts, lengths, embeds, pairs.nearest(embeds, count), strict=True):
        images, captions = [pairs.images[row] for _, row in near], [pairs.captions[row] for _, row in near]
        found.append(Neighbours(prompt, length, embed, images, captions, [cosine for cosine, _ in near]))
    return found


def draw(found: list[Neighbours], images: dict[ImageName, Image.Image], split: str, passes: int | None, out: Path) -> None:
    """One row a prompt: caption, tokens, prior with its forward passes where they are known, embedding, nearest images."""
    from matplotlib.figure import Figure

    prior = "prior" if passes is None else f"prior, {passes} forward pass{'es' * (passes != 1)}"
    count = max(len(one.images) for one in found)
    figure = Figure(figsize=(5.2 + 1.15 * count, 1.55 * len(found) + 0.35), facecolor="white")
    widths = [3.1, 1.5, *[1.0] * count]
    grid = figure.add_gridspec(
        len(found), count + 2, width_ratios=widths, left=0.01, right=0.99, top=0.9, bottom=0.08, wspace=0.12
    )
    for row, one in enumerate(found):
        words = figure.add_subplot(grid[row, 0])
        words.set_axis_off()
        words.text(0.5, 0.68, f"“{one.prompt}”", ha="center", va="center", fontsize=10, wrap=True, parse_math=False)
        words.text(0.5, 0.3, f"{one.tokens} tokens → {prior} →", ha="center", fontsize=8, color="0.35")
        strip = figure.add_subplot(grid[row, 1])
        side = int(np.ceil(len(one.image_embed) ** 0.5))
        cells = np.full(side * side, np.nan)
        cells[: len(one.image_embed)] = one.image_embed.numpy()
        strip.imshow(cells.reshape(side, side), cmap="RdBu", vmin=-np.nanmax(abs(cells)), vmax=np.nanmax(abs(cells)))
        strip.set_xticks([])
        strip.set_yticks([])
        for place, (name, cosine) in enumerate(zip(one.images, one.cosines, strict=True)):
            axes = figure.add_subplot(grid[row, 2 + place])
            axes.imshow(images[name])
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
    words = with_typed_prompts(sys.argv[1:] if args is None else args, "--prompt")
    call(nearest, words, "eclipse_pl nearest")
