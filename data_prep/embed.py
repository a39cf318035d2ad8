"""python -m data_prep embed: images and captions in webdataset tars -> a set of embedding shards."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from data_prep.command import command_line, run
from eclipse_pl.embed.embed_shards import embed_shards
from eclipse_pl.embed.progress import left_out
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.raw.image import Background, ImageReading
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
    made_by: str = "python -m data_prep embed",
) -> None:
    """Turn webdataset tars of images and captions (img2dataset's layout) into a set of embedding shards.

    Killed and started again, it continues after the last finished shard; run over a finished set, it makes missing and
    damaged shards again.

    Args:
        source: the tars, in quotes: 'raw/{0000..0009}.tar', 'raw/*.tar', a URL that webdataset opens, or a list of these.
        out: folder of the set of shards.
        encoder: the CLIP, for example --encoder.model ViT-bigG-14 --encoder.pretrained laion2b_s39b_b160k.
        chunk: pairs a record.
        val: fraction of the pairs for validation, where the source does not say; pairs of one image, caption or group stay
            together, for which all sources are read once more (a `pipe:` twice).
        test: fraction of the pairs for testing.
        batch_size: pairs encoded at a time.
        workers: processes that decode images; 0 decodes in this one.
        upright: images are turned as their EXIF data say.
        background: colour that transparent images are laid on; "none" drops their transparency alone.
        made_by: the command that the manifest keeps for whoever has to repair the set: this one.
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
        reading=ImageReading(upright, background),
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
