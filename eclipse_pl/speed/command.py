"""``python -m eclipse_pl speed`` measures each part of training and generation against a peer.

    step       one training step of `PriorNetwork`, against diffusers' ``PriorTransformer`` with the same weights and batch
    compiled   the same, both by `torch.compile`
    padding    a training step on captions in buckets, whose shapes repeat, against the same captions as they are
    fit        ``fit`` from shards with all its callbacks, against the bare step loop on the same batches
    sample     one-pass sampling of `EclipsePrior`, against diffusers' network
    captions   captions to embeddings in Python, on the world, against the bare text tower and network on ready token ids
    diffusion  one training step of `DiffusionPrior`, against `EclipsePrior`; sampling, against two loops without our savings
    objectives training steps of the same network: energy score of 2 samples against the squared error, `FlowPrior` against
               `DiffusionPrior`, `MeanFlowPrior` against `FlowPrior`
    loader     an epoch of training batches, against reading the same files one after another into memory
    remote     the same from shards behind a URL: downloaded over a slow line, and from the cache
    embed      `embed_shards` on JPEG images, against the forward pass of the same model on ready tensors
    blip-vqa   eight questions about an image by `BlipVqa`, against one pass of the same model per question

Our code and the peer take turns, and medians are compared, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from eclipse_pl.command_line import answer_in_one_sentence
from eclipse_pl.device import pick_device
from eclipse_pl.files import write_json
from eclipse_pl.speed.table import machine_and_commit, print_table
from eclipse_pl.speed.timing import Timing
from eclipse_pl.training.compiled import MODES, Mode, require_compiler

SPACES = {"ViT-L-14": 768, "ViT-bigG-14": 1280}
"""Width of the spaces of Karlo's and Kandinsky's priors."""


@dataclass(frozen=True)
class Options:
    """What is measured: the device, and sizes that a user may choose (None takes those of the measurement)."""

    device: torch.device
    batches: tuple[int, ...] | None = None
    steps: int | None = None
    spaces: dict[str, int] = field(default_factory=lambda: dict(SPACES))
    compile: Mode | None = None

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"


def main(args: list[str] | None = None) -> None:
    """Measure, print the table, and write it with ``--json``."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eclipse_pl speed",
        description="Measure this machine; about twelve minutes on two idle cores.",
    )
    names = ",".join(MEASUREMENTS)
    parser.add_argument("--only", help=f"some of {names} (default: all, but compiled on a GPU only)")
    parser.add_argument(
        "--json",
        metavar="FILE",
        type=path_of,
        help="write the rows and a description of this machine",
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda")
    parser.add_argument(
        "--batches",
        metavar="N,N",
        help="batch sizes of step, compiled, padding and fit (default: 256 to 16384, of the last two 1024,4096; on a CPU 64)",
    )
    parser.add_argument("--spaces", help=f"spaces of step and compiled (default: {','.join(SPACES)})")
    parser.add_argument("--steps", metavar="N", type=int, help="steps of fit (default: 200, on a CPU 40)")
    parser.add_argument("--compile", choices=MODES, help="model.compile of fit (default: not compiled)")
    answer_in_one_sentence(parser, args)
    given = parser.parse_args(args)
    chosen = None if given.only is None else given.only.split(",")
    if unknown := [name for name in chosen or [] if name not in MEASUREMENTS]:
        raise ValueError(f"--only {','.join(unknown)} is not a measurement; choose among {', '.join(MEASUREMENTS)}.")
    if given.json and given.json.is_dir():
        raise ValueError(f"--json {given.json} is a folder. Name a file in it, such as {given.json / 'speed.json'}.")
    if given.json and not given.json.absolute().parent.is_dir():
        raise ValueError(f"--json {given.json}: there is no folder {given.json.absolute().parent}. Create it first.")
    if given.steps is not None and given.steps < LEAST_STEPS:
        raise ValueError(f"--steps is {given.steps}; fit is measured over {LEAST_STEPS} steps or more.")
    require_effect(given, chosen)
    spaces = list(SPACES) if given.spaces is None else given.spaces.split(",")
    if unknown := [name for name in spaces if name not in SPACES]:
        raise ValueError(f"--spaces {','.join(unknown)} is not one of {', '.join(SPACES)}.")
    batches = None if given.batches is None else sizes_of(given.batches)
    options = Options(pick_device(given.device), batches, given.steps, {name: SPACES[name] for name in spaces}, given.compile)
    require_bfloat16(options.device)
    chosen = measurements_of(options, chosen)
    timings: list[Timing] = []
    try:
        for name in chosen:
            for timing in MEASUREMENTS[name](options):
                timings.append(timing)  # one by one: an error later on loses no row
    finally:
        if timings:
            machine = machine_and_commit(options.device)
            print_table(timings, machine)
            if given.json:
                write_json(given.json, [{**asdict(timing), "ratio": timing.ratio, "machine": machine} for timing in timings])


def measurements_of(options: Options, chosen: list[str] | None) -> list[str]:
    """The chosen measurements, or all that this machine can make: ``compiled`` on a GPU with a compiler.

    Raises:
        ValueError: What is to be compiled has no compiler.
    """
    if options.compile:
        require_compiler(options.device, "--compile", "leave --compile out")
    if chosen:
        if "compiled" in chosen:
            require_compiler(options.device, "compiled", "leave compiled out of --only")
        return chosen
    names = [name for name in MEASUREMENTS if options.gpu or name != "compiled"]
    if options.gpu:
        try:
            require_compiler(options.device, "compiled", "go without it")
        except ValueError as error:
            print(f"compiled is left out: {error}", flush=True)
            names.remove("compiled")
    return names


LEAST_STEPS = 8
OPTIONS_OF = {
    "batches": ("step", "compiled", "padding", "fit"),
    "spaces": ("step", "compiled"),
    "steps": ("fit",),
    "compile": ("fit",),
}
"""{option: measurements that it changes}"""


def require_effect(given: argparse.Namespace, chosen: list[str] | None) -> None:
    """Raise ValueError for an option that changes none of the chosen measurements."""
    for option, names in OPTIONS_OF.items():
        if getattr(given, option) is not None and chosen is not None and not set(names) & set(chosen):
            raise ValueError(
                f"--{option} has no effect on {', '.join(chosen)}: leave it out, or add one of {', '.join(names)} to --only."
            )


def path_of(word: str) -> Path:
    return Path(word).expanduser()


def sizes_of(text: str) -> tuple[int, ...]:
    """Batch sizes, separated by commas."""
    try:
        sizes = tuple(int(word) for word in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ValueError(f"--batches {text} is no list of batch sizes. Give numbers from 1, such as 256,1024.")
    return sizes


def require_bfloat16(device: torch.device) -> None:
    """Raise ValueError for a GPU that has no bfloat16, in which priors train on GPUs."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"{torch.cuda.get_device_name(device)} has no bfloat16, in which steps are measured on a GPU. Use --device cpu, "
            "or a GPU of the Ampere generation or later."
        )


def step_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.speed.steps import padded_step, steps

    batches = options.batches or ((256, 1024, 4096, 16384) if options.gpu else (64,))
    for space, dim in options.spaces.items():
        yield from steps(f"step/{space}", dim, options.device, batches)
        if not options.gpu:
            yield from padded_step(f"step/{space}", dim, options.device, batches[0])


def compiled_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.speed.steps import steps

    batches = options.batches or ((256, 1024, 4096, 16384) if options.gpu else (64,))
    for space, dim in options.spaces.items():
        yield from steps(f"step/{space}", dim, options.device, batches, compiled=True)


def padding_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.speed.buckets import padding

    for captions in options.batches or ((1024, 4096) if options.gpu else (64,)):
        yield from padding(f"padding/ViT-L-14/{captions}", SPACES["ViT-L-14"], options.device, captions)


def fit_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.speed.fit import fit

    batches = options.batches or ((1024, 4096) if options.gpu else (64,))
    steps = options.steps or (200 if options.gpu else 40)
    return fit("fit/ViT-L-14", SPACES["ViT-L-14"], options.device, batches, steps, options.compile)


def sample_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.speed.priors import one_pass

    return one_pass("sample/ViT-L-14", SPACES["ViT-L-14"], options.device, captions=256 if options.gpu else 64)


def caption_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.speed.priors import from_captions

    sizes = {"num_layers": 4, "num_attention_heads": 4, "attention_head_dim": 32}  # those of the quickstart
    return from_captions("captions/world/64", options.device, captions=64, **sizes)


def diffusion_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.priors.diffusion import DiffusionPrior
    from eclipse_pl.priors.eclipse import EclipsePrior
    from eclipse_pl.speed.priors import sampling, step_against

    device, dim, captions = options.device, SPACES["ViT-L-14"], 1024 if options.gpu else 64
    yield step_against("diffusion/step/ViT-L-14", DiffusionPrior, EclipsePrior, dim, device, captions)
    yield from sampling("diffusion/sample/ViT-L-14", dim, device, captions=256 if options.gpu else 8)


def objective_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.speed.priors import objectives

    return objectives("ViT-L-14", SPACES["ViT-L-14"], options.device, captions=1024 if options.gpu else 64)


def loader_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.speed.data import loader

    with tempfile.TemporaryDirectory(prefix="eclipse_pl_speed_") as folder:
        return loader(Path(folder), shards=8, records=8, chunk=1024, dim=768, batch_size=1024, device=options.device)


def remote_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.speed.data import remote

    with tempfile.TemporaryDirectory(prefix="eclipse_pl_speed_") as folder:
        return remote(Path(folder), shards=4, records=8, chunk=1024, dim=768, batch_size=1024)


def embed_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.encoders.openclip import OpenClipEncoder
    from eclipse_pl.speed.data import embed

    with tempfile.TemporaryDirectory(prefix="eclipse_pl_speed_") as folder:
        device = str(options.device)
        encoder = (
            OpenClipEncoder("ViT-L-14", pretrained="random", precision="bfloat16", device=device)
            if options.gpu
            else OpenClipEncoder("ViT-B-32", pretrained="random", device=device)
        )
        encoder.place("image")
        encoder.place("text")
        if options.gpu:
            return embed(Path(folder), encoder, pairs=4096, batch_size=256, workers=max(1, (os.cpu_count() or 1) - 1))
        return embed(Path(folder), encoder, pairs=128)


def scorer_timings(options: Options) -> Iterable[Timing]:
    from eclipse_pl.speed.scorers import random_blip_vqa

    return random_blip_vqa(options.device)


MEASUREMENTS: dict[str, Callable[[Options], Iterable[Timing]]] = {
    "step": step_timings,
    "compiled": compiled_timings,
    "padding": padding_timings,
    "fit": fit_timings,
    "sample": sample_timings,
    "captions": caption_timings,
    "diffusion": diffusion_timings,
    "objectives": objective_timings,
    "loader": loader_timings,
    "remote": remote_timings,
    "embed": embed_timings,
    "blip-vqa": scorer_timings,
}
