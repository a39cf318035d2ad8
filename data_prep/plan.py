"""python -m data_prep plan: the disk, the hours and the commands of a set of a given size, before it is made."""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_prep.command import run
from data_prep.quantities import in_bytes, in_hours, per_second
from data_prep.shard_bytes import STORED, ShardBytes

if TYPE_CHECKING:
    from eclipse_pl.speed.rates import Rates

EXPERIMENTS = {
    "ViT-L-14/openai": "karlo",
    "ViT-H-14/laion2b_s32b_b79k": "h14",
    "ViT-bigG-14/laion2b_s39b_b160k": "kandinsky",
}
"""The CLIPs that a decoder knows, and the names of their experiments."""
Precision = Literal["float32", "bfloat16", "float16"]
STEPS, BATCH = 60_000, 256
"""Of the experiments eclipse_karlo.yaml and its pairs of other spaces, on one GPU."""


def plan(
    pairs: float,
    encoder: str,
    pretrained: str | None = None,
    precision: Precision | None = None,
    tokens: float | None = None,
    shard_pairs: int = 10_000,
    source: str = "raw/*.tar",
    out: str | None = None,
    device: str = "auto",
    figures: str | None = None,
    json: str | None = None,
) -> None:
    """Print the disk, the hours and the commands that a set of shards takes. Nothing is downloaded.

    Speed is measured on this machine with random inputs, in about half a minute on a CPU. Encoders of many layers are measured
    with a few of them.

    Args:
        pairs: Number of pairs, such as 12e6.
        encoder: Name of the open_clip model, such as ViT-L-14, or local-dir:/folder.
        pretrained: Tag of its weights for the commands. By default openai, or the first tag that open_clip knows.
        precision: Precision of the encoder. By default float32.
        tokens: Mean number of tokens of a caption, with start and end. By default that of MSCOCO, 13.5.
        shard_pairs: Pairs of a source tar, which becomes one shard. img2dataset writes 10,000.
        source: Source tars, for the commands.
        out: Folder of the set, for the commands. By default data/ and the name of the encoder.
        device: Device to measure: auto, cpu or cuda.
        figures: File of figures that this command wrote on another machine with --json. Nothing is measured then.
        json: File to write the measured figures to.
    """
    if pairs < 1 or shard_pairs < 1:
        raise ValueError(f"--pairs is {pairs:g} and --shard-pairs {shard_pairs}; both must be 1 or more.")
    if json is not None and not Path(json).absolute().parent.is_dir():
        raise ValueError(f"--json {json}: there is no folder {Path(json).absolute().parent}. Create it first.")
    if figures is not None and device != "auto":
        raise ValueError(f"--device {device} has no effect with --figures, because nothing is measured then. Leave one out.")
    from open_clip.model import CLIPTextCfg

    from eclipse_pl.encoders.openclip import require_causal
    from eclipse_pl.open_clip_model import model_config

    require_causal(encoder)
    config = model_config(encoder)
    text = CLIPTextCfg(**config["text_cfg"])
    if tokens is not None and not 2 <= tokens <= text.context_length:
        most = f"{text.context_length} tokens, start and end included"
        raise ValueError(f"--tokens is {tokens:g}; a caption of {encoder} has 2 to {most}.")
    tag = pretrained_tag(encoder, pretrained)
    rates = rates_of(encoder, precision, tokens, device, figures)
    if json is not None:
        rates.save(Path(json))
    name = re.sub(r"\W+", "-", encoder.rpartition("/")[2]).lower()
    made = Plan(
        pairs=round(pairs),
        encoder=encoder,
        pretrained=tag,
        rates=rates,
        measured=figures is None,
        sizes=ShardBytes(config["embed_dim"], text.width, rates.tokens),
        shard_pairs=shard_pairs,
        source=source,
        out=out or f"data/{EXPERIMENTS.get(f'{encoder}/{tag}', name)}",
    )
    print("\n".join(made.lines()))


def rates_of(encoder: str, precision: Precision | None, tokens: float | None, device: str, figures: str | None) -> Rates:
    """The figures of this machine, measured, or those of a file.

    Raises:
        ValueError: There is no such device, or the file holds figures of something else.
    """
    from eclipse_pl.device import pick_device
    from eclipse_pl.speed.rates import Rates, measure

    if figures is None:
        return measure(encoder, precision or "float32", tokens, pick_device(device, float64=False))
    rates = Rates.load(Path(figures))
    for option, asked in (("encoder", encoder), ("precision", precision), ("tokens", tokens)):
        if asked is not None and asked != (found := getattr(rates, option)):
            raise ValueError(f"{figures} has figures for --{option} {found}, not {asked}. Write others with --json.")
    return rates


@dataclass(frozen=True)
class Plan:
    """A set of ``pairs`` pairs, and the figures of the machine that makes it."""

    pairs: int
    encoder: str
    pretrained: str
    rates: Rates
    measured: bool
    sizes: ShardBytes
    shard_pairs: int
    source: str
    out: str

    def lines(self) -> Iterator[str]:
        """The printed text."""
        rates, sizes, whole = self.rates, self.sizes, self.encoder + (f"/{self.pretrained}" if self.pretrained else "")
        where = "here" if self.measured else "on another machine"
        machine = ", ".join(f"{key} {value}" for key, value in rates.machine.items())
        yield f"{self.pairs:,} pairs of {whole}: E {sizes.dim}, W {sizes.width} (open_clip's config),"
        yield f"{rates.tokens:.1f} tokens a caption (--tokens, or MSCOCO's mean)."
        yield f"Measured {where}, with untrained weights and random inputs: {machine}."
        yield ""
        yield from self.table()
        yield ""
        yield from self.cheaper()
        yield ""
        yield from self.embedding()
        yield ""
        yield from self.commands()

    def table(self) -> Iterator[str]:
        """Disk and hours of training of each way to store captions."""
        yield "Computed from the format of shards and the figures measured, in hours on one device:"
        yield row("stored of a caption", "disk", "a pair", "training, 1 epoch", f"{STEPS:,} steps of {BATCH}")
        for stored in STORED:
            size, seconds = self.sizes.of_set(self.pairs, stored), self.training(stored)
            hours = (in_hours(seconds * self.pairs), in_hours(seconds * STEPS * BATCH))
            yield row(stored, in_bytes(size), in_bytes(size / self.pairs), *hours)
        shards = math.ceil(self.pairs / self.shard_pairs)
        size = self.sizes.of_set(min(self.shard_pairs, self.pairs), "states, float16")
        yield f"In {shards:,} shards, one a source tar of {self.shard_pairs:,} pairs. With states, each has {in_bytes(size)}."

    def training(self, stored: str) -> float:
        """Seconds of training per pair. Token ids pass through the text tower at every step."""
        tower = self.rates.caption if stored == "token ids" else 0.0
        return tower + (self.rates.training_pooled if stored == "pooled only" else self.rates.training)

    def cheaper(self) -> Iterator[str]:
        """States against token ids: what one saves in disk costs the other in time."""
        states, ids = (self.sizes.of_set(self.pairs, stored) for stored in ("states, float16", "token ids"))
        saved, hours = states - ids, self.rates.caption * STEPS * BATCH / 3600
        yield (
            f"Token ids save {in_bytes(saved)} of disk, and training takes {1 + self.rates.caption / self.rates.training:.1f} "
            f"times as long: {in_hours(hours * 3600)} more for {STEPS:,} steps."
        )
        yield (
            f"They are cheaper than states where an hour of this device costs less than {in_bytes(saved / hours)} of disk, "
            "and dearer elsewhere."
        )

    def embedding(self) -> Iterator[str]:
        """Hours of embedding, and what limits them."""
        rates, workers = self.rates, self.workers
        seconds = rates.embedding(workers)
        limit = "decoding" if rates.decoding / workers > rates.image + rates.caption else "the encoder"
        processes = f"{workers} process{'es' * (workers > 1)}"
        yield f"Embedding: {in_hours(seconds * self.pairs)} on one device, {per_second(seconds)} pairs/s, limited by {limit}."
        yield f"  towers in {rates.precision}: {per_second(rates.image)} images/s and {per_second(rates.caption)} captions/s;"
        yield f"  decoding: {per_second(rates.decoding)} images/s in each of {processes}."

    @property
    def workers(self) -> int:
        """Processes that decode as fast as the encoder computes, at most one a core."""
        needed = math.ceil(self.rates.decoding / (self.rates.image + self.rates.caption))
        return max(1, min(needed, int(self.rates.machine.get("cores", os.cpu_count() or 1))))

    def commands(self) -> Iterator[str]:
        """The command lines, once the source tars are there."""
        embed = ["python", "-m", "data_prep", "embed", "--source", self.source, "--encoder.model", self.encoder]
        embed += ["--encoder.pretrained", self.pretrained or "null"]
        embed += [] if self.rates.precision == "float32" else ["--encoder.precision", self.rates.precision]
        embed += ["--workers", str(self.workers), "--out", self.out]
        decoder = EXPERIMENTS.get(f"{self.encoder}/{self.pretrained}")
        overlays = ["cpu" if self.rates.machine.get("gpu") == "none used" else "one_gpu", *([] if decoder else ["no_images"])]
        fit = ["python", "-m", "eclipse_pl", "fit", "--config", f"experiments/eclipse_{decoder or 'karlo'}.yaml"]
        fit += [word for overlay in overlays for word in ("--config", f"experiments/overlays/{overlay}.yaml")]
        fit += ["--data.init_args.folder", self.out]
        yield "Commands, once the source tars are there:"
        yield f"  {shlex.join(embed)}"
        yield f"  {shlex.join(['python', '-m', 'data_prep', 'verify', self.out])}"
        yield f"  {shlex.join(fit)}"
        if not decoder:
            yield f"No decoder here turns embeddings of {self.encoder} into images, so this run is without images."


def pretrained_tag(encoder: str, pretrained: str | None) -> str:
    """The tag of the weights, checked: ``pretrained``, or openai, or the first tag of the model. "" for a local model.

    Raises:
        ValueError: open_clip has no such tag, or none at all.
    """
    import open_clip

    from eclipse_pl.open_clip_model import LOCAL, open_clip_tag

    if encoder.startswith(LOCAL):
        open_clip_tag(encoder, pretrained)
        return ""
    tags = open_clip.list_pretrained_tags_by_model(encoder)
    if pretrained is None and not tags:
        raise ValueError(f"open_clip has no weights for {encoder}. Pass a checkpoint file as --pretrained.")
    chosen = pretrained or ("openai" if "openai" in tags else tags[0])
    open_clip_tag(encoder, chosen)
    return chosen


def row(*cells: str) -> str:
    """A line of the table: the first cell on the left, the others on the right of their columns."""
    first, *others = cells
    return f"  {first:20s}" + "".join(f"{cell:>{width}s}" for cell, width in zip(others, (11, 11, 20, 23), strict=True))


def main(args: list[str] | None = None) -> None:
    run(plan, sys.argv[1:] if args is None else args)
