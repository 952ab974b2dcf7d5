"""A PyTorch module and its data as a curvature oracle, and a copy of the module at another point."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from invariant_sharpness.adapters.data import Dataset
from invariant_sharpness.adapters.dataset_oracle import DatasetOracle
from invariant_sharpness.adapters.model_metrics import foreign_oracle
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness.runtime.processes import ALONE, Processes
from invariant_sharpness_torch.engine import TorchEngine
from invariant_sharpness_torch.models import copied


class TorchOracle(DatasetOracle):
    """The mean loss of a module over a data set, with its derivatives.

    Parameters
    ----------
    engine
        The module with its loss.
    dataset
        Batches of tensors.
    outputs_per_example
        The largest number of outputs that an example has.
    processes
        Those that have the data together.
    """

    engine: TorchEngine

    def __init__(
        self, engine: TorchEngine, dataset: Dataset[Any], outputs_per_example: int, processes: Processes = ALONE
    ) -> None:
        super().__init__(engine, dataset, outputs_per_example, processes)
        self.model = engine.model

    @contextmanager
    def in_double_precision(self) -> Generator[TorchOracle]:
        """The oracle of a copy of the module in double precision, inside the ``with`` block."""
        engine = self.engine.in_double_precision()
        copy = self.with_engine(engine)
        copy.model = engine.model
        yield copy


@exclusive()
def copied_model(oracle: object, parameters: ParameterVector) -> tuple[nn.Module, Any, Any]:
    """Return a copy of the oracle's model with these parameters, all inputs, and all targets.

    Raises
    ------
    ModelError
        If it is not the oracle of a module, or the module cannot be copied.
    DataError
        If the examples do not fit into one batch.
    """
    if not isinstance(oracle, TorchOracle):
        raise foreign_oracle(oracle, "PyTorch")
    copy = copied(oracle.model, "write the metric for oracles")
    copy.zero_grad()
    named = dict(copy.named_parameters())
    with torch.no_grad():
        for name, values in parameters.arrays.items():
            named[name].copy_(values)
    return copy, *oracle.all_examples()
