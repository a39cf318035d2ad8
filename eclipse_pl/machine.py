from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def threads_in_words() -> str:
    count = torch.get_num_threads()
    return f"{count} CPU thread{'s' * (count > 1)}"


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """What a time measured here depends on."""
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "none used"
    return {
        "cpu": cpu, "cores": os.cpu_count() or 1, "threads": torch.get_num_threads(), "gpu": gpu,
        "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip
