"""``python -m eclipse_pl speed`` measures training step, sampling, loader, encoder and scorer, each against a peer.

    step       one training step of `PriorNetwork`, against diffusers' ``PriorTransformer`` with the same weights and batch
    diffusion  one training step of `DiffusionPrior`, against `EclipsePrior`; sampling, against two loops without our savings
    loader     an epoch of training batches, against reading the same files one after another into memory
    remote     the same from shards behind a URL: downloaded over a slow line, and from the cache
    embed      `embed_shards` on JPEG images, against the forward pass of the same model on ready tensors
    blip-vqa   eight questions about an image by `BlipVqa`, against one pass of the same model per question

Our code and the peer take turns, and medians are compared, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from eclipse_pl.arguments import answer_in_one_sentence
from eclipse_pl.device import describe_machine, pick_device
from eclipse_pl.files import write_json
from eclipse_pl.speed.timing import Timing


def main(args: list[str] | None = None) -> None:
    """Measure, print the table, and write it with ``--json``."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eclipse_pl speed",
        description="Measure this machine; about seven minutes on two idle cores.",
    )
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help=f"some of {','.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows and a description of this machine")
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda")
    answer_in_one_sentence(parser, args)
    options = parser.parse_args(args)
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in MEASUREMENTS]:
        raise ValueError(f"--only {','.join(unknown)} is not a measurement; choose among {', '.join(MEASUREMENTS)}.")
    if options.json and not options.json.absolute().parent.is_dir():
        raise ValueError(f"--json {options.json}: there is no folder {options.json.absolute().parent}. Create it first.")
    device = pick_device(options.device)
    timings = [timing for name in chosen for timing in MEASUREMENTS[name](device)]
    machine = describe_machine(device)
    print_table(timings, machine)
    if options.json:
        write_json(options.json, [{**asdict(timing), "ratio": timing.ratio, "machine": machine} for timing in timings])


def step_timings(device: torch.device) -> list[Timing]:
    from eclipse_pl.speed.priors import step

    sizes = {"captions": 64, "layers": 10, "heads": 16, "head_dim": 32}
    return [*step("step/ViT-L-14", 768, device, **sizes), *step("step/ViT-bigG-14", 1280, device, **sizes)]


def diffusion_timings(device: torch.device) -> list[Timing]:
    from eclipse_pl.speed.priors import diffusion_step, sampling

    captions = 8 if device.type == "cpu" else 64
    return [
        *diffusion_step("diffusion/step/ViT-L-14", 768, device, captions=64),
        *sampling("diffusion/sample/ViT-L-14", 768, device, captions=captions),
    ]


def loader_timings(device: torch.device) -> list[Timing]:
    from eclipse_pl.speed.data import loader

    with tempfile.TemporaryDirectory(prefix="eclipse_pl_speed_") as folder:
        return loader(Path(folder), shards=8, records=8, chunk=1024, dim=768, batch_size=1024)


def remote_timings(device: torch.device) -> list[Timing]:
    from eclipse_pl.speed.data import remote

    with tempfile.TemporaryDirectory(prefix="eclipse_pl_speed_") as folder:
        return remote(Path(folder), shards=4, records=8, chunk=1024, dim=768, batch_size=1024)


def embed_timings(device: torch.device) -> list[Timing]:
    from eclipse_pl.encoders.openclip import OpenClipEncoder
    from eclipse_pl.speed.data import embed

    with tempfile.TemporaryDirectory(prefix="eclipse_pl_speed_") as folder:
        encoder = OpenClipEncoder("ViT-B-32", pretrained="random", device=str(device))
        encoder.place("image")
        encoder.place("text")
        return embed(Path(folder), encoder, pairs=128 if device.type == "cpu" else 20_000)


def scorer_timings(device: torch.device) -> list[Timing]:
    from eclipse_pl.speed.scorers import random_blip_vqa

    return random_blip_vqa(device)


def print_table(timings: Sequence[Timing], machine: dict[str, str | int]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Speed", caption=", ".join(f"{key} {value}" for key, value in machine.items()))
    for column in ("", "ours", "peer", "unit", "times as fast"):
        table.add_column(column, justify="left" if column in ("", "unit") else "right")
    for timing in timings:
        table.add_row(timing.name, f"{timing.ours:,.1f}", f"{timing.peer:,.1f}", timing.unit, f"{timing.ratio:.2f}")
    Console().print(table)


MEASUREMENTS = {
    "step": step_timings,
    "diffusion": diffusion_timings,
    "loader": loader_timings,
    "remote": remote_timings,
    "embed": embed_timings,
    "blip-vqa": scorer_timings,
}
