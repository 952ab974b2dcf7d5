"""Keras on PyTorch: the PyTorch engine on the variables of a Keras model."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import array_api_compat.torch as xp
import keras
import torch

from invariant_sharpness.adapters.data import Batch
from invariant_sharpness.adapters.engine import Arrays
from invariant_sharpness.adapters.loss_terms import RowTerms
from invariant_sharpness.adapters.sample_weights import SampleWeighted
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.errors import ModelError
from invariant_sharpness.losses import FunctionLoss
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.protocol import NodeCurvatureOracle, OneByOneOracle, ResidualDiagonalOracle
from invariant_sharpness_keras import inference
from invariant_sharpness_keras.batch import host_batch
from invariant_sharpness_keras.losses import Loss
from invariant_sharpness_keras.models import host_values, rounding
from invariant_sharpness_keras.torch_squares import SiteSquares
from invariant_sharpness_torch.batches import Forward, to_device
from invariant_sharpness_torch.engine import TorchEngine
from invariant_sharpness_torch.holding import holding
from invariant_sharpness_torch.losses import resolve_loss
from invariant_sharpness_torch.point import TorchPoint


class KerasTorchEngine(TorchEngine):
    """A Keras model and a loss on PyTorch.

    The parameters are the trainable variables, by Keras' own names: as a module, the model has frozen variables and moving
    statistics among its parameters too.

    Parameters
    ----------
    model, loss
        The model, and the loss of its outputs.
    variables, groups
        The variables that are measured, and their descriptions in the same order.
    examples
        Whether an example is a row of a batch, or a whole batch.
    """

    offers = TorchEngine.offers - {ResidualDiagonalOracle, OneByOneOracle, NodeCurvatureOracle}

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        variables: Sequence[Any],
        groups: tuple[ParameterGroup, ...],
        examples: Examples = "rows",
    ) -> None:
        values = {group.name: variable.value for group, variable in zip(groups, variables, strict=True)}
        weighted = loss_terms(loss)
        terms = weighted if examples == "rows" else weighted.loss
        super().__init__(model, _forward(list(values.values())), values, groups, terms, examples)
        self._squares = SiteSquares(model, values)
        self._first = next(iter(values.values())).detach()
        self._dtype = host_values([variables[0]])[0].dtype

    @property
    def eps(self) -> float:
        """On PyTorch, Keras computes in single precision, whatever the variables' type."""
        return max(rounding(self.model), torch.finfo(torch.float32).eps)

    def parameters(self) -> Arrays:
        """Return copies: where Keras trains, it writes into its variables."""
        return {name: array.clone() for name, array in super().parameters().items()}

    def may_deceive(self, _: Batch, /) -> bool:
        """Return True: operations of PyTorch do not tell whether their derivatives are a user's own."""
        return True

    def batch(self, given: Any, /) -> Batch:
        moved: Batch = to_device(host_batch(given, self._dtype, self.examples), self._first)
        return moved

    @contextmanager
    def at(self, parameters: Arrays, /) -> Generator[TorchPoint]:
        with holding(self.model, self._parameters, parameters):
            point = self._point()
            try:
                yield point
            finally:
                point.close()


def _forward(values: Sequence[torch.Tensor]) -> Forward:
    """A stateless call with the parameters themselves: what is not measured is only read, and put into no variable."""

    def forward(model: keras.Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = inference.outputs(model, list(values), inference.constants(model), batch.inputs)
        if not isinstance(outputs, torch.Tensor):
            msg = (
                f"the model returned a {type(outputs).__name__} instead of one tensor: make a model of the output to "
                f"measure"
            )
            raise ModelError(msg)
        return outputs, batch.targets

    return forward


def loss_terms(loss: Loss) -> SampleWeighted:
    """Return the terms of a loss, which may be one of torch."""
    if isinstance(loss, FunctionLoss):
        return SampleWeighted(resolve_loss(loss.function if loss.reduction == "mean" else loss), xp)
    return SampleWeighted(RowTerms(loss, xp, torch.Tensor.detach), xp)
