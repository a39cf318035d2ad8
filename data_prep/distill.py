"""python -m data_prep distill: captions -> a prior's samples -> a set of shards that another prior trains on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from data_prep.command import command_line, run
from data_prep.text_columns import CAPTION, load_column
from eclipse_pl.data.manifest import MANIFEST_NAME, SkippedPair
from eclipse_pl.data.shard_set import ShardSet
from eclipse_pl.device import pick_device
from eclipse_pl.embed.progress import left_out
from eclipse_pl.embed.teacher import Caption, Teacher
from eclipse_pl.embed.teacher_shards import teacher_shards
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.loading import find_encoder, load_prior
from eclipse_pl.priors.guided import GuidedPrior
from eclipse_pl.priors.prior import Prior
from eclipse_pl.prompts.prompt_lines import prompt_problem
from eclipse_pl.raw.reasons import ODD_TEXT, shown


@dataclass(frozen=True)
class ColumnNames:
    """Name of the column of captions in a table, or in JSON lines."""

    caption: str = "caption"


USUAL_COLUMNS = ColumnNames()


def distill(
    prior: str,
    captions: str,
    out: str,
    samples: int = 1,
    guidance_scale: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    val: float = 0.01,
    test: float = 0.01,
    chunk: int = 1024,
    shard_pairs: int = 10_000,
    batch_size: int = 64,
    device: str = "auto",
    encoder: Encoder | None = None,
    names: ColumnNames = USUAL_COLUMNS,
    made_by: str = "python -m data_prep distill",
) -> None:
    """Write shards whose image embeddings are the samples of a prior, the teacher, for training from captions alone.

    A killed run resumes after the last finished shard. A run into a finished set samples missing and damaged shards again.

    Args:
        prior: Folder of a run, or a released prior (folder or hub id).
        captions: Text file with a caption a line; .json (a list), .jsonl, .csv, .tsv, Parquet, or an npy array of strings. Or
            the folder of a set of shards, for the captions of its training pairs.
        out: Folder of the set of shards.
        samples: Samples a caption. The noise of each depends on the seed, the caption and its number alone.
        guidance_scale: Guidance of a diffusion or flow prior; by default its own. 1 is none; its samples vary most.
        steps: Sampling steps of a diffusion or flow prior; by default its own.
        seed: Of the noise.
        val: Fraction of the captions for validation. All samples of a caption are in one split.
        test: Fraction of the captions for testing.
        chunk: Pairs per record.
        shard_pairs: Pairs per shard.
        batch_size: Samples computed at a time. It may change their last digit.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``.
        encoder: The CLIP of the prior, where its space does not say where that lies.
        names: Name of the column of captions, for example --names.caption text.
        made_by: Command that repairs the set, for the manifest. The default is this command.
    """
    found, bad = captions_of(captions, names.caption)  # before a prior is downloaded
    place = pick_device(device)
    made = load_prior(prior, encoder).to(place)
    sample_with(made, prior, steps, guidance_scale)
    teacher = Teacher(made, encoder or find_encoder(made.space, str(place)), samples, seed, batch_size)
    manifest = teacher_shards(found, teacher, out, prior, made_by, bad, chunk, shard_pairs, val, test)
    splits = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    cut = sum(shard.cut for shard in manifest.shards)
    pairs = f"{manifest.pairs} pairs ({splits}) in {len(manifest.shards)} shards"
    print(f"{Path(out).expanduser()}: {pairs}{left_out(manifest.shards)}; {cut} cut; sampled by {teacher.sampler}")
    for warning in manifest.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def captions_of(path: str, name: str) -> tuple[list[Caption], list[SkippedPair]]:
    """The captions of a file or of a set of shards, and the rows of the file that hold none.

    The key of a caption of a file is the number of its row, from 0.

    Raises:
        ValueError: There is no such file, its format is not known, or it is empty.
    """
    if (Path(path) / MANIFEST_NAME).is_file():
        shards = ShardSet(path, check="record")
        rows: list[Caption] = []
        for record in shards.records("train"):
            chunk = shards.read_chunk(record, with_states=False)
            rows += map(Caption, chunk.keys, chunk.captions)
        reasons: dict[int, str] = {}
    else:
        column = load_column(path, CAPTION, name)
        rows = [Caption(str(row), text.strip()) for row, text in enumerate(column.strings)]
        reasons = dict(column.bad)
    for row, caption in enumerate(rows):
        if row not in reasons and (problem := prompt_problem(caption.text)):
            reasons[row] = f"{ODD_TEXT} (its caption {problem})"
    if len(reasons) == len(rows):
        told = "; ".join(sorted(set(reasons.values())))
        raise ValueError(f"--captions {path} holds no caption{f' ({told})' * bool(told)}. Choose another file.")
    good = [caption for row, caption in enumerate(rows) if row not in reasons]
    return good, [SkippedPair(shown(rows[row].key), reasons[row]) for row in sorted(reasons)]


def sample_with(prior: Prior, name: str, steps: int | None, guidance_scale: float | None) -> None:
    """Set the options of the sampler of a diffusion or flow prior.

    Raises:
        ValueError: The prior has no such options, or a value is not valid.
    """
    if steps is None and guidance_scale is None:
        return
    if not isinstance(prior, GuidedPrior):
        option = "--steps" if steps is not None else "--guidance-scale"
        raise ValueError(
            f"{option} is an option of a DiffusionPrior or FlowPrior, and {name} is a {type(prior).__name__}. Leave it out."
        )
    prior.sample_with(steps, guidance_scale)


def main(args: list[str] | None = None) -> None:
    args = sys.argv[1:] if args is None else args
    run(distill, args, made_by=command_line(distill, args))
