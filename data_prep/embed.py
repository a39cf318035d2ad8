"""python -m data_prep embed: images and captions -> a set of embedding shards."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal

from data_prep.command import command_line, run
from eclipse_pl.data.manifest import Manifest
from eclipse_pl.data.states import States
from eclipse_pl.embed.embed_shards import embed_shards
from eclipse_pl.embed.progress import left_out
from eclipse_pl.embed.written_set import work_folder, written_set
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.encoders.openclip import OpenClipEncoder
from eclipse_pl.launch.share import Share
from eclipse_pl.launch.tasks import TaskEngine, finish_task, without_options
from eclipse_pl.raw.find_sources import find_sources
from eclipse_pl.raw.image import Background, ImageReader
from eclipse_pl.raw.source import Source


def embed(
    source: Source | str | list[str],
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
    engine: Literal["local", "ray"] | None = None,
    tasks: int | None = None,
    jobs: int | None = None,
    ray_address: str | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    task_index: int | None = None,
    task_count: int | None = None,
    made_by: str = "python -m data_prep embed",
    words: list[str] | None = None,
) -> None:
    """Turn images and captions into a set of embedding shards.

    A killed run resumes after the last finished shard. A run into a finished set embeds missing and damaged shards again.

    Args:
        source: Webdataset tars in quotes ('raw/{0000..0009}.tar', 'raw/*.tar', or URLs), a folder of images with text files, a
            table that names image files (CSV, TSV, JSON lines, Parquet), MSCOCO's captions (.json), or a data set of the
            Hugging Face hub (hf://datasets/OWNER/NAME); or several of these. Options of a single source follow it:
            --source FILE --source.caption COLUMN. They are those of its class (Table, ImageFolder, Coco, HuggingFace).
        out: Folder of the set of shards, or its URL (s3://bucket/set).
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
        engine: Embed by tasks, each a process that makes some of the shards: local on this machine, ray on a Ray cluster whose
            nodes share the folders. A task that dies is started again.
        tasks: Number of tasks of the engine; by default one a shard.
        jobs: Local tasks at a time, which share processors and GPUs (default: 1).
        ray_address: The Ray cluster (default: one on this machine).
        cpus: Processors of a task on Ray (default: 1).
        gpus: GPUs of a task on Ray (default: 0).
        task_index: Make this share of the shards alone, from 0; by default its place in a job array of SLURM of all tasks. The
            task that ends last writes the manifest.
        task_count: Number of shares.
        made_by: Command that repairs the set, for the manifest. The default is this command.
        words: Options of the tasks. The default is those of this command.
    """
    sources = find_sources([source] if isinstance(source, str | Source) else source)  # before an encoder is downloaded
    print("\n".join(sources.lines))
    share = Share.of_options(task_index, task_count)
    task_engine = TaskEngine(engine, tasks, jobs, ray_address, cpus, gpus)
    if engine is not None:
        if task_count is not None:
            raise ValueError(f"--task-count has no effect with --engine {engine}, which runs all tasks (--tasks).")
        count = min(tasks or len(sources.parts), len(sources.parts))
        target = written_set(out)
        task_engine.run(["data_prep", "embed", *(words or [])], target.work, count)
        target.fetch()  # the last task may have run on another node
        return summarise(Manifest.load(target.work), out)
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
        share=share,
    )
    finish_task(work_folder(out), share)
    if manifest is not None:
        summarise(manifest, out)


def summarise(manifest: Manifest, out: str) -> None:
    """Print the content of a finished set."""
    cut = sum(shard.cut for shard in manifest.shards)
    splits = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    pairs = f"{manifest.pairs} pairs ({splits}) in {len(manifest.shards)} shards"
    print(f"{out}: {pairs}{left_out(manifest.shards)}; {cut} cut")
    for warning in manifest.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def main(args: list[str] | None = None) -> None:
    args = sys.argv[1:] if args is None else args
    try:
        words = without_options(args)
        run(embed, args, made_by=command_line(embed, words), words=words)
    except KeyboardInterrupt:
        print("\nInterrupted. The finished shards are kept: run the same command again to continue.", file=sys.stderr)
        raise SystemExit(130) from None
