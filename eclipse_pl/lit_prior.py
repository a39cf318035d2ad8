from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eclipse_pl.arguments import one_of
from eclipse_pl.data.datamodule import EmbeddingDataModule
from eclipse_pl.embedding import EmbeddingBatch
from eclipse_pl.priors.checkpoint import checkpoint_space, training_data_of
from eclipse_pl.priors.prior import Prior, TrainingData
from eclipse_pl.priors.saved import require_numbers, require_same_rule, require_same_weights
from eclipse_pl.training.compiled import MODES, CompiledLosses, Mode, require_compiler
from eclipse_pl.training.covariance import complete_covariance
from eclipse_pl.training.learning_rate import RunLength, ended, make_schedule, wind_forward
from eclipse_pl.training.loop import ends_step, step_is_logged
from eclipse_pl.training.loss_watch import LossWatch
from eclipse_pl.training.options import require_clippable, require_precision
from eclipse_pl.training.seeds import place_seed, seed_generators, seeded


class LitPrior(L.LightningModule):
    """The LightningModule that trains any prior. It logs every loss term by its name.

    Args:
        prior: The prior to train. Its space is linked from the data.
        optimizer: From parameters to an optimizer. No default, because the choice belongs in the experiment.
        scheduler: From the optimizer to a learning-rate scheduler, which steps with every batch. OneCycleLR without
            ``total_steps`` is as long as the run.
        log_gradient_norms_every: Log the norm of each loss term's own gradient every n steps, on this rank's batch;
            0 is never. It costs one more backward pass a term. ECLIPSE's two terms are balanced by it, since the paper
            leaves reduction and temperature open.
        compile: Mode of torch.compile for the losses: "default", "reduce-overhead" or "max-autotune"; null does not compile.
            It has no effect on priors that are not trained by gradient.
    """

    def __init__(
        self,
        prior: Prior,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        log_gradient_norms_every: int = 0,
        compile: Mode | None = None,
    ) -> None:
        super().__init__()
        if compile is not None:
            one_of("model.compile", compile, MODES)
        if log_gradient_norms_every < 0:
            raise ValueError(f"log_gradient_norms_every is {log_gradient_norms_every}; use 0 (never) or a number of steps")
        self.prior = prior
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.log_gradient_norms_every = log_gradient_norms_every
        self.compile_mode: Mode | None = compile
        self._compiled: CompiledLosses | None = None
        self.loaded_step = 0
        """Training steps of the weights that were loaded from a checkpoint; validate and test count none themselves."""
        self.training_data: TrainingData = []
        """The sets of shards that the weights were trained on, one after the other; checkpoints keep it."""
        self.schedule_steps: int | None = None
        """Length of the learning rate's schedule, where it has an end."""
        self.loss_watch = LossWatch()
        self.sampling_seconds = 0.0
        """Spent in ``prior.sample`` by this rank, in the evaluation that runs or ran last."""
        self.loss_sums: dict[str, Tensor] = {}
        """Over the pairs of this rank, in that evaluation."""
        self.evaluated_pairs = 0

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.trainer.world_size > 1 and not has_gradient(self.prior):
            raise ValueError(
                f"{type(self.prior).__name__} has nothing that is trained by gradient, and one pass over the shards is quick: "
                "run it in one process (trainer.devices: 1)."
            )
        if stage == "fit":
            require_precision(self.trainer)
            data = getattr(self.trainer, "datamodule", None)
            if isinstance(data, EmbeddingDataModule):
                complete_covariance(self.prior, data.shards, data.folder)

    def on_fit_start(self) -> None:
        self.seed = torch.initial_seed()
        if self.compile_mode is not None:
            self._compiled = self._compile(self.compile_mode)

    def _compile(self, mode: Mode) -> CompiledLosses | None:
        if not has_gradient(self.prior):  # their batches change their state, and torch would compile each of them
            kind = type(self.prior).__name__
            rank_zero_info(f"model.compile has no effect: {kind} has nothing that is trained by gradient.")
            return None
        require_compiler(self.device)
        return CompiledLosses(self.prior, mode)

    def on_fit_end(self) -> None:
        self._compiled = None

    def on_train_start(self) -> None:
        run = RunLength.of(self.trainer)
        if self.schedule_steps is not None and self.schedule_steps > run.steps:
            rank_zero_info(f"The schedule of {self.schedule_steps} steps will not be finished: {run.words}.")
        if self.trainer.global_step and self.trainer.optimizers:  # the config counts, not the checkpoint
            schedules = [config.scheduler for config in self.trainer.lr_scheduler_configs]
            schedule = schedules[0] if schedules else None
            fresh, begun = self._optimizer_and_schedule()
            done, length = self.trainer.global_step, self.schedule_steps
            wind_forward(self.trainer.optimizers[0], schedule, fresh, begun, done, length)

    def training_step(self, batch: EmbeddingBatch, batch_idx: int) -> Tensor | None:
        """It does not wait for the device, except in steps that are logged."""
        trainer = self.trainer
        seed_generators(batch.image_embed.device, place_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))
        begins_step = batch_idx % trainer.accumulate_grad_batches == 0
        norms_due = begins_step and self.log_gradient_norms_every and self.global_step % self.log_gradient_norms_every == 0
        # the gradients of compiled losses are there once, and norms need them once a term
        losses = self.prior.losses(batch) if norms_due or self._compiled is None else self._compiled(batch)
        self.loss_watch.note(losses["total"], batch, self.global_step)
        logged = step_is_logged(trainer)
        if trainer.is_last_batch or (logged and ends_step(trainer)) or self.loss_watch.full:
            self.require_finite()
        if trainer.is_last_batch:  # any hook of the epoch's end would come after its checkpoint or its validation
            self.prior.end_of_epoch()
        if norms_due:
            norms = self.gradient_norms(losses)
            for logger in self.loggers:  # self.log would repeat the value at every step until the next one
                logger.log_metrics(norms, self.global_step)
        if logged:  # without prog_bar, for which Lightning reads the device at every batch; see Progress
            means = mean_over_ranks(losses)
            self.log_dict({f"train/{name}": value.detach() for name, value in means.items()}, batch_size=len(batch))
            self.log_dict({f"train/{name}": value for name, value in weights_of(self.prior).items()}, batch_size=len(batch))
        if not losses["total"].requires_grad:  # closed-form priors have nothing to step on, and one pass is all they need
            trainer.should_stop |= trainer.is_last_batch
            return None
        if logged:
            self.log("lr", trainer.optimizers[0].param_groups[0]["lr"])
        return losses["total"]

    def require_finite(self) -> None:
        """Raise ValueError on all ranks if the loss of any of them was not finite since the last look; see `LossWatch`."""
        self.loss_watch.look()

    def on_validation_start(self) -> None:
        self.require_finite()

    on_train_end = on_validation_start

    def on_validation_epoch_start(self) -> None:
        self.sampling_seconds, self.loss_sums, self.evaluated_pairs = 0.0, {}, 0

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        self._log_evaluated("val")

    def on_test_epoch_end(self) -> None:
        self._log_evaluated("test")

    def _log_evaluated(self, stage: str) -> None:
        """Means over all pairs of all ranks. Lightning's own are wrong where the ranks do not have equally many pairs."""
        sums = torch.stack([*self.loss_sums.values(), torch.tensor(float(self.evaluated_pairs), device=self.device)])
        if self.trainer.world_size > 1:
            dist.all_reduce(sums)
        means = dict(zip(self.loss_sums, sums[:-1] / sums[-1], strict=True))
        self.log_dict({f"{stage}/{name}": mean for name, mean in means.items()}, sync_dist=True)

    def validation_step(self, batch: EmbeddingBatch, batch_idx: int) -> Tensor:
        # seeded by its first pair, so that a resumed run repeats a missed validation exactly
        with seeded(batch.image_embed.device, place_seed(int(batch.index[0]))):
            return self._evaluated(batch)

    test_step = validation_step

    def _evaluated(self, batch: EmbeddingBatch) -> Tensor:
        """The predictions; losses and times are added to those of this evaluation."""
        losses = self.prior.losses(batch) if self.prior.has_losses else {}
        for name, value in losses.items():
            self.loss_sums[name] = value.detach() * len(batch) + self.loss_sums.get(name, 0.0)
        self.evaluated_pairs += len(batch)
        generators = pair_generators(batch)
        start = clock(batch.image_embed.device)
        predicted = self.prior.sample(batch.text, generators)
        self.sampling_seconds += clock(batch.image_embed.device) - start
        return predicted

    def configure_optimizers(self) -> Any:
        if not has_gradient(self.prior):
            return None
        optimizer, schedule = self._optimizer_and_schedule()
        require_clippable(self.trainer, optimizer)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _optimizer_and_schedule(self) -> tuple[Optimizer, LRScheduler | None]:
        """As they are at step 0. The few steps of fast_dev_run are not those of the run, and go without a schedule."""
        optimizer = self.optimizer([parameter for parameter in self.prior.parameters() if parameter.requires_grad])
        if self.scheduler is None or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return optimizer, None
        run = RunLength.of(self.trainer)
        if not run.steps:  # nothing will be trained, which is another mistake
            return optimizer, None
        schedule, self.schedule_steps = make_schedule(self.scheduler, optimizer, run)
        return optimizer, schedule

    def lr_scheduler_step(self, scheduler: LRScheduler, metric: Any | None) -> None:
        """Lightning's own, up to the schedule's last step."""
        if not ended(scheduler, self.schedule_steps):
            scheduler.step()

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Lightning's own, but for priors that have no gradient, of which torch would warn, and for fused optimizers.

        Lightning 2.6 refuses to clip for these in bf16-mixed too, where no gradient is scaled.
        """
        if gradient_clip_val and has_gradient(self.prior):
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(self.trainer.precision_plugin, optimizer, gradient_clip_val, algorithm)

    def gradient_norms(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Norm of the gradient of each loss term by itself, without its weight.

        In 16-mixed it is infinite or NaN where float16 cannot hold the gradient at the scale of the loss. Training skips such
        steps, and lowers the scale.
        """
        parameters = [parameter for parameter in self.prior.parameters() if parameter.requires_grad]
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()  # without it, most gradients are too small for float16
        gradients = {
            name: torch.autograd.grad(scale * loss, parameters, retain_graph=True, allow_unused=True)
            for name, loss in losses.items()
            if loss.requires_grad
        }
        return {f"gradient_norm/{name}": total_norm(gradient).item() / scale for name, gradient in gradients.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Before every checkpoint, refuse weights after a loss that was not finite."""
        self.require_finite()
        tensors, identity = self.prior.space.state()
        checkpoint["space"] = {"tensors": tensors, "identity": identity}
        arguments = {name: None if name == "weights" else value for name, value in self.prior.arguments.items()}
        if is_plain(arguments):
            kind = type(self.prior)
            checkpoint["prior"] = {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments}
        checkpoint["trained_for"] = self.prior.trained_for
        checkpoint["training_data"] = self.training_data
        checkpoint["schedule_steps"] = self.schedule_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another space or architecture in one sentence, before torch lists every key."""
        self.prior.space.require_same(checkpoint_space(checkpoint, "This checkpoint"), "the prior", "the checkpoint")
        require_same_rule(self.prior, checkpoint.get("trained_for", {}), "The weights of the checkpoint")
        self.loaded_step = checkpoint["global_step"]
        self.training_data = training_data_of(checkpoint)
        self.schedule_steps = checkpoint.get("schedule_steps")
        require_same_weights(self.state_dict(), checkpoint["state_dict"], "The weights of the checkpoint")
        buffers = frozenset(key for key, _ in self.named_buffers())
        require_numbers(checkpoint["state_dict"], "The weights of the checkpoint", buffers)


def no_optimizer(parameters: Iterable[Tensor]) -> Optimizer:
    """The optimizer of a prior that is measured, and never trained."""
    raise AssertionError("a prior that is measured takes no step")


def has_gradient(module: torch.nn.Module) -> bool:
    """Whether any parameter is trained by gradient."""
    return any(parameter.requires_grad for parameter in module.parameters())


def is_plain(value: Any) -> bool:
    """Whether ``value`` is made of numbers, strings, lists and dicts alone, which a checkpoint holds without pickles."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def pair_generators(batch: EmbeddingBatch) -> list[torch.Generator]:
    """One generator a pair, seeded by the pair: a prediction depends neither on its batch nor on the number of ranks."""
    return [torch.Generator().manual_seed(index) for index in batch.index.tolist()]


def clock(device: torch.device) -> float:
    """Seconds, read when the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def mean_over_ranks(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """The numbers of the global batch, so that the curve does not depend on the number of ranks. All ranks must call it."""
    if not dist.is_initialized():
        return losses
    values = torch.stack([value.detach() for value in losses.values()])
    dist.all_reduce(values)
    return dict(zip(losses, values / dist.get_world_size(), strict=True))


def total_norm(gradients: Iterable[Tensor | None]) -> Tensor:
    """Norm of all gradients as one vector; parameters that a loss does not reach have none."""
    return torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm()


def weights_of(prior: Prior) -> dict[str, float]:
    """Lambda of a contrastive term that counts, and the same relative to the variance of the image embeddings."""
    names = ("contrastive_weight", "relative_weight")
    found = {name: value for name in names if isinstance(value := getattr(prior, name, None), float)}
    return found if found.get("contrastive_weight") else {}
