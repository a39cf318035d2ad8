from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from jsonargparse import set_parsing_settings
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from eclipse_pl.callbacks.averaging import Averaging
from eclipse_pl.callbacks.benchmark import Benchmark
from eclipse_pl.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints, require_own
from eclipse_pl.callbacks.energy import Energy, require_counters
from eclipse_pl.callbacks.interrupt import Interrupt
from eclipse_pl.callbacks.latent import LatentEvaluation
from eclipse_pl.callbacks.progress import Progress
from eclipse_pl.callbacks.samples import SampleImages
from eclipse_pl.callbacks.slurm import requeued_run
from eclipse_pl.callbacks.throughput import Throughput
from eclipse_pl.callbacks.together import FailTogether
from eclipse_pl.callbacks.training_data import TrainingDataRecord
from eclipse_pl.class_help import name_classes
from eclipse_pl.command_line import answer_in_one_sentence
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.latent.metrics import require_metric
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.priors.checkpoint import read_checkpoint
from eclipse_pl.problems import Problems
from eclipse_pl.prompts.typed import with_typed_prompts
from eclipse_pl.run import Run
from eclipse_pl.training.dropped_keys import require_no_dropped_keys
from eclipse_pl.training.loop import TrainingLoop
from eclipse_pl.training.named_checkpoint import checkpoint_path, with_config_of_run
from eclipse_pl.training.opening import Opening
from eclipse_pl.training.options import (
    devices_named,
    out_of_memory,
    processes_of,
    require_devices,
    require_measured,
    require_supported,
    require_trained,
)
from eclipse_pl.training.unknown_keys import unknown_keys

# a space comes from the data and never from YAML, so its fields are not options
set_parsing_settings(subclasses_enabled=[ClipSpace])


NO_IMAGES = " To train and measure embeddings alone, add --config experiments/overlays/no_images.yaml."


