from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from PIL import Image

from eclipse_pl.callbacks.averaging import averages_of
from eclipse_pl.callbacks.training_cost import outside_training
from eclipse_pl.callbacks.undisturbed import undisturbed
from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.embedding import ClipSpace
from eclipse_pl.encoders.encoder import Encoder
from eclipse_pl.files import write_atomically
from eclipse_pl.lit_prior import LitPrior
from eclipse_pl.prompts.prompt import Prompt
from eclipse_pl.prompts.typed import prompts_of
from eclipse_pl.text_to_image.contact_sheet import contact_sheet
from eclipse_pl.text_to_image.prior_and_decoder import PriorAndDecoder, require_parts
from eclipse_pl.training.loop import step_loop


class SampleImages(L.Callback):
    """Fixed prompts with fixed seeds, generated as the prior learns: one grid in ``samples/`` of the run's folder, and on W&B.

    The first rank generates, after the step and before its validation; the others wait, so take few prompts. Neither random
    numbers nor mode of the training are touched, and its time and energy are counted without.

    Args:
        every_n_steps: How often; 0 is never. The last step of training is always generated.
        prompts: A caption, or a list of captions, one row each.
        seeds: Of noise and decoder, one column each.
        decoder: Of the prior's space; linked from the top of the config.
        encoder: The CLIP of that space. Default: the one that the space names.
    """

    def __init__(
        self,
        every_n_steps: int = 0,
        prompts: str | list[str] | None = None,
        seeds: list[int] | None = None,
        decoder: Decoder | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self.every_n_steps = every_n_steps
        self.prompts = prompts_of(prompts, "samples.prompts") if prompts else []
        self.seeds = [0, 1] if seeds is None else seeds
        self.decoder, self.encoder = decoder, encoder
        if every_n_steps < 0:
            raise ValueError(f"samples.every_n_steps is {every_n_steps}; it must be 0 (never) or a number of steps.")
        if every_n_steps and not (self.prompts and self.seeds):
            raise ValueError(
                "samples.every_n_steps is set, but samples.prompts or samples.seeds is empty: nothing to generate."
            )
        self._text_to_image: PriorAndDecoder | None = None
        self._generated = -1

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not self.every_n_steps or stage != "fit":
            return
        assert isinstance(pl_module, LitPrior)
        self.require_ready(pl_module.prior.space)  # on every rank, or the others would wait
        if trainer.is_global_zero and self.decoder is not None:
            self._text_to_image = PriorAndDecoder.of(pl_module.prior, "in training", self.decoder, self.encoder)
            self._text_to_image.encode(self.prompts)

    def require_ready(self, space: ClipSpace) -> None:
        """Check decoder and encoder before anything is loaded.

        Raises:
            ValueError: There is no decoder, or decoder or encoder belongs to another space than the prior.
        """
        if self.decoder is None:
            raise ValueError(
                "samples.every_n_steps is set, but there is no decoder. Add one: decoder: parts/decoder/world.yaml"
            )
        require_parts(space, self.decoder, self.encoder)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        if self.every_n_steps and step_loop(trainer).step_made and trainer.global_step % self.every_n_steps == 0:
            self._generate(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.every_n_steps:
            self._generate(trainer, pl_module)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._text_to_image is not None:
            self._text_to_image.close()

    def _generate(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, LitPrior)
        module.require_finite()  # on every rank
        step = trainer.global_step
        folder = trainer.log_dir  # rank 0 broadcasts it, so every rank must read it
        with outside_training(trainer, module):
            if self._text_to_image is not None and step != self._generated:
                with undisturbed(module, averages_of(trainer)):
                    sheet = self._sheet(self._text_to_image)
                self._keep(trainer, None if folder is None else Path(folder) / "samples", sheet, step)
            self._generated = step
            trainer.strategy.barrier("samples")

    def _sheet(self, text_to_image: PriorAndDecoder) -> Image.Image:
        pairs = [(prompt, seed) for prompt in self.prompts for seed in self.seeds]
        prompts = [Prompt(f"samples/{row:04d}", "samples", prompt) for row, (prompt, _) in enumerate(pairs)]
        images = text_to_image.generate(prompts, [seed for _, seed in pairs])
        width = len(self.seeds)
        rows = [(prompt, images[row * width : (row + 1) * width]) for row, prompt in enumerate(self.prompts)]
        return contact_sheet(rows, [f"seed {seed}" for seed in self.seeds])

    def _keep(self, trainer: L.Trainer, folder: Path | None, sheet: Image.Image, step: int) -> None:
        if folder is None:
            return
        path = folder / f"step_{step:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        sheet.save(content, "PNG")
        write_atomically(path, content.getvalue())
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("samples", [str(path)], step=step, caption=["; ".join(self.prompts)])
        rank_zero_info(f"Images of step {step}: {path}")
