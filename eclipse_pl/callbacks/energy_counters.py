"""The counters of energy that hardware has: of NVIDIA GPUs (NVML), and of processors and their memory (RAPL)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows RAPL, of Intel and of AMD."""


class Counter:
    """Joules since it was last set to zero, of a counter that begins again at its end.

    Args:
        read: Its value.
        unit: Joules of one of it.
        end: The value at which it begins again; None if it never does.
    """

    def __init__(self, read: Callable[[], int], unit: float, end: int | None = None) -> None:
        self.read, self.unit, self.end = read, unit, end
        self.start()

    def start(self) -> None:
        """Forget what was counted before."""
        self.joules, self._last = 0.0, self.read()

    def skip(self) -> None:
        """Leave out what was used since the last look."""
        self._last = self.read()

    def look(self) -> None:
        """Add what was used since the last look. Between two of them the counter may begin again once."""
        now = self.read()
        used = now - self._last
        self.joules += self.unit * (used % self.end if self.end else used)
        self._last = now


def gpu_counters(device: torch.device) -> list[Counter]:
    """That of the card of a CUDA device; none without the package nvidia-ml-py, on other devices, and on a part of a card."""
    if device.type != "cuda":
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return [Counter(lambda: int(pynvml.nvmlDeviceGetTotalEnergyConsumption(card)), 1e-3)]
    except ImportError:
        return []
    except pynvml.NVMLError:  # older than Volta, or a slice of a card
        return []


def processor_counters() -> list[Counter]:
    """Those of all sockets and of their memory that this user may read."""
    found: list[Counter] = []
    for zone in sorted(POWERCAP.glob("intel-rapl:*")):
        with contextlib.suppress(OSError):
            name = (zone / "name").read_text().strip()
            if name.startswith("package") or name == "dram":  # others are parts of a package, or the package again
                end = int((zone / "max_energy_range_uj").read_text())
                found.append(Counter(lambda path=zone / "energy_uj": int(path.read_text()), 1e-6, end))  # type: ignore[misc]
    return found


def total(counters: Sequence[Counter]) -> float:
    """Joules."""
    return sum((counter.joules for counter in counters), start=0.0)
