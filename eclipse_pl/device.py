from __future__ import annotations

import os

import torch

CHOICES = "auto, cpu, cuda, or one of several GPUs: cuda:0, cuda:1 and so on"


def find_device(name: str) -> torch.device:
    """The device that an option names; ``auto`` is a GPU where there is one.

    ``cuda`` without a number is the GPU of the process that uses it: each rank has its own.

    Raises:
        ValueError: it is misspelt, or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device is {name!r}; choose {CHOICES}.") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {name!r}, which is not supported; choose {CHOICES}.")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ValueError(f"device is {name!r}, and torch finds no GPU here. Take auto or cpu.")
        if device.index is not None and device.index >= count:
            raise ValueError(f"device is {name!r}, and torch finds {count} GPU{'s' * (count > 1)} here, numbered from 0.")
    return device


def visible_gpus() -> list[str]:
    """The GPUs of this process, each as CUDA_VISIBLE_DEVICES names it."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]
