"""The user's model is bit-identical afterwards, also when something raises or somebody presses Ctrl-C."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

_PASS_SEED = 0x5EED


@contextmanager
def evaluating(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    values: Mapping[str, torch.Tensor],
    generators: Sequence[torch.Generator] = (),
) -> Generator[None]:
    """Put ``values`` in the place of the parameters, and afterwards everything back to what it was.

    The parameters get other storage for the time being; their own is never written to. Buffers, training
    flags and all random states are restored. Attention runs under the math kernel, the only one with second
    derivatives.
    """
    storage = {name: parameter.data for name, parameter in parameters.items()}
    with ExitStack() as stack:
        stack.callback(_swap, parameters, storage)
        stack.enter_context(_module_state(model))
        stack.enter_context(random_state(_PASS_SEED, generators))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_without_fast_path())
        stack.enter_context(torch.enable_grad())
        _swap(parameters, values)
        yield


@contextmanager
def random_state(seed: int, generators: Sequence[torch.Generator]) -> Generator[None]:
    """Start from a fixed random state, and restore that of torch, NumPy, Python and the given generators.

    The same seed on every pass makes a shuffling loader repeat its order, so that equal arguments give
    equal results.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's global state is kept
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    states = [generator.get_state() for generator in generators]
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            for generator in generators:
                generator.manual_seed(seed)
            yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def _module_state(model: nn.Module) -> Generator[None]:
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, copy in buffers:
                if not torch.equal(buffer, copy):
                    buffer.copy_(copy)
                module._buffers[name] = buffer


@contextmanager
def _without_fast_path() -> Generator[None]:
    """The fused inference kernels of transformer layers have no derivatives, and other roundings."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _swap(parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.data = values[name]
