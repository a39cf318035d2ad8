"""FakeCuda: tensors of a GPU without numbers, on a machine without one. An operation that would make the host wait raises.

torch's FakeTensorMode raises where a number is read (``item``, ``tolist``, a boolean test: DataDependentOutputException) and
where a shape depends on numbers (DynamicOutputShapeException), and refuses operations on two devices. It cannot go backward.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

Module = TypeVar("Module", bound=nn.Module)


class FakeCuda:
    """While this context lasts, new tensors have no numbers, and tensors from outside are refused."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode()

    def __enter__(self) -> FakeCuda:
        self._mode.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._mode.__exit__(kind, error, trace)

    def on_host(self, batch: Any) -> Any:
        """A batch or a condition on the CPU. Unlike those of torch.tensor, its numbers cannot be read."""
        values = {field.name: getattr(batch, field.name) for field in fields(batch)}
        tensors = {name: self._mode.from_tensor(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(batch, **tensors, **{name: self.on_host(part) for name, part in values.items() if is_dataclass(part)})

    def moved(self, module: Module) -> Module:
        """The module itself, with parameters and buffers on the GPU. ``Module.to`` cannot do this."""
        for part in module.modules():
            for held in (part._parameters, part._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        there: Any = self._mode.from_tensor(tensor)
                        with self._mode:
                            there = there.detach().to("cuda")
                        held[name] = nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else there
        return module


class NoCopies(TorchDispatchMode):
    """While this context lasts, a copy from one device to another raises: it makes the host wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source = args[1] if func is torch.ops.aten.copy_.default else args[0]
            assert made.device == source.device, f"a copy from {source.device} to {made.device}"
        return made
