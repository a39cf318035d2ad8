"""python -m data_prep embed: images and captions in webdataset tars -> a set of embedding shards."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from data_prep.command import command_line, run
from eclipse_pl.data.states import States
from eclipse_pl.embed.embed_shards import embed_shards
from eclipse_pl.embed.progress import left_out
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw.image import Background, ImageReader
from eclipse_pl.raw.sources import find_sources


def embed(
    source: str | list[str],
    out: str,
    encoder: Callable[[], Encoder] = OpenClipEncoder,
    chunk: int = 1024,
    val: float = 0.01,
    test: float = 0.01,
    batch_size: int = 64,
    workers: int = 1,
    upright: bool = True,
    background: Background = "white",
    states: States = "float16",
    made_by: str = "python -m data_prep embed",
) -> None:
    """Turn webdataset tars of images and captions (img2dataset's layout) into a set of embedding shards.

    A killed run resumes after the last finished shard. A run into a finished set embeds missing and damaged shards again.

    Args:
        source: The tars, in quotes: 'raw/{0000..0009}.tar', 'raw/*.tar', a URL that webdataset opens, or a list of these.
        out: Folder of the set of shards.
        encoder: The CLIP, for example --encoder.model ViT-bigG-14 --encoder.pretrained laion2b_s39b_b160k.
        chunk: Pairs per record.
        val: Fraction for validation of the pairs without a split. Pairs of one image, caption or group stay together, so all
            sources are read once more (a `pipe:` twice).
        test: Fraction of these pairs for testing.
        batch_size: Pairs encoded at a time.
        workers: Processes that decode images. 0 decodes in the main process.
        upright: Turn images as their EXIF data state.
        background: Colour behind transparent images. "none" drops their transparency.
        states: How captions are stored. "int8" takes half the bytes of "float16". "tokens" stores token ids alone: the text
            tower then runs in training (data.init_args.encoder).
        made_by: Command that repairs the set, for the manifest. The default is this command.
    """
    sources = [source] if isinstance(source, str) else source
    find_sources(sources)  # before an encoder is downloaded
    manifest = embed_shards(
        sources=sources,
        encoder=encoder(),
        out=out,
        made_by=made_by,
        chunk=chunk,
        val=val,
        test=test,
        batch_size=batch_size,
        workers=workers,
        reader=ImageReader(upright, background),
        states=states,
    )
    cut = sum(shard.cut for shard in manifest.shards)
    splits = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    pairs = f"{manifest.pairs} pairs ({splits}) in {len(manifest.shards)} shards"
    print(f"{Path(out)}: {pairs}{left_out(manifest.shards)}; {cut} cut")
    for warning in manifest.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def main(args: list[str] | None = None) -> None:
    args = sys.argv[1:] if args is None else args
    try:
        run(embed, args, made_by=command_line(embed, args))
    except KeyboardInterrupt:
        print("\nInterrupted. The finished shards are kept: run the same command again to continue.", file=sys.stderr)
        raise SystemExit(130) from None
