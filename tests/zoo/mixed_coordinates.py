"""An oracle in coordinates that mix all parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import invariant_sharpness as ish
from invariant_sharpness_numpy import NetworkOracle
from zoo.vectors import flat


@dataclass(frozen=True)
class Linear:
    """The same loss in other coordinates, ``theta = A phi``, mixing all parameters."""

    base: NetworkOracle
    A: Any

    @property
    def xp(self) -> Any:
        return self.base.xp

    @property
    def groups(self) -> tuple[ish.ParameterGroup, ...]:
        return (ish.ParameterGroup("all", (len(self.A),), "other", (0,), ()),)

    @property
    def parameters(self) -> ish.ParameterVector:
        return self.from_numpy({"all": np.linalg.solve(self.A, flat(self.base.parameters))})

    @property
    def examples(self) -> int:
        return self.base.examples

    def subset(self, examples: Sequence[int]) -> Linear:
        return Linear(self.base.subset(examples), self.A)

    def loss(self, parameters: ish.ParameterVector) -> float:
        return self.base.loss(self._there(parameters["all"]))

    def gradient(self, parameters: ish.ParameterVector) -> ish.ParameterVector:
        return self._back(self.base.gradient(self._there(parameters["all"])))

    def hessian_vector_product(self, parameters: Any, vector: Any) -> ish.ParameterVector:
        there = self._there(parameters["all"]), self._there(vector["all"])
        return self._back(self.base.hessian_vector_product(*there))

    def gauss_newton_vector_product(self, parameters: Any, vector: Any) -> ish.ParameterVector:
        there = self._there(parameters["all"]), self._there(vector["all"])
        return self._back(self.base.gauss_newton_vector_product(*there))

    def from_numpy(self, arrays: Any) -> ish.ParameterVector:
        return ish.ParameterVector(self.xp, dict(arrays))

    def to_numpy(self, vector: ish.ParameterVector) -> dict[str, Any]:
        return dict(vector.arrays)

    def _there(self, phi: Any) -> ish.ParameterVector:
        theta, arrays = self.A @ phi, {}
        for group in self.base.groups:
            arrays[group.name], theta = theta[: group.size].reshape(group.shape), theta[group.size :]
        return self.base.from_numpy(arrays)

    def _back(self, gradient: ish.ParameterVector) -> ish.ParameterVector:
        return self.from_numpy({"all": self.A.T @ flat(gradient)})
