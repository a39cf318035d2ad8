"""Settings of Lightning's trainer that this project does not support, or under which nothing is trained."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from eclipse_pl.device import gpu_count

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16")

NO_VALIDATION = "for no validation set trainer.limit_val_batches to 0"
ABOVE_ZERO = {
    "accumulate_grad_batches": "1 makes a step with each batch",
    "val_check_interval": NO_VALIDATION,
    "check_val_every_n_epoch": NO_VALIDATION,
}
"""Options that Lightning divides by: {name: what to do instead}."""
NOT_BELOW_ZERO = {"gradient_clip_val": "null clips nothing", "log_every_n_steps": "0 logs validations alone"}
"""Options that Lightning takes for others where they are negative."""


def require_supported(trainer: Any) -> None:
    """Raise ValueError for a precision or a strategy that priors, checkpoints, resumed runs or torch do not know, and for
    numbers that are out of range and that Lightning takes.
    """
    require_in_range(trainer)
    if trainer.precision is not None and str(trainer.precision) not in PRECISIONS:
        raise ValueError(
            f"trainer.precision is {trainer.precision}, but a prior keeps its weights in float32: choose "
            f"{', '.join(PRECISIONS[:3])}."
        )
    strategy = trainer.strategy
    if isinstance(strategy, Strategy):
        supported = type(strategy) is DDPStrategy or isinstance(strategy, SingleDeviceStrategy)
    else:
        supported = strategy == "auto" or strategy.startswith("ddp")
    if not supported:
        name = type(strategy).__name__ if isinstance(strategy, Strategy) else strategy
        raise ValueError(f"trainer.strategy is {name}, but every process holds the whole prior: choose auto or ddp.")
    accumulated = trainer.accumulate_grad_batches
    if accumulated > 1 and has_static_graph(strategy):
        raise ValueError(
            f"trainer.strategy has static_graph: true and trainer.accumulate_grad_batches is {accumulated}: torch does not "
            "support the two together. Leave one of them out."
        )


def require_in_range(trainer: Any) -> None:
    """Raise ValueError for a number with which Lightning divides by zero, or trains in another way than it says."""
    for name, instead in ABOVE_ZERO.items():
        value = getattr(trainer, name)
        if isinstance(value, int | float) and value <= 0:
            raise ValueError(f"trainer.{name} is {value}, but must be above 0: {instead}.")
    for name, instead in NOT_BELOW_ZERO.items():
        value = getattr(trainer, name)
        if value is not None and value < 0:
            raise ValueError(f"trainer.{name} is {value}, but must be 0 or more: {instead}.")


def require_measured(trainer: Any, command: str) -> None:
    """Raise ValueError where ``validate`` or ``test`` would measure no batch."""
    name = "limit_test_batches" if command == "test" else "limit_val_batches"
    if getattr(trainer, name) == 0 and not trainer.fast_dev_run:
        raise ValueError(f"trainer.{name} is 0, so {command} would measure nothing: --trainer.{name}=1.0 measures all pairs.")


def require_precision(trainer: Any) -> None:
    """Raise ValueError where the GPU of this process has no bfloat16 and the run is to compute in it."""
    device = trainer.strategy.root_device
    if device.type != "cuda" or str(trainer.precision) != "bf16-mixed":
        return
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"trainer.precision is bf16-mixed, but {name} has no bfloat16: choose 16-mixed or 32-true.")


def out_of_memory(trainer: Any, data: Any, trained: bool) -> str:
    """What to halve where a batch did not fit into the memory of the GPU, and the most that torch held there.

    ``trained`` is whether that was a batch of training.
    """
    device = trainer.strategy.root_device
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    option, more = "batch_size" if trained else "val_batch_size", ""
    size = getattr(data, option)
    if trained:
        more = (
            f" and --trainer.accumulate_grad_batches {2 * trainer.accumulate_grad_batches}: a step then has as many pairs, "
            "and each half of them its own negatives"
        )
        if has_static_graph(trainer.strategy):
            more += " (torch accumulates in no static graph: set trainer.strategy.init_args.static_graph to false)"
    return (
        f"{device} has too little memory for data.{option} {size}: torch held {peak:.1f} GiB when it asked for more. Halve "
        f"it: --data.init_args.{option} {max(1, size // 2)}{more}."
    )


def has_static_graph(strategy: Any) -> bool:
    return isinstance(strategy, DDPStrategy) and bool(strategy._ddp_kwargs.get("static_graph"))


def require_clippable(trainer: Any, optimizer: Any) -> None:
    """Raise ValueError where gradients are to be clipped that only a fused optimizer brings back to their scale."""
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    if scaled and trainer.gradient_clip_val and getattr(optimizer, "_step_supports_amp_scaling", False):
        raise ValueError(
            f"trainer.gradient_clip_val is {trainer.gradient_clip_val} and trainer.precision 16-mixed, in which a fused "
            "optimizer alone knows the scale of the gradients: set model.optimizer.init_args.fused to false, or "
            "trainer.precision to bf16-mixed."
        )


def require_devices(trainer: Any) -> None:
    """Raise ValueError where ``trainer.accelerator`` or ``trainer.devices`` asks for more GPUs than torch finds."""
    if trainer.accelerator not in ("gpu", "cuda"):
        return
    count = gpu_count()
    if devices_of(trainer) > count:
        raise ValueError(
            f"trainer.accelerator is {trainer.accelerator} and trainer.devices is {trainer.devices}, and torch finds "
            f"{count or 'no'} GPU{'s' * (count > 1)}. On a CPU add --config experiments/overlays/cpu.yaml."
        )


def devices_of(trainer: Any) -> int:
    """Return the number of devices that the options ask for; 1 where only Lightning can tell."""
    devices = trainer.devices
    if isinstance(devices, list):
        return len(devices)
    return int(devices) if str(devices).isdigit() else 1


def processes_of(trainer: Any) -> int:
    """Return the number of processes that the options lead to on this machine: no more than it has GPUs, if it needs GPUs."""
    if trainer.accelerator not in ("gpu", "cuda"):
        return devices_of(trainer)
    return max(1, min(devices_of(trainer), gpu_count()))


@contextlib.contextmanager
def devices_named(trainer: Any) -> Iterator[None]:
    """Name the options in errors of Lightning's trainer about devices: Lightning seldom does.

    Raises:
        ValueError: The device is misspelt, or not there.
    """
    try:
        yield
    except (MisconfigurationException, TypeError, ImportError) as error:
        if not re.search(r"accelerator|device|backend|gpu|torch_xla", str(error), re.IGNORECASE):
            raise
        given = f"trainer.accelerator is {trainer.accelerator} and trainer.devices is {trainer.devices}"
        raise ValueError(f"{given}: {str(error).rstrip('.!')}.") from error


def require_trained(trainer: Any) -> None:
    """End with an error and exit code 1 where a fit has made no step."""
    if trainer.global_step or trainer.fit_loop.epoch_loop.batch_progress.total.completed:
        return
    zeros = [name for name in ("limit_train_batches", "max_steps", "max_epochs") if getattr(trainer, name) == 0]
    named = ", ".join(f"trainer.{name} is {getattr(trainer, name)}" for name in zeros)
    if trainer.is_global_zero:
        print(f"error: trained nothing: {named or 'the time was over before the first step'}.", file=sys.stderr)
    raise SystemExit(1)
