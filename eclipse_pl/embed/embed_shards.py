"""Raw pairs -> encoder -> a set of embedding shards (`data.manifest`), one shard per part of the sources.

A killed run resumes after the last finished shard, and the set gets the same bytes as from an uninterrupted run. A run into
a finished set repairs it: it embeds missing and damaged shards again, and those whose source has changed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from eclipse_pl.data.manifest import SCHEMA, Manifest, ShardEntry
from eclipse_pl.data.shards import ShardWriter
from eclipse_pl.data.states import States
from eclipse_pl.embed.embedded_pairs import EmbeddedPair, chunk_of, embedded_batches
from eclipse_pl.embed.folder import WHOLE, in_turn, is_finished, only_run
from eclipse_pl.embed.progress import EmbedProgress
from eclipse_pl.embed.written_set import written_set
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.launch.share import Share
from eclipse_pl.raw.batches import ImageBatch, ImageBatches
from eclipse_pl.raw.find_sources import FoundSources
from eclipse_pl.raw.image import AS_SHOWN, ImageReader
from eclipse_pl.raw.reasons import skipped
from eclipse_pl.raw.source import BrokenSourceError, Part
from eclipse_pl.raw.splits import SplitDraw


def embed_shards(
    sources: FoundSources,
    encoder: Encoder,
    out: str | Path,
    made_by: str,
    chunk: int = 1024,
    val: float = 0.01,
    test: float = 0.01,
    batch_size: int = 64,
    workers: int = 1,
    reader: ImageReader = AS_SHOWN,
    states: States = "float16",
    share: Share = WHOLE,
) -> Manifest | None:
    """Encode all pairs of the sources, write the set of shards, and return its manifest.

    With a share of the shards, the process that ends last writes the manifest, and the others return None.

    A pair without caption, with an undecodable image or with a non-finite embedding is skipped and listed in the manifest. A
    source that cannot be read to its end gives no shard. The other sources are embedded before the error.

    Args:
        sources: The sources, found by `raw.find_sources`.
        encoder: The CLIP.
        out: Folder of the set, or its URL (s3:, gs:). There each shard is uploaded when it is finished.
        made_by: Command that repairs the set, for the manifest.
        chunk: Pairs per record.
        val: Fraction for validation of the pairs without a split. Pairs that share an image, a caption or a group get the
            same split, so the sources are read once more (`raw.splits`).
        test: Fraction of these pairs for testing.
        batch_size: Pairs encoded at a time.
        workers: Processes that decode images. 0 decodes in this process.
        reader: How images are decoded. The manifest keeps it.
        states: How captions are stored: "float16" or "int8" token states, or "tokens": token ids.
        share: The shards that this process makes.

    Raises:
        ValueError: A source is missing or broken, the shards in ``out`` have other settings, another run embeds into ``out``,
            or memory runs out.
    """
    for option, value, least in (("chunk", chunk, 1), ("batch_size", batch_size, 1), ("workers", workers, 0)):
        if value < least:
            raise ValueError(f"{option} must be at least {least}, got {value}.")
    if not (0 <= val <= 1 and 0 <= test <= 1 and val + test <= 1):
        raise ValueError(f"val={val} and test={test} are fractions of the pairs: each in 0...1, together at most 1.")
    named, target = sources.parts, written_set(out)
    mine = share.of(list(named))
    with only_run(target.work, share):
        space = encoder.space(torch.zeros(encoder.dim), torch.ones(encoder.dim))
        settings = {"schema": SCHEMA, "space": space.identity, "states": states, "chunk": chunk, "val": val, "test": test}
        settings |= asdict(reader) | encoder.settings
        with in_turn(target.work, share):
            target.begin(settings, named)
        entries = target.finished(mine)
        draw = SplitDraw(named, target.work, val, test, share.first_of(list(named)))
        problems = forget_changed(entries, named, mine, draw, target.work)
        missing = {name: named[name] for name in mine if name not in entries and str(named[name]) not in problems}
        batches = ImageBatches(missing, encoder.image_transform, reader, batch_size, workers)
        with EmbedProgress(missing, len(mine) - len(missing)) as progress, _memory_errors(batches):
            draw.note = progress.note
            for name, of_source in itertools.groupby(batches, key=lambda batch: batch.content.shard):
                try:
                    with ShardWriter(target.work / name, states, target.forget) as writer:
                        entries[name] = _write_shard(writer, of_source, encoder, chunk, draw, progress)
                    target.put(entries[name])
                except BrokenSourceError as error:
                    problems[str(named[name])] = str(error)
                progress.source_done(name, entries.get(name))
        if problems:
            listed = "; ".join(f"{source} ({problem})" for source, problem in problems.items())
            raise ValueError(
                f"{len(problems)} of {len(mine)} sources could not be read to their end: {listed}. The shards of the other "
                "sources are kept. Replace or remove these sources, and run the command again."
            )
        with in_turn(target.work, share):
            if not share.is_whole:
                target.fetch()
                others = {name: entry for name, entry in target.finished(()).items() if name in named}
                entries = others | {name: entries[name] for name in mine}
            if missing_shards := len(named) - sum(name in entries for name in named):
                print(f"Task {share} is done. {missing_shards} of {len(named)} shards are missing, which other tasks make.")
                return None
            entries, outdated = of_one_draw(entries, draw, target.work)
            if changed := [name for name in mine if name in outdated]:
                raise ValueError(
                    f"Sources changed while the command ran, so that {changed[0]} does not fit the other shards. Run the "
                    "command again: it embeds this shard again."
                )
            if outdated:
                print(
                    f"Task {share} is done. {len(outdated)} of {len(named)} shards (first {outdated[0]}) do not fit the "
                    "present sources. Their tasks embed them again; run all tasks if these have ended."
                )
                return None
            shards = [entries[name] for name in named]
            asked = {"val": val, "test": test} if has_draw(entries) else {}
            manifest = Manifest(space.identity, made_by, shards, asked, asdict(reader), sources.given)
            target.finish(space, manifest)
            return manifest


def forget_changed(
    entries: dict[str, ShardEntry], named: dict[str, Part], mine: Sequence[str], draw: SplitDraw, work: Path
) -> dict[str, str]:
    """Remove from ``entries`` those shards of ``mine`` that must be embedded again; return {unreadable source: reason}.

    A shard must be embedded again where its source has changed, or where other sources have changed the splits of its pairs.
    The latter is known without reading the sources only if the manifest in ``work`` holds exactly these shards: a repair that
    was stopped, or another task's, leaves shards of two draws, and entries of all of them.
    """
    problems = {}
    for name in [name for name in mine if name in entries]:
        entry = entries.pop(name)
        assert entry.source is not None
        try:
            if source := named[name].unchanged(entry.source):
                entries[name] = replace(entry, source=source)
            else:
                print(f"{name} is embedded again, because {named[name]} has changed.")
        except BrokenSourceError as error:
            problems[str(named[name])] = str(error)
    if not has_draw(entries):
        return problems
    if len(entries) == len(named) and is_finished(work, entries) and not _others_changed(entries, named, mine):
        return problems
    print(f"All {len(named)} sources are read to draw the splits again.")
    for name in [name for name in mine if name in entries]:
        if confirmed := draw.confirmed(entries.pop(name)):
            entries[name] = confirmed
        else:
            print(f"{name} is embedded again, because the other sources change the splits of its pairs.")
    return problems


def has_draw(entries: Mapping[str, ShardEntry]) -> bool:
    """Whether splits were drawn for pairs of these shards."""
    return any(entry.source and entry.source.drawn for entry in entries.values())


def _others_changed(entries: Mapping[str, ShardEntry], named: dict[str, Part], mine: Sequence[str]) -> bool:
    """Whether the source of another task's shard may have changed. No source is read."""
    others = {name: entry.source for name, entry in entries.items() if entry.source and name not in mine}
    return any(not source.version or named[name].version() != source.version for name, source in others.items())


