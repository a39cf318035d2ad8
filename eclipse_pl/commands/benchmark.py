"""python -m eclipse_pl benchmark: prompts and seeds -> a prior and its decoder, or any pipeline -> scorers -> scorecard."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch

from eclipse_pl.command_line import sentence_parser
from eclipse_pl.compbench.calibration import Calibration
from eclipse_pl.compbench.compbench import CompBench, Phase
from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.scorecard import Card
from eclipse_pl.compbench.scorecard_table import calibration_table, scorecard_table
from eclipse_pl.compbench.true_images import TrueImages
from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.device import gpu_count
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.files import write_atomically
from eclipse_pl.launch.share import Share
from eclipse_pl.launch.tasks import TaskEngine, finish_task, without_options
from eclipse_pl.problems import reason_of
from eclipse_pl.text_to_image.diffusers_pipeline import DiffusersPipeline
from eclipse_pl.text_to_image.prior_and_decoder import PriorAndDecoder
from eclipse_pl.text_to_image.text_to_image import TextToImage

STATED = "benchmark.yaml"
"""In the folder of a finished benchmark: all its options, with the contents of the YAMLs that its command names."""
LONGEST_WAIT = timedelta(days=7)
"""Processes wait for the slowest one, and the first one alone measures distances. One that dies ends the others at once."""
MISTAKE = "A process of the benchmark found a mistake: "


def benchmark(
    protocol: CompBench,
    out: str,
    prior: str | None = None,
    decoder: Decoder | None = None,
    encoder: Encoder | None = None,
    pipeline: str | None = None,
    text_to_image: TextToImage | None = None,
    calibrate: TrueImages | None = None,
    processes: int = 1,
    engine: Literal["local", "ray"] | None = None,
    tasks: int | None = None,
    jobs: int | None = None,
    ray_address: str | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    only: Phase | None = None,
    task_index: int | None = None,
    task_count: int | None = None,
    ranks: Ranks | None = None,
) -> Card | None:
    """Score a prior, a baseline, the upper bound, or any text-to-image pipeline of diffusers.

    Killed and started again, it resumes after the last finished block of images. Exit code 1: some images could not be
    scored; their rows say why.

    Args:
        protocol: Prompts, samples per prompt and scorers, such as experiments/parts/protocol/paper.yaml.
        out: Folder for images, rows and scorecard.
        prior: Folder of a run, or a released prior (folder or hub id).
        decoder: Decodes the prior's embeddings, such as experiments/parts/decoder/kandinsky.yaml.
        encoder: The CLIP of the prior, where its space does not say where that lies.
        pipeline: Hub id or folder of a text-to-image pipeline, instead of a prior.
        text_to_image: Another text-to-image model instead: DiffusersPipeline with options, or the world's UpperBound.
        calibrate: No text-to-image model, but real images with their captions, such as
            experiments/parts/true_images/coco.yaml: can the protocol's scorers tell them from captions of other images?
        processes: Processes that share the work, each with a GPU of its own while there are enough. The result does not
            depend on them.
        engine: Share the work among tasks, which may run at different times: local on this machine, ray on a Ray cluster whose
            nodes share the folders. A task that dies is started again.
        tasks: Number of tasks of the engine (default: 2, or ``jobs`` where that is more).
        jobs: Local tasks at a time, which share the GPUs (default: 1).
        ray_address: The Ray cluster (default: one on this machine).
        cpus: Processors of a task on Ray (default: 1).
        gpus: GPUs of a task on Ray (default: 0).
        only: Generate images, or score images that are all there, as one of task_count tasks. The command without this option
            then writes the scorecard.
        task_index: Number of this task, from 0; by default its place in a job array of SLURM of all tasks.
        task_count: Number of tasks.
        ranks: This process among its processes.
    """
    share = Share.of_options(task_index, task_count)  # before a model is loaded
    if calibrate is None:
        text_to_image = choose(prior, decoder, encoder, pipeline, text_to_image)
    else:
        require_alone(prior, decoder, encoder, pipeline, text_to_image)
        protocol, text_to_image = Calibration(protocol, calibrate), calibrate
    folder = Path(out).expanduser()
    if only is None:
        return protocol.run(text_to_image, folder, ranks)
    protocol.run_phase(only, text_to_image, folder, Ranks(share.index, share.count))
    finish_task(folder, share)
    return None


def require_alone(*models: Any) -> None:
    """ValueError for a model that calibration would not use."""
    if any(models):
        raise ValueError(
            "--calibrate scores real images, not those of a model: leave out --prior, --decoder, --encoder, --pipeline and "
            "--text_to_image."
        )


def choose(
    prior: str | None,
    decoder: Decoder | None,
    encoder: Encoder | None,
    pipeline: str | None,
    text_to_image: TextToImage | None,
) -> TextToImage:
    """The one text-to-image model that was asked for."""
    given = [
        name for name, value in {"--prior": prior, "--pipeline": pipeline, "--text_to_image": text_to_image}.items() if value
    ]
    if len(given) != 1:
        raise ValueError(
            f"Give one of --prior, --pipeline and --text_to_image; there are {', '.join(given) or 'none of them'}."
        )
    if prior is None and (decoder or encoder):
        raise ValueError(f"--decoder and --encoder belong to --prior, and mean nothing to {given[0]}.")
    if text_to_image is not None:
        return text_to_image
    if pipeline is not None:
        return DiffusersPipeline(pipeline)
    assert prior is not None
    if decoder is None:
        raise ValueError("--prior needs a --decoder, such as experiments/parts/decoder/world.yaml.")
    return PriorAndDecoder(prior, decoder, encoder)


def report(card: Card, out: Path) -> None:
    """Print the table; exit code 1 where images failed."""
    if "calibration" in card:
        calibration_table(card)
    else:
        scorecard_table(card)
    print(f"{out / 'scorecard.json'}")
    if card["failed"]:
        print(f"{card['failed']} of {card['images']} images could not be scored: see {out / 'rows.jsonl'}", file=sys.stderr)
        raise SystemExit(1)


def main(args: list[str] | None = None) -> None:
    words = sys.argv[1:] if args is None else args
    parser = build_parser()
    options = parser.parse_args(words)
    if options.processes < 1:
        raise ValueError(f"--processes is {options.processes}; it must be 1 or more.")
    if options.only is None and (options.task_count is not None or options.task_index is not None):
        given = "--task-index" if options.task_count is None else "--task-count"
        raise ValueError(f"{given} needs --only images, and then --only scores: scores need the images of all tasks.")
    if options.only is not None and options.processes > 1 and options.engine is None:
        raise ValueError(
            f"--only {options.only} is one task in one process, and each of --processes {options.processes} would do all of "
            "its work: leave out --processes and start more tasks (--task-count), or leave out --only."
        )
    folder = Path(options.out).expanduser()
    engine = TaskEngine(options.engine, options.tasks, options.jobs, options.ray_address, options.cpus, options.gpus)
    if engine.engine is not None:
        if options.only is not None or options.processes > 1:
            raise ValueError(f"--only and --processes have no effect with --engine {engine.engine}: leave them out.")
        words, count = without_options(words), engine.tasks or max(2, engine.jobs or 0)
        for phase in ("images", "scores"):
            engine.run(["eclipse_pl", "benchmark", *words, f"--only={phase}"], folder, count)
    card = run(words, Ranks()) if options.processes == 1 else shared(words, options.processes)
    if card is not None:
        write_atomically(folder / STATED, parser.dump(options, skip_none=False).encode())
        report(card, folder)


def run(words: list[str], ranks: Ranks) -> Card | None:
    """Build the parts that the command line names, in this process, and run the benchmark."""
    parser = build_parser()
    options = parser.instantiate(parser.parse_args(words)).as_dict()
    del options["config"]  # its options are read
    return benchmark(**options, ranks=ranks)


def build_parser() -> Any:
    from jsonargparse import ActionConfigFile

    class Parser(sentence_parser()):  # type: ignore[misc]  # jsonargparse is imported when it is first used
        def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
            return super().parse_args(underscored(sys.argv[1:] if args is None else args), *more, **options)

    parser = Parser(prog="python -m eclipse_pl benchmark", description=(benchmark.__doc__ or "").split("\n")[0])
    parser.add_argument("--config", action=ActionConfigFile, help="any of the options below, in a YAML")
    parser.add_function_arguments(benchmark, as_group=False, sub_configs=True, skip={"ranks"})
    return parser


def underscored(words: Sequence[str]) -> list[str]:
    """Words of a command line whose options may be written with dashes, as other commands have them: ``--task-count``."""
    parts = [word.partition("=") if word.startswith("--") else ("", "", word) for word in words]
    return [f"{name[:2]}{name[2:].replace('-', '_')}{equals}{value}" for name, equals, value in parts]


def shared(words: list[str], processes: int) -> Card | None:
    """The same by several processes. They only exchange words, and so do not need as many GPUs as they are."""
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import DDPStrategy
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

    strategy = DDPStrategy(start_method="spawn", timeout=LONGEST_WAIT)
    fabric = Fabric(accelerator="cpu", devices=processes, strategy=strategy)
    try:
        card: Card | None = fabric.launch(share, words)  # type: ignore[arg-type]  # further arguments follow the first
    except ProcessRaisedException as error:
        _, found, facts = str(error).strip().rpartition(MISTAKE)
        if not found:
            raise
        raise mistake_of(json.loads(facts)) from error
    except ProcessExitedException as error:
        raise ValueError(
            f"A process of the benchmark was killed ({error}), perhaps because memory was full. The same command resumes "
            "after the finished blocks; fewer --processes need less memory."
        ) from error
    return card


def mistake_of(facts: list[Any]) -> ValueError | OSError:
    """The error of one process, as it would be without others."""
    return ValueError(*facts) if len(facts) == 1 else OSError(*facts)


def share(fabric: Any, words: list[str]) -> Card | None:
    own = own_gpu(fabric.global_rank)
    if own is not None:
        torch.cuda.set_device(own)  # `cuda` means this GPU to every part that this process builds
    # only the text of an error reaches the process that started this one
    try:
        return run(words, Ranks(fabric.global_rank, fabric.world_size, fabric.barrier, fabric.broadcast))
    except ValueError as error:
        raise RuntimeError(MISTAKE + json.dumps([str(reason_of(error))])) from error
    except OSError as error:
        if error.errno is None:
            raise
        raise RuntimeError(MISTAKE + json.dumps([error.errno, error.strerror, str(error.filename or "") or None])) from error


def own_gpu(rank: int) -> int | None:
    """The number of a process's GPU: its own while there are enough."""
    count = gpu_count()
    return rank % count if count else None
