"""What can be seen of a torch model and of all random states, before and after."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn


class Trace:
    """All that can be seen of a model, its data loader and the random states."""

    def __init__(self, model: nn.Module, generators: tuple[torch.Generator, ...] = ()) -> None:
        self.model = model
        self.generators = generators
        self.before = self.look()

    def look(self) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for name, p in self.model.named_parameters():
            seen[f"parameter {name}"] = p.detach().clone()
            seen[f"storage of {name}"] = (
                p.data_ptr(),
                p.stride(),
                p.requires_grad,
                id(p),
                id(p.grad),
                p._backward_hooks,
            )
            seen[f"gradient of {name}"] = None if p.grad is None else p.grad.clone()
        for prefix, module in self.model.named_modules():
            for name, buffer in module._buffers.items():
                seen[f"buffer {prefix}.{name}"] = None if buffer is None else buffer.clone()
                seen[f"identity of {prefix}.{name}"] = id(buffer)
            seen[f"mode of {prefix}"] = module.training
            seen[f"hooks of {prefix}"] = (list(module._forward_hooks), list(module._forward_pre_hooks))
            seen[f"tensors of {prefix}"] = {k: id(v) for k, v in vars(module).items() if isinstance(v, torch.Tensor)}
        seen["torch's random state"] = torch.get_rng_state()
        seen["NumPy's random state"] = np.random.get_state()[1].copy()  # noqa: NPY002
        seen["NumPy's random position"] = np.random.get_state()[2]  # noqa: NPY002
        seen["Python's random state"] = random.getstate()
        seen["gradient mode"] = torch.is_grad_enabled()
        kernels = ("flash_sdp_enabled", "mem_efficient_sdp_enabled", "math_sdp_enabled", "cudnn_sdp_enabled")
        seen["attention kernels"] = [getattr(torch.backends.cuda, kernel)() for kernel in kernels]
        seen["fast path"] = torch.backends.mha.get_fastpath_enabled()
        for number, generator in enumerate(self.generators):
            seen[f"generator {number}"] = generator.get_state()
        return seen

    def differences(self) -> list[str]:
        after = self.look()
        return [what for what, old in self.before.items() if not same(old, after.get(what))] + [
            f"new: {what}" for what in after.keys() - self.before.keys()
        ]


def same(old: Any, new: Any) -> bool:
    if isinstance(old, (torch.Tensor, np.ndarray)):
        return type(old) is type(new) and bool((old == new).all())
    return bool(old == new)


def assert_untouched(trace: Trace) -> None:
    assert trace.differences() == [], f"measuring changed: {', '.join(trace.differences())}"
