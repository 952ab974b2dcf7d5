"""A module as it has to be for its curvature to be defined: unwrapped, deterministic, example by example; and what of it is measured."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.errors import ModelError, NonFiniteError
from invariant_sharpness.losses.callables import BY_BATCHES

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``.

    Compiled graphs have no second derivative, and the wrappers' hooks are not made for it.
    """
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def check_not_sharded(model: nn.Module) -> None:
    """Raise if FullyShardedDataParallel has divided the parameters; nothing of the model is touched.

    Raises
    ------
    ModelError
        Names the module, and says what to do.
    """
    for name, module in model.named_modules():
        if any(base.__name__ == "FullyShardedDataParallel" for base in type(module).__mro__):
            msg = (
                f"module {name!r} went through FullyShardedDataParallel, whose parameters cannot be measured: load them into a model that went "
                f"through fully_shard, or into one that is not divided. "
                f"get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)) of torch.distributed.checkpoint.state_dict "
                f"has all of them, in every process"
            )
            raise ModelError(msg)


def has_divided_parameters(model: nn.Module) -> bool:
    """Whether ``fully_shard`` or ``parallelize_module`` has divided the parameters."""
    return bool(fully_sharded_modules(model)) or any(hasattr(p, "device_mesh") for p in model.parameters())


def fully_sharded_modules(model: nn.Module) -> list[Any]:
    """Return the modules that went through ``fully_shard``, told without loading what is needed for it."""
    return [m for m in model.modules() if any(base.__name__ == "FSDPModule" for base in type(m).__mro__)]


def in_precision(model: nn.Module, dtype: str | None) -> nn.Module:
    """The model itself, or for a given ``dtype`` a copy in that precision.

    Raises
    ------
    ModelError
        If ``dtype`` is neither ``"float32"`` nor ``"float64"``.
    """
    if dtype is None:
        return model
    if dtype not in _DTYPES:
        msg = f'dtype={dtype!r} is not known: take "float32" or "float64"'
        raise ModelError(msg)
    return copied(model, "convert the model itself, model.to(torch.float64), and leave dtype out").to(_DTYPES[dtype])


def copied(model: nn.Module, otherwise: str) -> nn.Module:
    """Return a deep copy; tensors that the last forward pass has left in attributes or buffers are copied without their graphs.

    Raises
    ------
    ModelError
        If something in the model cannot be copied; says what can be done ``otherwise``.
    """
    kept = [tensor for m in model.modules() for tensor in (*vars(m).values(), *m.buffers(recurse=False))]
    computed = [tensor for tensor in kept if isinstance(tensor, torch.Tensor) and not tensor.is_leaf]
    try:
        return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in computed})
    except Exception as error:  # modules of users raise what they like
        msg = f"the model cannot be copied by copy.deepcopy: {type(error).__name__}: {error}. Give it a __deepcopy__, or {otherwise}"
        raise ModelError(msg) from error


def check_modules(model: nn.Module, examples: Examples = "rows") -> None:
    """Raise if a module makes the loss random, or an example's output depend on the others.

    Parameters
    ----------
    model
        With all its modules.
    examples
        Where a whole batch is one example, its own statistics may normalize it.

    Raises
    ------
    ModelError
        Names the modules and says what to do.
    """
    if examples == "rows":
        _check_batch_statistics(model)
    random = [f"{name!r} ({type(m).__name__})" for name, m in model.named_modules() if _is_random(m)]
    if random:
        raise _in_training(random)
    improper = [repr(name) for name, m in model.named_modules() if _has_improper_gradient(m)]
    if improper:
        msg = (
            f"torch's gradients of {listed(improper)} cannot be differentiated (sparse=True), or are none "
            f"(scale_grad_by_freq=True): set both attributes to False before measuring; the function stays the same"
        )
        raise ModelError(msg)
    wrong = [repr(name) for name, m in model.named_modules() if _has_weight_norm(m)]
    if wrong:
        msg = (
            f"{listed(wrong)} use weight_norm, whose second derivative is wrong in torch. After training, fold it into "
            f'the weight: torch.nn.utils.parametrize.remove_parametrizations(module, "weight"), or '
            f"torch.nn.utils.remove_weight_norm(module) for the older kind"
        )
        raise ModelError(msg)


