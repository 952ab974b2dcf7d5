"""Models whose backward pass is not the derivative of their forward pass, or whose forward pass changes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from invariant_sharpness.adapters.data import take
from invariant_sharpness.adapters.true_derivatives import EXAMPLES, check_derivatives
from invariant_sharpness.errors import ModelError
from invariant_sharpness.runtime.memory import chunks_within_limit
from invariant_sharpness_torch.batches import Forward
from invariant_sharpness_torch.changing_modules import still_tables
from invariant_sharpness_torch.engine import TorchEngine
from invariant_sharpness_torch.models import in_precision

_COPIES = 8
"""So many copies of the parameters have to fit into the memory limit, before one is made in float64."""


def check_unchanged(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> None:
    """Raise ModelError if a forward pass has written to a parameter.

    Raises
    ------
    ModelError
        Names the parameter.
    """
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
    if changed:
        msg = (
            f"the forward pass changes parameter {changed[0]!r} in place, as F.embedding with max_norm does, and nothing "
            f"differentiates that: make the change once, before measuring, and leave it out of the forward pass"
        )
        raise ModelError(msg)


def check_backward(engine: TorchEngine, forward: Forward, batch: Any) -> None:
    """Compare derivatives with differences, on a copy in float64 if it is small and the model computes in it.

    A model that rounds to half precision on its way moves in steps; it is left to ``check_oracle``.

    Raises
    ------
    ModelError
        If they disagree.
    """
    few, still = take(batch, 0, EXAMPLES), still_tables(engine.model)
    for candidate in (_in_float64(engine, forward), engine):
        try:
            check_derivatives(candidate, few, still)
        except ModelError:
            if not _rounds(candidate, few):
                raise
        except torch.OutOfMemoryError:
            raise
        except (
            Exception
        ):  # constants in another type; an operation without a derivative, which the pass that needs it names
            continue
        return


class _Watching(TorchDispatchMode):
    """Sees whether an operation has a result in half precision."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.half = False

    def __torch_dispatch__(self, function: Any, _types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        self.half |= any(tensor.is_floating_point() and tensor.itemsize < 4 for tensor in _tensors(result))
        return result


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _rounds(engine: TorchEngine, few: Any) -> bool:
    """Whether the model computes in half precision somewhere."""
    with engine.at(engine.parameters()) as point, _Watching() as watching:
        point.evaluate(engine.batch(few))
    return watching.half


def _in_float64(engine: TorchEngine, forward: Forward) -> TorchEngine:
    """The engine of a copy of the model; the engine itself where there is none."""
    size = sum(parameter.numel() for parameter in engine.model.parameters())
    if engine.eps < torch.finfo(torch.float32).eps or chunks_within_limit(_COPIES * 8 * size) < 2:
        return engine
    try:
        copy = in_precision(engine.model, "float64")
    except Exception:  # parts that cannot be copied
        return engine
    named = dict(copy.named_parameters())
    parameters = {group.name: named[group.name] for group in engine.groups}
    return TorchEngine(copy, forward, parameters, engine.groups, engine.loss, engine.examples)
