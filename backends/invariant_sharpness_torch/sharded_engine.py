"""A module whose parameters are divided among processes, with a loss, as an engine: it has losses, gradients, and differences of both."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed, nn

from invariant_sharpness.adapters.engine import Arrays
from invariant_sharpness.adapters.host_engine import EngineDefaults
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup
from invariant_sharpness.protocol import (
    BlockProductOracle,
    DifferenceOracle,
    ExampleGradientOracle,
    GaussNewtonOracle,
    ModelPrecisionOracle,
    SampledGaussNewtonOracle,
    SubsetOracle,
)
from invariant_sharpness.runtime.processes import everywhere
from invariant_sharpness_torch.batches import Forward, evaluation, host_rows, to_device
from invariant_sharpness_torch.changing_modules import check_steady
from invariant_sharpness_torch.engine import read
from invariant_sharpness_torch.half_precision import held, model_eps
from invariant_sharpness_torch.holding import check_differentiable, loader_generators, random_state
from invariant_sharpness_torch.models import check_modules
from invariant_sharpness_torch.processes import in_model, talking
from invariant_sharpness_torch.sharded_arrays import ShardedNamespace, divided, on_every_process, own
from invariant_sharpness_torch.sharded_models import Division, Shards
from invariant_sharpness_torch.sharded_point import Differences, ShardedPoint, Spare


class ShardedEngine(EngineDefaults):
    """A module and a loss, in processes that compute together.

    Parameters
    ----------
    model
        Its parameters are divided; it is bit-identical after every pass.
    forward
        ``(model, batch) -> (outputs, targets)``.
    parameters
        Those that are measured, by name.
    groups
        Roles and axes of these parameters, in the order of the vectors.
    loss
        The loss of outputs and targets.
    division
        How the parameters are divided.
    """

    name = "PyTorch"
    examples = "rows"
    xp = ShardedNamespace()
    offers: frozenset[type] = frozenset(
        {
            BlockProductOracle,
            DifferenceOracle,
            ExampleGradientOracle,
            GaussNewtonOracle,
            ModelPrecisionOracle,
            SampledGaussNewtonOracle,
            SubsetOracle,
        }
    )

    def __init__(
        self,
        model: nn.Module,
        forward: Forward,
        parameters: Mapping[str, nn.Parameter],
        groups: tuple[ParameterGroup, ...],
        loss: LossTerms,
        division: Division,
    ) -> None:
        self.model = model
        self.groups = groups
        self.loss = loss
        self.reduction: Literal["mean", "sum"] = loss.reduction
        self.loss_description = loss.description
        self._evaluate = evaluation(model, forward)
        self._parameters = {group.name: parameters[group.name] for group in groups}
        self.shards = Shards(model, self._parameters, division)
        self._group = division.group
        self.differences = Differences(self.eps ** (1 / 3))

    @property
    def eps(self) -> float:
        return model_eps(self.model)

    @property
    def samples_outputs(self) -> bool:
        return self.loss.samples_outputs

    def parameters(self) -> Arrays:
        return {name: held(parameter.detach().clone()) for name, parameter in self._parameters.items()}

    def from_numpy(self, arrays: HostArrays, /) -> Arrays:
        return {name: divided(np.asarray(arrays[name]), p) for name, p in self._parameters.items()}

    def to_numpy(self, arrays: Arrays, /) -> dict[str, npt.NDArray[np.float64]]:
        return on_every_process(arrays)

    def batch(self, given: Any, /) -> Any:
        return to_device(given, own(next(iter(self._parameters.values()))))

    def host_rows(self, batch: Any, /) -> Sequence[npt.NDArray[Any]]:
        return [] if isinstance(batch, Spare) else host_rows(batch)

    def check_loss(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> None:
        everywhere(self.shards.processes, lambda: self.loss.check(outputs, targets))

    def random_state(self, seed: int, source: Any, /) -> AbstractContextManager[None]:
        check_differentiable()
        return random_state(seed, loader_generators(source))

    @contextmanager
    def at(self, parameters: Arrays, /) -> Generator[ShardedPoint]:
        check_modules(self.model)
        check_steady(self.model)
        with in_model(), self.shards.held():
            self.shards.move(parameters)
            point = ShardedPoint(self._evaluate, self.loss, self.shards, parameters, self.differences)
            try:
                yield point
            finally:
                point.close()

    def add(self, total: Arrays, part: Arrays, /) -> Arrays:
        return {name: array + part[name] for name, array in total.items()}

    def divide(self, total: Arrays, weight: float, /) -> Arrays:
        return {name: array / weight for name, array in total.items()}

    def finite(self, arrays: Arrays, /) -> torch.Tensor:
        """Return one flag for each array: whether the parts of all processes are finite."""
        flags = torch.stack([torch.isfinite(own(array)).all() for array in arrays.values()]).to(torch.uint8)
        with talking():
            distributed.all_reduce(flags, distributed.ReduceOp.MIN, group=self._group)
        return flags

    def read(self, tree: Any, /) -> Any:
        return read(tree)
