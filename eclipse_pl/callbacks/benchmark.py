from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from eclipse_pl.callbacks.averaging import averages_of
from eclipse_pl.callbacks.undisturbed import undisturbed
from eclipse_pl.compbench.compbench import CompBench
from eclipse_pl.compbench.ranks import Ranks
from eclipse_pl.compbench.scorecard import metrics_of, write_card
from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.problems import Problems
from eclipse_pl.text_to_image.prior_and_decoder import PriorAndDecoder, require_parts


class Benchmark(L.Callback):
    """T2I-CompBench's protocol on the prior, at validations of a fit, and in ``validate`` and ``test``.

    All ranks generate and score. Logged are ``benchmark/CATEGORY/SCORER``, ``benchmark/CATEGORY/SUBSET/SCORER`` and, over all
    categories, ``benchmark/SCORER``, in time for ``checkpoint.monitor``. Images, rows and scorecard lie in the run's folder,
    in ``benchmark/step_N``, and the last scorecard also in ``scorecard.json``. Scorers are built when first used, and freed
    after.

    Args:
        protocol: Prompts, samples per prompt and scorers; null is no benchmark.
        every_n_validations: Score at every n-th validation of a fit; 0 is none of them.
        after_training: At the end of a fit, on its last weights.
        decoder: Of the prior's space; linked from the top of the config.
        encoder: The CLIP of that space. Default: the one that the space names.
    """

    def __init__(
        self,
        protocol: CompBench | None = None,
        every_n_validations: int = 0,
        after_training: bool = False,
        decoder: Decoder | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        if every_n_validations < 0:
            raise ValueError(f"benchmark.every_n_validations is {every_n_validations}; it must be 0 or more.")
        if (every_n_validations or after_training) and protocol is None:
            raise ValueError("The benchmark has its time, but no benchmark.protocol: there is nothing to generate.")
        self.every_n_validations, self.after_training = every_n_validations, after_training
        self.decoder, self.encoder = decoder, encoder
        self.protocol = protocol
        self._validations = 0
        self._text_to_image: PriorAndDecoder | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._text_to_image = None
        if not self.runs_in(stage):
            return
        assert isinstance(pl_module, LitPrior)
        self.require_ready(pl_module.prior.space)
        for checkpoint in trainer.checkpoint_callbacks:
            monitor = getattr(checkpoint, "monitor", None) or ""
            if stage == "fit" and monitor.startswith("benchmark/") and self.every_n_validations != 1:
                raise ValueError(
                    f"checkpoint.monitor is {monitor}, which is not there after every validation. Set "
                    "benchmark.every_n_validations to 1, or monitor a metric of val/."
                )

    def runs_in(self, stage: str) -> bool:
        """Whether ``fit``, ``validate`` or ``test`` scores images."""
        return self.protocol is not None and (stage != "fit" or bool(self.every_n_validations or self.after_training))

    def require_ready(self, space: ClipSpace) -> None:
        """Check decoder, encoder, prompts and scorers before training, not after it.

        Raises:
            ValueError: There is no decoder; decoder or encoder belongs to another space than the prior; a file is missing.
        """
        assert self.protocol is not None
        if self.decoder is None:
            raise ValueError("The benchmark needs a decoder. Add one to the config: decoder: parts/decoder/world.yaml")
        problems = Problems()
        with problems.noted():
            require_parts(space, self.decoder, self.encoder)
        with problems.noted():
            if problems.found:
                self.protocol.units()  # no scorer is fetched for a run that will not start
            else:
                self.protocol.require_ready()
        problems.report()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        often = self.every_n_validations
        if trainer.state.fn != "fit" or (often and (self._validations + 1) % often == 0):
            # every rank holds the same values already; sync_dist states that to Lightning
            pl_module.log_dict(self._run(trainer, pl_module), sync_dist=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the validation now that it is made: a run that dies in it makes it again when it is resumed."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._validations += 1

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log_dict(self._run(trainer, pl_module), sync_dist=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.after_training:
            metrics = self._run(trainer, pl_module)
            for logger in trainer.loggers:  # nothing may be logged through the module any more
                logger.log_metrics(metrics, trainer.global_step - 1)
                logger.save()

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validations = state_dict["validations"]

    def _run(self, trainer: L.Trainer, module: L.LightningModule) -> dict[str, float]:
        folder = trainer.log_dir  # rank 0 broadcasts it, so every rank must read it
        if self.protocol is None or folder is None:
            return {}
        assert isinstance(module, LitPrior) and self.decoder is not None
        module.require_finite()
        step = max(trainer.global_step, module.loaded_step)
        strategy = trainer.strategy
        ranks = Ranks(trainer.global_rank, trainer.world_size, lambda: strategy.barrier("benchmark"), strategy.broadcast)
        with undisturbed(module, averages_of(trainer)):
            name = f"{Path(folder).name} after {step} steps"
            if self._text_to_image is None:  # kept for the next time, so that the prompts are encoded once a run
                self._text_to_image = PriorAndDecoder.of(module.prior, name, self.decoder, self.encoder, module.training_data)
            text_to_image = self._text_to_image
            text_to_image.rename(name)
            place = Path(folder) / "benchmark" / f"step_{step:07d}"
            # an earlier try at this step may have had other weights, by rounding, or another decoder
            card = self.protocol.run(text_to_image, place, ranks, replace=True)
        if trainer.is_global_zero:
            write_card(Path(folder) / "scorecard.json", {"step": step, **card})
        return metrics_of(card)
