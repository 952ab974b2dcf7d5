"""The entry point of the PyTorch backend: it recognizes modules by their type and loads torch only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.model_metrics import ModelMetric
from invariant_sharpness.adapters.optimizers import OptimizerState, refuse_hyperparameters
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle

if TYPE_CHECKING:
    from torch import nn

    from invariant_sharpness_torch.oracle import TorchOracle
    from invariant_sharpness_torch.sharded_oracle import ShardedOracle


class TorchBackend:
    """The backend for every ``torch.nn.Module``."""

    name = "PyTorch"
    options = frozenset(
        {"batch_size", "dtype", "examples", "forward", "groups", "max_examples", "microbatch", "process_group"}
    )

    def accepts(self, model: object, /) -> bool:
        """Whether ``model`` is a ``torch.nn.Module``, told by the names of its base classes.

        A Keras model on the torch engine is one too, but its parameters include what is not trained.
        """
        modules = [base.__module__ for base in type(model).__mro__]
        return "torch.nn.modules.module" in modules and not any(name.startswith("keras.") for name in modules)

    def oracle(self, model: nn.Module, data: Any, /, *, loss: Any, **options: Any) -> TorchOracle | ShardedOracle:
        """The oracle of ``model``; see :func:`invariant_sharpness_torch.building.build_oracle` for the options."""
        from invariant_sharpness_torch.building import build_oracle

        return build_oracle(model, data, loss, **options)

    def train_network(
        self, x: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], /, *, sizes: tuple[int, ...], seed: int
    ) -> nn.Module:
        """Train the ReLU network of the demonstration."""
        from invariant_sharpness_torch.training import train_network

        return train_network(x, labels, sizes=sizes, seed=seed)

    def accuracy(self, model: nn.Module, x: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], /) -> float:
        """Share of the examples that ``model`` classifies as labelled."""
        from invariant_sharpness_torch.training import accuracy

        return accuracy(model, x, labels)

    def relu_oracle(
        self,
        weights: Sequence[npt.NDArray[np.float64]],
        biases: Sequence[npt.NDArray[np.float64]] | None,
        data: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]],
        /,
        *,
        loss: str,
        batch_size: int,
    ) -> TorchOracle | ShardedOracle:
        """The oracle of a ReLU network with these matrices and vectors, in float64."""
        from invariant_sharpness_torch.building import build_oracle
        from invariant_sharpness_torch.training import relu_network

        return build_oracle(relu_network(weights, biases), data, loss, batch_size=batch_size)

    def copied_model(self, oracle: CurvatureOracle, parameters: ParameterVector, /) -> tuple[nn.Module, Any, Any]:
        """A copy of the module with these parameters, all inputs, and all targets."""
        from invariant_sharpness_torch.oracle import copied_model

        return copied_model(oracle, parameters)

    def in_evaluation_mode(self, model: nn.Module, /) -> AbstractContextManager[None]:
        """The mode of prediction inside the ``with`` block, and afterwards of each part its own."""
        from invariant_sharpness_torch.holding import in_evaluation_mode

        return in_evaluation_mode(model)

    def accepts_optimizer(self, optimizer: object, /) -> bool:
        """Whether it is one of ``torch.optim``, told by the names of its base classes."""
        return any(base.__module__ == "torch.optim.optimizer" for base in type(optimizer).__mro__)

    def optimizer_state(
        self, oracle: CurvatureOracle, optimizer: Any, hyperparameters: Mapping[str, Any], /
    ) -> OptimizerState:
        """What the optimizer does to the parameters of a module."""
        from invariant_sharpness_torch.optimizers import read_optimizer

        refuse_hyperparameters(hyperparameters)
        return read_optimizer(oracle, optimizer)


backend = TorchBackend()


def model_metric(metric: Callable[[nn.Module, Any, Any], Any]) -> ModelMetric:
    """Make ``metric(model, inputs, targets) -> number`` a metric of oracles.

    It gets a copy of the module at the oracle's parameters, in the mode of the original, and all examples in one batch.
    """
    return ModelMetric(metric, "torch")
