"""The user's model is bit-identical afterwards, also when something raises or somebody presses Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from invariant_sharpness.adapters import data
from invariant_sharpness.errors import ModelError
from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness_torch.half_precision import exact_sums


@contextmanager
def holding(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]
) -> Generator[None]:
    """Put ``values`` in the place of the parameters, in their types, and afterwards everything back to what it was.

    The parameters get a copy for the time being; neither their own storage nor ``values`` is written to, not
    even by a forward pass that changes weights. Buffers, tensors kept as attributes and training flags are restored.
    Hooks on the gradients of parameters and a surrounding autocast are switched off, compiled parts run uncompiled,
    and attention runs under the math kernel, the only one with second derivatives.

    Raises
    ------
    ModelError
        In inference mode, where nothing can be differentiated.
    """
    check_differentiable()
    with ExitStack() as stack:
        stack.enter_context(exclusive())
        storage = {name: parameter.data for name, parameter in parameters.items()}
        stack.callback(_swap, parameters, storage)
        stack.enter_context(holding_state(model, parameters))
        _swap(parameters, {k: values[k].detach().to(p.dtype, copy=True) for k, p in parameters.items()})
        yield


@contextmanager
def holding_state(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Generator[None]:
    """Do all of this but for the parameters, which stay what they are.

    Raises
    ------
    ModelError
        In inference mode, where nothing can be differentiated.
    """
    check_differentiable()
    with ExitStack() as stack:
        stack.enter_context(exclusive())
        stack.enter_context(_module_state(model))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_without_fast_path())
        stack.enter_context(_without_gradient_hooks(parameters))
        stack.enter_context(_uncompiled())
        stack.enter_context(torch.autocast(next(iter(parameters.values())).device.type, enabled=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(exact_sums(parameters.values()))
        yield


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Generator[None]:
    """Put every part of a module into evaluation mode, without its ``train()``, which may do more; afterwards each part has its own mode."""
    flags = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, training in flags:
            module.training = training


def check_differentiable() -> None:
    """Raise ModelError in inference mode: tensors that are made there have no derivatives, and never will."""
    if torch.is_inference_mode_enabled():
        msg = "nothing can be differentiated under torch.inference_mode(): leave that block before measuring"
        raise ModelError(msg)


def loader_generators(source: Any) -> list[torch.Generator]:
    """Return the random generators that belong to a data loader."""
    batch_sampler = getattr(source, "batch_sampler", None)
    owners = (source, getattr(source, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def device_generators() -> list[torch.Generator]:
    """Return the generators from which operations draw that are given none: of the CPU, and of all accelerators in use."""
    found = [torch.default_generator]
    for module in (torch.cuda, torch.xpu):
        found += module.default_generators if module.is_initialized() else ()
    if torch.backends.mps.is_available():
        found.append(torch.mps._get_default_mps_generator())
    return found


@contextmanager
def random_state(seed: int, generators: Sequence[torch.Generator]) -> Generator[None]:
    """Start from a fixed random state, and restore that of torch on all devices, NumPy, Python and the given generators."""
    drawn_from = [*device_generators(), *generators]
    states = [generator.get_state() for generator in drawn_from]
    try:
        with data.random_state(seed):
            for generator in drawn_from:  # torch.manual_seed looks at every device each time
                generator.manual_seed(seed)
            yield
    finally:
        for generator, state in zip(drawn_from, states, strict=True):
            generator.set_state(state)


@contextmanager
def _module_state(model: nn.Module) -> Generator[None]:
    flags = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    registers = [(module, dict(module._buffers.items())) for module in model.modules()]
    copies = [(b, b.clone()) for _, buffers in registers for b in buffers.values() if b is not None]
    attributes = [(m, name, a) for m in model.modules() for name, a in vars(m).items() if isinstance(a, torch.Tensor)]
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
        for module, name, attribute in attributes:
            object.__setattr__(module, name, attribute)
        for module, buffers in registers:
            if isinstance(module, torch.jit.ScriptModule):  # its register is fixed, and so are its buffers
                continue
            module._buffers.clear()
            module._buffers.update(buffers)
        _restore(copies)


def _restore(copies: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Write into those buffers alone that were changed, which is read at once: others may be shared, or lie in a saved graph."""
    if not copies:
        return
    with torch.no_grad():
        flags = [(buffer != copy).any() for buffer, copy in copies]
        changed = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()
        for (buffer, copy), is_changed in zip(copies, changed, strict=True):
            if is_changed:
                buffer.copy_(copy)


@contextmanager
def _without_fast_path() -> Generator[None]:
    """The fused inference kernels of transformer layers have no derivatives, and other roundings."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _without_gradient_hooks(parameters: Mapping[str, nn.Parameter]) -> Generator[None]:
    """Hooks that clip or log gradients in training would change second derivatives, or be called in vain."""
    hooks = [(parameter, parameter._backward_hooks) for parameter in parameters.values()]
    try:
        for parameter, _ in hooks:
            parameter._backward_hooks = None
        yield
    finally:
        for parameter, hook in hooks:
            parameter._backward_hooks = hook


def _uncompiled() -> AbstractContextManager[Any]:
    """Compiled graphs have no second derivative. Whoever has compiled a module or a function has loaded the compiler, which takes seconds."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _swap(parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.data = values[name]
