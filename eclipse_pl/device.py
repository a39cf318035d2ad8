"""The device of a part, and the facts that a measured time depends on."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
from pathlib import Path

import torch

CHOICES = "auto, cpu, cuda, one of several GPUs (cuda:0, cuda:1 and so on) or, on a Mac, mps"


def pick_device(name: str, float64: bool = True) -> torch.device:
    """The device that an option names; ``auto`` is CUDA's GPU where there is one, then Apple's, then the CPU.

    ``cuda`` without a number is the GPU of the process that uses it: each rank has its own.

    Args:
        name: ``auto`` or torch's name of a device.
        float64: Whether the part computes in double precision, which Apple's GPU (``mps``) lacks: ``auto`` avoids it then.

    Raises:
        ValueError: The name is misspelt, there is no such device, or it lacks double precision.
    """
    if name == "auto":
        apple = not float64 and torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if apple else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device is {name!r}; choose {CHOICES}.") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device is {name!r}, which is not supported; choose {CHOICES}.")
    if device.type == "mps":
        if not torch.backends.mps.is_available():
            raise ValueError(f"device is {name!r}, and torch finds no GPU of Apple. Use auto or cpu.")
        if float64:
            raise ValueError(
                f"device is {name!r}, and this part computes in double precision, which mps lacks. Use auto or cpu."
            )
    if device.type == "cuda":
        count = gpu_count()
        if not count:
            raise ValueError(f"device is {name!r}, and torch finds no GPU. Use auto or cpu.")
        if device.index is not None and device.index >= count:
            raise ValueError(f"device is {name!r}, and torch finds {count} GPU{'s' * (count > 1)}, numbered from 0.")
    return device


def precision_name(precision: torch.dtype) -> str:
    """``bfloat16`` of ``torch.bfloat16``, as options and identities state it."""
    return str(precision).removeprefix("torch.")


def require_no_half_on_cpu(model: str, precision: str, device: torch.device) -> None:
    """Raise ValueError for a half precision on a CPU, where torch cannot compute this model in it."""
    if precision != "float32" and device.type == "cpu":
        raise ValueError(
            f"precision is {precision}, in which {model} cannot be computed on the CPU that it works on: set precision to "
            "float32, or use a GPU."
        )


def gpu_count() -> int:
    """The number of GPUs that torch finds."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def visible_gpus() -> list[str]:
    """The GPUs of this process, each as CUDA_VISIBLE_DEVICES names it."""
    count = gpu_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def free_memory(device: torch.device) -> None:
    """Free the memory of objects that are no longer used."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if device.type == "mps":
        torch.mps.empty_cache()


def threads_in_words() -> str:
    count = torch.get_num_threads()
    return f"{count} CPU thread{'s' * (count > 1)}"


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """The facts that a time measured on this machine depends on."""
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "Apple" if device.type == "mps" else "none used"
    return {
        "cpu": cpu, "cores": os.cpu_count() or 1, "threads": torch.get_num_threads(), "gpu": gpu,
        "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


def commit() -> str:
    """What ``git describe`` says of this checkout; "unknown" where the package is installed, or there is no git."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # it may lie in the checkout of something else
        return "unknown"
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--tags"]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
