"""A PyTorch module with a loss as an engine."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import array_api_compat.torch as xp
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from invariant_sharpness.adapters.batch_losses import of_whole_batches
from invariant_sharpness.adapters.data import batch_size, leaves
from invariant_sharpness.adapters.engine import Arrays
from invariant_sharpness.adapters.host_engine import EngineDefaults
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup
from invariant_sharpness.protocol import (
    EVERY_CAPABILITY,
    DoublePrecisionOracle,
    HessianOperatorOracle,
    NodeCurvatureOracle,
    OneByOneOracle,
    OutputFormOracle,
    ResidualDiagonalOracle,
    ResidualProductOracle,
)
from invariant_sharpness_torch import batches
from invariant_sharpness_torch.batches import Forward, evaluation, host_rows, to_device
from invariant_sharpness_torch.changing_modules import check_rescaled_rows, check_steady
from invariant_sharpness_torch.footprint import Footprint, footprint
from invariant_sharpness_torch.half_precision import held, held_dtype, model_eps
from invariant_sharpness_torch.holding import check_differentiable, holding, loader_generators, random_state
from invariant_sharpness_torch.loss_parameters import check_loss_of_outputs
from invariant_sharpness_torch.losses import function_terms
from invariant_sharpness_torch.models import check_modules, in_precision, trainable_parameters
from invariant_sharpness_torch.node_curvature import NodeCurvature
from invariant_sharpness_torch.point import TorchPoint, on_host
from invariant_sharpness_torch.residuals import LayerResiduals
from invariant_sharpness_torch.squares import ExampleSquares


class TorchEngine(EngineDefaults):
    """A module and a loss.

    Parameters of half precision have vectors, sums and squares in float32; the model computes in half precision, forward and backward.

    Parameters
    ----------
    model
        Deterministic and example by example; it is bit-identical after every pass.
    forward
        ``(model, batch) -> (outputs, targets)``.
    parameters
        Those that are measured, by name; the model computes with them.
    groups
        Roles and axes of these parameters, in the order of the vectors.
    loss
        The loss of outputs and targets.
    examples
        Whether an example is a row of a batch, or a whole batch.
    originals
        The parameters of the user's model, where ``model`` is a copy of it.
    """

    name = "PyTorch"
    xp = xp
    offers = EVERY_CAPABILITY | {
        DoublePrecisionOracle,
        HessianOperatorOracle,
        ResidualDiagonalOracle,
        ResidualProductOracle,
        OneByOneOracle,
        NodeCurvatureOracle,
        OutputFormOracle,
    }

    def __init__(
        self,
        model: nn.Module,
        forward: Forward,
        parameters: Mapping[str, nn.Parameter],
        groups: tuple[ParameterGroup, ...],
        loss: LossTerms,
        examples: Examples = "rows",
        originals: Sequence[tuple[str, nn.Parameter]] = (),
    ) -> None:
        self.model = model
        self.examples: Examples = examples
        self._originals = originals
        self.groups = groups
        self.loss = loss if examples == "rows" else of_whole_batches(loss, function_terms)
        self.reduction: Literal["mean", "sum"] = self.loss.reduction
        self.loss_description = loss.description
        self._given = forward, loss
        self._evaluate = evaluation(model, forward if examples == "rows" else batches.of_whole_batches(forward))
        self._parameters = {group.name: parameters[group.name] for group in groups}
        self._squares = ExampleSquares(model, self._parameters)
        self._residuals = LayerResiduals(groups, self._squares)
        self._nodes = NodeCurvature(self._parameters, self._squares)
        self._footprint: Footprint | None = None

    @property
    def eps(self) -> float:
        return model_eps(self.model)

    @property
    def samples_outputs(self) -> bool:
        return self.loss.samples_outputs

    def in_double_precision(self) -> TorchEngine:
        """The engine of a copy of the model in double precision."""
        model = in_precision(self.model, "float64")
        forward, loss = self._given
        return TorchEngine(model, forward, trainable_parameters(model), self.groups, loss, self.examples)

    def parameters(self) -> Arrays:
        return {name: held(parameter.detach()) for name, parameter in self._parameters.items()}

    def from_numpy(self, arrays: HostArrays, /) -> Arrays:
        return {
            name: torch.as_tensor(np.array(arrays[name]), dtype=held_dtype(p.dtype), device=p.device)
            for name, p in self._parameters.items()
        }

    def to_numpy(self, arrays: Arrays, /) -> dict[str, npt.NDArray[np.float64]]:
        return {name: array.detach().to("cpu", torch.float64, copy=True).numpy() for name, array in arrays.items()}

    def batch(self, given: Any, /) -> Any:
        return to_device(given, next(p for p in self.model.parameters() if p.is_floating_point()))

    def host_rows(self, batch: Any, /) -> Sequence[npt.NDArray[Any]]:
        return host_rows(batch)

    def check_loss(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> None:
        self.loss.check(outputs, targets)
        check_loss_of_outputs(self.loss, outputs, targets, self._parameters, self._originals)

    def random_state(self, seed: int, source: Any, /) -> AbstractContextManager[None]:
        check_differentiable()
        return random_state(seed, loader_generators(source))

    def examples_at_once(self, batch: Any, /) -> int:
        """Return how many examples fit into the memory limit, by what a few of the first batch that is asked for take."""
        if self._footprint is None:
            self._footprint = footprint(self.model, self._evaluate, batch)
        return min(self._footprint.examples(), batch_size(batch))

    def linearizations_within_limit(self) -> int:
        """Return how many by the same footprint; none where it is not known."""
        return 0 if self._footprint is None else self._footprint.linearizations()

    @contextmanager
    def at(self, parameters: Arrays, /) -> Generator[TorchPoint]:
        check_modules(self.model, self.examples)
        check_steady(self.model)
        with holding(self.model, self._parameters, parameters):
            check_rescaled_rows(self.model)
            point = self._point()
            try:
                yield point
            finally:
                point.close()

    def _point(self) -> TorchPoint:
        return TorchPoint(self._evaluate, self._parameters, self.loss, self._squares, self._residuals, self._nodes)

    def add(self, total: Arrays, part: Arrays, /) -> Arrays:
        return {name: array + part[name] for name, array in total.items()}

    def divide(self, total: Arrays, weight: float, /) -> Arrays:
        return {name: array / weight for name, array in total.items()}

    def finite(self, arrays: Arrays, /) -> torch.Tensor:
        """Return one flag for each array, on the device of the first: a model's parameters may lie on several."""
        flags = [torch.isfinite(array).all() for array in arrays.values()]
        return torch.stack([flag.to(flags[0].device) for flag in flags])

    def read(self, tree: Any, /) -> Any:
        return read(tree)


def read(tree: Any) -> Any:
    """Transfer all tensors of a nest in one piece."""
    tensors = leaves(tree)
    if not tensors:
        return tree
    joined = torch.cat([tensor.to(tensors[0].device).reshape(-1) for tensor in tensors])
    return _split(tree, iter(np.split(on_host(joined), np.cumsum([tensor.numel() for tensor in tensors])[:-1])))


def _split(tree: Any, parts: Any) -> Any:
    """The nest with its tensors replaced by the next parts."""
    if isinstance(tree, (list, tuple)):
        return type(tree)([_split(branch, parts) for branch in tree])
    part = next(parts)
    return part.reshape(tree.shape) if tree.ndim else float(part[0])