class PriorCLI(LightningCLI):
    """fit, validate and test of a LitPrior. Configs are not rewritten: a group in YAML is the signature of a class."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(Run, "run")
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.add_lightning_class_args(LatentEvaluation, "latent")
        parser.add_argument(
            "--decoder",
            type=Decoder | None,
            default=None,
            enable_path=True,
            help="Decoder that generates the images of samples and benchmark.",
        )
        parser.add_lightning_class_args(SampleImages, "samples")
        parser.add_lightning_class_args(Benchmark, "benchmark")
        parser.link_arguments("decoder", "samples.decoder", apply_on="instantiate")
        parser.link_arguments("decoder", "benchmark.decoder", apply_on="instantiate")
        parser.add_argument(
            "--average",
            type=WeightAveraging | None,
            default=None,
            help="Weight averaging, such as lightning.pytorch.callbacks.EMAWeightAveraging; none if not given.",
        )
        parser.link_arguments("data", "model.prior.init_args.space", compute_fn=space_of, apply_on="instantiate")

    commands: ClassVar[tuple[str, ...]] = ("fit", "validate", "test")

    @classmethod
    def subcommands(cls) -> dict[str, set[str]]:
        # weights_only is not an option: checkpoints are never unpickled
        skipped = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule", "weights_only"}
        return dict.fromkeys(cls.commands, skipped)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        words = sys.argv[1:] if args is None else args
        if isinstance(words, list):
            args = words = with_config_of_run(with_typed_prompts(words, "--samples.prompts"))
        others: Callable[[], list[str]] = list
        if isinstance(words, list) and words and words[0] in self._subcommand_parsers:
            options = list(self._subcommand_parsers[words[0]]._option_string_actions)
            others = partial(unknown_keys, words, options)
            require_no_dropped_keys(words)
        for each in (parser, *self._subcommand_parsers.values()):
            answer_in_one_sentence(each, words, others)
            name_classes(each)
        self.config = parser.parse_args(args)
        settings = self.config[self.config.subcommand]
        if self.config.subcommand == "fit" and (requeued := self.requeued(settings.run)) is not None:
            settings.ckpt_path = str(requeued)
        if settings.ckpt_path is not None:
            path = checkpoint_path(settings.ckpt_path, settings.run.folder, settings.run.experiment)
            require_own(read_checkpoint(path), path, resumes=self.config.subcommand == "fit")
            settings.ckpt_path = str(path)

    def requeued(self, run: Any) -> Path | None:
        """The run that this job of SLURM was making before it was queued again."""
        return requeued_run(Path(run.folder).expanduser() / run.experiment, run.version)

    def instantiate_classes(self) -> None:
        """Build all parts. All their problems are reported together, before the trainer is built or a file is fetched."""
        assert self.subcommand is not None
        settings = self.config[self.subcommand]
        trainer = settings.trainer
        if not trainer.fast_dev_run:  # such a run writes nothing
            Run(**settings.run).require_free(self.subcommand, settings.ckpt_path)
        self.problems = Problems()
        with self.problems.noted():
            require_devices(trainer)
        try:
            super().instantiate_classes()
        except ValueError as error:
            if str(error).startswith("Call to compute_fn") and not isinstance(error.__cause__, ValueError):
                raise error.__cause__ or error from None  # such as a full disk, of which jsonargparse makes a ValueError
            if self.problems.found and not self.problems.reported:
                with self.problems.noted():
                    raise error
                self.problems.report()
            raise

    def require_ready(self, settings: Any) -> None:
        """Check that the parts fit each other.

        Raises:
            ValueError: All problems, one a line.
        """
        problems, space, command = self.problems, self.model.prior.space, str(self.subcommand)
        samples, benchmark = settings.samples, settings.benchmark
        with problems.noted():
            require_supported(settings.trainer)
        if command != "fit":
            with problems.noted():
                require_measured(settings.trainer, command)
        if command == "fit" and settings.run.energy:
            with problems.noted():
                require_counters(str(settings.trainer.accelerator))
        if command == "fit":
            with problems.noted():
                self.datamodule.training_order(processes_of(settings.trainer))
        if command != "fit" or settings.trainer.limit_val_batches != 0:
            with problems.noted():
                self.datamodule.evaluation_order("test" if command == "test" else "val", processes_of(settings.trainer))
        if settings.decoder is None:
            if (command == "fit" and samples.every_n_steps) or benchmark.runs_in(command):
                rank_zero_info("decoder is null: this run generates no images, so samples and benchmark are off.")
            samples.every_n_steps, benchmark.protocol = 0, None
        if command == "fit" and samples.every_n_steps:
            with problems.noted(NO_IMAGES):
                samples.require_ready(space)
        if benchmark.runs_in(command):
            with problems.noted(NO_IMAGES):
                benchmark.require_ready(space)
        monitor = settings.checkpoint.monitor or ""
        if command == "fit" and monitor:
            with problems.noted():
                require_metric("checkpoint.monitor", monitor)
        for callback in (settings.trainer.callbacks or []) if command == "fit" else []:
            if name := getattr(callback, "monitor", None):
                with problems.noted():
                    require_metric(f"the monitor of {type(callback).__name__}", name, others=True)
        if command == "fit" and monitor.startswith("benchmark/") and not benchmark.runs_in(command):
            problems.found.append(f"checkpoint.monitor is {monitor}, and this run has no benchmark. Monitor a metric of val/.")
        problems.report()

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        assert self.subcommand is not None
        settings = self.config_init[self.subcommand]
        trainer = settings.trainer
        self.require_ready(settings)
        self.together = FailTogether()
        first: list[L.Callback] = []
        callbacks: list[L.Callback] = [self.together, TrainingDataRecord(), Throughput(), Interrupt()]
        if settings.run.energy:
            callbacks.append(Energy())
        if settings.average is not None:
            callbacks.append(settings.average)
        if trainer.enable_progress_bar is not False:
            callbacks.append(Progress())
        logger: Any = trainer.logger
        if logger is False:
            raise ValueError("trainer.logger is false, but a run always writes metrics.csv. Leave it out; see run.wandb.")
        if trainer.fast_dev_run:
            logger = DummyLogger()  # such a run writes nothing
        else:
            extra = logger if isinstance(logger, list) else [] if logger in (None, True) else [logger]
            config, parser = self.config[self.subcommand], self._parser(self.subcommand)
            first = [Opening(settings.run, self.subcommand, settings.ckpt_path, parser, config, extra)]
            logger = False  # Opening adds the loggers
        with devices_named(trainer):
            made = super().instantiate_trainer(
                logger=logger,
                # ours come first, so that they have run if a callback of the user fails; Averaging follows all that average
                callbacks=[*first, *callbacks, *(trainer.callbacks or []), Averaging()],
                plugins=[*(trainer.plugins or []), AtomicCheckpointIO()],
                **kwargs,
            )
        TrainingLoop(made)
        return made

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            with self.together.guard(self.trainer):
                try:
                    super()._run_subcommand(subcommand)
                except torch.OutOfMemoryError as error:
                    trained = self.together.failed_in is RunningStage.TRAINING
                    raise ValueError(out_of_memory(self.trainer, self.datamodule, trained)) from error
        except SystemExit as end:
            if self.together.interrupted:
                raise KeyboardInterrupt from end
            raise
        finally:
            self.config_init[subcommand].run.close()
        if subcommand == "fit":
            require_trained(self.trainer)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}


def space_of(data: EmbeddingDataModule) -> ClipSpace:
    """The space of the pairs, for the prior.

    A link of jsonargparse to ``data.space`` would take an AttributeError within it for a class without a space, and the prior
    would be built without one.

    Raises:
        ValueError: The class of the data has a mistake there.
    """
    try:
        return data.space
    except AttributeError as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"{type(data).__name__} does not give the space of its pairs: {error} ({where.filename}, line {where.lineno})."
        ) from error


def is_no_advertisement(record: logging.LogRecord) -> bool:
    """False for a message of Lightning 2.6 that recommends its own logger at every start."""
    return "litlogger" not in record.getMessage()


def main(args: ArgsType = None) -> PriorCLI:
    """Run ``fit``, ``validate`` or ``test``; ``args`` as on the command line."""
    # Lightning 2.6 asks for torch's LeafSpec, which torch 2.12 renamed
    warnings.filterwarnings("ignore", r".isinstance\(treespec, LeafSpec\)", FutureWarning)
    # outside a fit the averaged weights are used, and a checkpoint holds these
    warnings.filterwarnings("ignore", r"You're using the WeightAveraging callback, but loading a checkpoint", UserWarning)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(is_no_advertisement)
    # a run that is resumed keeps its folder, and no other run gets a folder that is in use
    warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty", UserWarning)
    # a prior in closed form has no optimiser
    warnings.filterwarnings("ignore", r".(LightningModule.configure_optimizers|training_step). returned `None`", UserWarning)
    try:
        return run_cli(args, _of_one_command(args))
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error


def _of_one_command(args: ArgsType) -> type[PriorCLI]:
    """The command line of the command that is typed: the options of each take a tenth of a second to collect."""
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list) and words and words[0] in PriorCLI.commands:
        return type(PriorCLI.__name__, (PriorCLI,), {"commands": (words[0],)})
    return PriorCLI


def run_cli(args: ArgsType, cli: type[PriorCLI] = PriorCLI) -> PriorCLI:
    return cli(
        LitPrior,
        EmbeddingDataModule,
        subclass_mode_data=True,
        save_config_callback=None,  # see Opening
        seed_everything_default=0,
        # our sampler handles the ranks; Lightning's must not replace it
        trainer_defaults={"use_distributed_sampler": False, "num_sanity_val_steps": 0},
        # otherwise a typo can pass as an abbreviation
        parser_kwargs={"prog": "python -m eclipse_pl", "allow_abbrev": False},
        load_from_checkpoint_support=False,
        auto_configure_optimizers=False,
        args=args,
    )
