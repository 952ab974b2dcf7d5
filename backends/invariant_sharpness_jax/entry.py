"""The entry point of the JAX backend: it recognizes functions, and loads JAX only to differentiate one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.model_metrics import ModelMetric, foreign_oracle
from invariant_sharpness.adapters.optimizers import OptimizerState
from invariant_sharpness.errors import ModelError, missing_dependency
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness_jax.application import Application

if TYPE_CHECKING:
    from invariant_sharpness_jax.oracle import JaxOracle

_ADAPTERS = {
    "flax.linen.module": "from_linen(module, variables)",
    "flax.nnx.module": "from_nnx(module)",
    "equinox._module": "from_equinox(module)",
}


class JaxBackend:
    """The backend for functions ``apply(parameters, inputs) -> outputs``."""

    name = "JAX"
    options = frozenset({"batch_size", "dtype", "examples", "groups", "max_examples", "microbatch", "parameters"})

    def accepts(self, model: object, /) -> bool:
        """Whether ``model`` is a function, compiled or not, or a module that an adapter makes into one."""
        return _is_function(model) or _adapter(model) is not None

    def oracle(self, model: Any, data: Any, /, *, loss: Any, **options: Any) -> JaxOracle:
        """The oracle of ``model``; see :func:`invariant_sharpness_jax.building.build_oracle` for the options.

        Raises
        ------
        ModelError
            If the option ``parameters`` is missing, or ``model`` is a module instead of a function.
        MissingDependencyError
            If JAX is not installed.
        """
        adapter = _adapter(model)
        if adapter is not None and (not callable(model) or "parameters" not in options):
            msg = (
                f"a {type(model).__name__} is a module, and not a function of its parameters: make it one by "
                f"apply, parameters = invariant_sharpness_jax.{adapter}, and pass apply and parameters=parameters"
            )
            raise ModelError(msg)
        if "parameters" not in options:
            msg = (
                "the model is a function, and its parameters are missing: pass apply(parameters, inputs) -> outputs, "
                "written in JAX, together with parameters=..., a tree of arrays. (For functions in NumPy, build an "
                "invariant_sharpness_numpy.FunctionOracle.)"
            )
            raise ModelError(msg)
        if find_spec("jax") is None:
            error = missing_dependency("jax", "jax", "a function with parameters")
            raise error
        from invariant_sharpness_jax.building import build_oracle

        return build_oracle(model, data, loss, **options)

    def relu_oracle(
        self,
        weights: Sequence[npt.NDArray[np.float64]],
        biases: Sequence[npt.NDArray[np.float64]] | None,
        data: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]],
        /,
        *,
        loss: str,
        batch_size: int,
    ) -> JaxOracle:
        """The oracle of a ReLU network with these matrices and vectors, in JAX's widest precision."""
        from invariant_sharpness_jax.building import build_oracle
        from invariant_sharpness_jax.relu import apply_relu_network, relu_parameters

        parameters = relu_parameters(weights, biases)
        return build_oracle(apply_relu_network, data, loss, parameters=parameters, batch_size=batch_size)

    def copied_model(self, oracle: CurvatureOracle, parameters: ParameterVector, /) -> tuple[Any, Any, Any, Any]:
        """The function, its parameters in the form that it takes, all inputs, and all targets."""
        from invariant_sharpness_jax.oracle import JaxOracle

        if not isinstance(oracle, JaxOracle):
            raise foreign_oracle(oracle, "JAX")
        return oracle.apply, oracle.to_tree(parameters), *oracle.all_examples()

    def accepts_optimizer(self, optimizer: object, /) -> bool:
        """Whether it is the state of an optimizer of Optax, told by the names of its parts."""
        parts = optimizer if type(optimizer) is tuple else (optimizer,)
        return any(type(part).__module__.startswith("optax.") or self._nested(part) for part in parts)

    def _nested(self, part: object) -> bool:
        return type(part) is tuple and self.accepts_optimizer(part)

    def optimizer_state(
        self, oracle: CurvatureOracle, optimizer: Any, hyperparameters: Mapping[str, Any], /
    ) -> OptimizerState:
        """What the optimizer with this state does to the parameters of a function."""
        from invariant_sharpness_jax.optimizers import read_state

        return read_state(oracle, optimizer, hyperparameters)


def model_metric(metric: Callable[[Any, Any, Any, Any], Any]) -> ModelMetric:
    """Make ``metric(apply, parameters, inputs, targets) -> number`` a metric of oracles.

    It gets the parameters of the oracle in the form that ``apply`` takes, and all examples in one batch.
    """
    return ModelMetric(metric, "jax")


def _is_function(model: object) -> bool:
    plain = isinstance(model, (FunctionType, MethodType, partial, Application))
    return plain or type(model).__name__ == "PjitFunction"


def _adapter(model: object) -> str | None:
    """The adapter for a module of Flax or Equinox, told by the names of its base classes."""
    modules = [base.__module__ for base in type(model).__mro__]
    return next((call for place, call in _ADAPTERS.items() if any(name.startswith(place) for name in modules)), None)


backend = JaxBackend()
