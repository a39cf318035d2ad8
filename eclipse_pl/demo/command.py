"""python -m eclipse_pl demo: a web page on this machine for prompts and their images, and its service for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from eclipse_pl.command_line import call
from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.demo.batcher import Batcher
from eclipse_pl.demo.model import DemoModel
from eclipse_pl.demo.real_images import RealImages
from eclipse_pl.demo.server import require_gradio, require_port, start
from eclipse_pl.device import pick_device
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.loading import find_encoder, load_decoder, load_prior
from eclipse_pl.priors.checkpoint import SavedRun, find_checkpoint
from eclipse_pl.priors.prior import Prior
from eclipse_pl.raw.source import Source
from eclipse_pl.scorers.scorer import Scorer
from eclipse_pl.world.encoder import WorldEncoder
from eclipse_pl.world.oracle import OracleScorer


def demo(
    prior: list[str],
    decoder: Decoder | None = None,
    encoder: Encoder | None = None,
    scorers: list[Scorer] | None = None,
    real_images: int = 500,
    split: str = "test",
    images: Source | str | list[str] | None = None,
    device: str = "auto",
    names: list[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    batch: int = 16,
    queue: int = 128,
) -> None:
    """Serve a page with images of what is typed, and the endpoint /generate for programs, until it is interrupted.

    Two priors stand side by side on the same seeds. The page shows the latency of encoder, prior and decoder.

    Args:
        prior: A run, or a released prior (folder or hub id). Repeat the option for a second one of the same space.
        decoder: Decodes the embeddings, such as experiments/parts/decoder/karlo.yaml. Default: the one known for the space.
        encoder: The CLIP of the prior, where its space does not say where that lies.
        scorers: Scorers of the images, a list of classes. Default: the oracle in the world, none elsewhere.
        real_images: Real images of the first run's shards of which the nearest are shown; 0 shows none.
        split: Their split.
        images: Their source, as in ``nearest``; by default the one that the shards were made of.
        device: Device of the priors: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``.
        names: Names of the priors on the page and for programs; by default those of their folders.
        host: Address to listen on. 0.0.0.0 lets other machines in.
        port: Port to listen on.
        share: Make a public link through gradio's servers, for whoever knows it.
        batch: The most requests of programs that are answered together.
        queue: The most requests that wait; more are refused.
    """
    require_gradio()
    for name, number, least in (("batch", batch, 1), ("queue", queue, 1), ("real_images", real_images, 0)):
        if number < least:
            raise ValueError(f"--{name} is {number}; it must be {least} or more.")
    require_port(host, port)
    model = load_model(prior, decoder, encoder, scorers, real_images, split, images, device, names)
    model.warm_up()
    batcher = Batcher(model, batch)
    blocks, address = start(batcher, host, port, share, queue)
    print(f"{address}: {' and '.join(model.priors)}, in {model.space}. End it with Ctrl+C.", flush=True)
    try:
        blocks.block_thread()
    finally:
        batcher.close()


def load_model(
    sources: Sequence[str],
    decoder: Decoder | None = None,
    encoder: Encoder | None = None,
    scorers: list[Scorer] | None = None,
    real_images: int = 0,
    split: str = "test",
    images: Source | str | list[str] | None = None,
    device: str = "auto",
    names: Sequence[str] | None = None,
) -> DemoModel:
    """Load what `demo` serves; see there.

    Raises:
        ValueError: A part cannot be had, or the parts belong to different spaces.
    """
    if not 1 <= len(sources) <= 2:
        raise ValueError(f"{len(sources)} priors were given. The demo shows one, or two side by side.")
    names = names or names_of(sources)
    if not len(names) == len(set(names)) == len(sources):
        raise ValueError(f"--names {', '.join(names)} must be one name for each of {len(sources)} priors, none of them twice.")
    place = pick_device(device)
    priors: dict[str, Prior] = {}
    for name, source in zip(names, sources, strict=True):
        priors[name] = load_prior(source, encoder).to(place)
    first = next(iter(priors.values()))
    decoder = decoder or load_decoder(first)
    decoder.require_space(first.space, "the prior")
    encoder = encoder or find_encoder(first.space, str(place))
    if scorers is None:
        scorers = [OracleScorer()] if isinstance(encoder, WorldEncoder) else []
    for scorer in scorers:
        scorer.require_ready()
    real = find_real_images(sources[0], first, split, real_images, images) if real_images else None
    return DemoModel(priors, encoder, decoder, scorers, real)


def find_real_images(
    source: str, prior: Prior, split: str, most: int, images: Source | str | list[str] | None
) -> RealImages | None:
    """The real images of a run's shards. Where they are not on this machine, a line says so, and there are none."""
    try:
        checkpoint = find_checkpoint(source)
        if checkpoint is None:
            raise ValueError(f"{source} is no run, so its shards are unknown.")
        return RealImages.read(SavedRun(checkpoint, source).data_folder, split, most, prior.space, images)
    except ValueError as error:
        if images is not None:  # whoever names them wants them
            raise
        print(f"No real images are shown: {error}", flush=True)
        return None


def names_of(sources: Sequence[str]) -> list[str]:
    """A short name for each prior: its folder, with the experiment before a version; numbered where two are equal.

    Of two runs of a sweep, whose folders are named by their settings, only the settings that differ.
    """
    paths = [Path(source).resolve() if Path(source).exists() else Path(source) for source in sources]
    names = [f"{path.parent.name}/{path.name}" if path.name.startswith("version_") else path.name for path in paths]
    settings = [name.split(",") for name in names]
    if len(names) == 2 and len(settings[0]) == len(settings[1]):
        differing = [pair for pair in zip(*settings, strict=True) if pair[0] != pair[1]]
        names = [",".join(part.rpartition("=")[2] for part in parts) for parts in zip(*differing, strict=True)] or names
    return names if len(set(names)) == len(names) else [f"{name} ({k})" for k, name in enumerate(names, 1)]


def with_all_priors(words: Sequence[str]) -> list[str]:
    """The command line with the priors of all ``--prior`` in one list."""
    rest: list[str] = []
    priors: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--prior" and left:
            priors.append(left.pop(0))
        elif word.startswith("--prior="):
            priors.append(word.removeprefix("--prior="))
        else:
            rest.append(word)
    return [f"--prior={json.dumps(priors)}", *rest] if priors else rest


def main(args: list[str] | None = None) -> None:
    call(demo, with_all_priors(sys.argv[1:] if args is None else args), "eclipse_pl demo")