def _check_batch_statistics(model: nn.Module) -> None:
    training = [
        f"{name!r} ({type(m).__name__})"
        for name, m in model.named_modules()
        if getattr(m, "training", False) and issubclass(class_of(m), _BatchNorm)
    ]
    if training:
        raise _in_training(training)
    batch = [
        repr(name)
        for name, m in model.named_modules()
        if issubclass(class_of(m), _BatchNorm) and getattr(m, "running_mean", None) is None
    ]
    if batch:
        msg = (
            f"{listed(batch)} normalize with the statistics of the batch even in eval mode "
            f"(track_running_stats=False), so the loss of an example is not defined by itself: train with running "
            f"statistics, or with GroupNorm or LayerNorm instead, or {BY_BATCHES}"
        )
        raise ModelError(msg)


def _in_training(modules: list[str]) -> ModelError:
    msg = (
        f"the model is in training mode, where {listed(modules)} make the loss random or dependent on the "
        f"batch: call model.eval() before measuring"
    )
    return ModelError(msg)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient and have entries, by name; tied ones once.

    Raises
    ------
    ModelError
        If there is none, or one is complex, an integer, in eight bits, or without data.
    """
    for name, parameter in model.named_parameters():
        _check_parameter(name, parameter)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad and p.numel()}
    if not trainable:
        msg = "no parameter of the model requires a gradient: there is nothing to measure (requires_grad_(True))"
        raise ModelError(msg)
    return trainable


def check_finite_parameters(parameters: dict[str, nn.Parameter]) -> None:
    """Raise :class:`NonFiniteError` naming the first parameter that is NaN or infinite."""
    for name, parameter in parameters.items():
        wrong = int((~torch.isfinite(parameter.detach())).sum())
        if wrong:
            msg = f"parameter {name!r} has {wrong} entries that are NaN or infinite: load a checkpoint that is finite"
            raise NonFiniteError(msg)


def _check_parameter(name: str, parameter: nn.Parameter) -> None:
    if is_lazy(parameter):
        msg = f"parameter {name!r} of a lazy module has no shape yet: call model(inputs) on one batch before measuring"
        raise ModelError(msg)
    if not parameter.dtype.is_floating_point:
        msg = (
            f"parameter {name!r} has dtype {parameter.dtype}, but curvature needs real floating-point parameters: "
            f"register integers as buffers, and split complex parameters into real and imaginary parts"
        )
        raise ModelError(msg)
    if parameter.dtype.itemsize < 2:
        msg = (
            f'parameter {name!r} has dtype {parameter.dtype}: pass dtype="float32" to measure a copy in that precision'
        )
        raise ModelError(msg)
    if parameter.is_meta or parameter.is_inference():
        msg = (
            f"parameter {name!r} is on the meta device, or was made in inference mode: make the model outside of both, "
            f"and load its weights with load_state_dict"
        )
        raise ModelError(msg)


def class_of(module: nn.Module) -> type[nn.Module]:
    """Return the class of a module; of a scripted one the class of torch that it was made from, if it was."""
    if not isinstance(module, torch.jit.ScriptModule):
        return type(module)
    found = getattr(nn, str(getattr(module, "original_name", "")), None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else type(module)


def _is_random(module: nn.Module) -> bool:
    """Whether the module draws random numbers in training mode, and is in it; frozen scripts have no mode any more."""
    if not getattr(module, "training", False):
        return False
    kind = class_of(module)
    if issubclass(kind, _DropoutNd):
        return float(getattr(module, "p", 1)) > 0
    if issubclass(kind, (nn.RNNBase, nn.MultiheadAttention)):
        return float(getattr(module, "dropout", 1)) > 0
    return issubclass(kind, nn.RReLU)


def _has_improper_gradient(module: nn.Module) -> bool:
    improper = (getattr(module, flag, False) for flag in ("sparse", "scale_grad_by_freq"))
    return issubclass(class_of(module), (nn.Embedding, nn.EmbeddingBag)) and any(improper)


def _has_weight_norm(module: nn.Module) -> bool:
    parametrized = any(
        type(p).__name__ == "_WeightNorm"
        for p in module.modules()
        if isinstance(module, nn.utils.parametrize.ParametrizationList)
    )
    return parametrized or any(type(hook).__name__ == "WeightNorm" for hook in module._forward_pre_hooks.values())


def listed(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