def of_one_draw(entries: Mapping[str, ShardEntry], draw: SplitDraw, work: Path) -> tuple[dict[str, ShardEntry], list[str]]:
    """Return the shards that are of the present draw of the splits, and the names of the others.

    A process that has not drawn yet draws now, unless the manifest vouches for the shards. Its own pairs needed no draw, or
    another task has begun a repair since.
    """
    if not has_draw(entries) or (not draw.is_drawn and is_finished(work, entries)):
        return dict(entries), []
    checked = {name: draw.confirmed(entry) for name, entry in entries.items()}
    return {name: entry for name, entry in checked.items() if entry}, [name for name, entry in checked.items() if not entry]


@contextlib.contextmanager
def _memory_errors(batches: ImageBatches) -> Iterator[None]:
    """Replace errors of too little memory by one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch raises RuntimeErrors for a GPU's memory and for its workers
        if problem := batches.memory_problem(error):
            raise problem from error
        raise


def _write_shard(
    writer: ShardWriter,
    batches: Iterator[ImageBatch],
    encoder: Encoder,
    chunk: int,
    draw: SplitDraw,
    progress: EmbedProgress,
) -> ShardEntry:
    cut, others, left_out, source = 0, 0, [], None
    waiting: dict[str, list[EmbeddedPair]] = {"train": [], "val": [], "test": []}
    for embedded in embedded_batches(batches, encoder, with_states=writer.states != "tokens"):
        content = embedded.batch.content
        pairs, bad = embedded.pairs()
        cut += int(embedded.cut.sum()) - sum(bool(embedded.cut[row]) for row in bad)
        others += content.others
        left_out += content.skipped
        left_out += [skipped(content.pairs[row].key, kind) for row, kind in bad.items()]
        for pair in pairs:
            split = draw.split_of(writer.path.name, pair.raw)
            waiting[split].append(pair)
            if len(waiting[split]) == chunk:
                writer.write(chunk_of(waiting[split]), split)
                waiting[split] = []
        progress.batch(len(pairs), content.position)
        source = content.source
        if content.problem:
            raise BrokenSourceError(content.problem)
    for split, pairs in waiting.items():
        if pairs:
            writer.write(chunk_of(pairs), split)
    assert source is not None
    return writer.close(cut, left_out, others, replace(source, drawn=draw.digest(writer.path.name)))
