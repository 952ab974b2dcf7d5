"""Metrics that are written for the models of a framework, as callables of an oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from typing import Any

from invariant_sharpness.adapters.registry import ModelBackend, backend
from invariant_sharpness.coordinates import Moved
from invariant_sharpness.errors import ModelError
from invariant_sharpness.protocol import CurvatureOracle


@dataclass(frozen=True, slots=True)
class ModelMetric:
    """A metric of a framework's own models. Called with an oracle, it measures a copy of its model at its parameters.

    So it can be measured and certified as any other: the user's model stays where it is and as it is.

    Parameters
    ----------
    metric
        Returns a number. Takes a model, inputs and targets; in JAX a function, its parameters, inputs and targets.
    framework
        The name of the backend: ``"torch"``, ``"jax"``, ``"keras"`` or ``"numpy"``.
    """

    metric: Callable[..., Any]
    framework: str

    @property
    def __name__(self) -> str:
        return getattr(self.metric, "__name__", type(self.metric).__name__)

    @property
    def __signature__(self) -> Signature:
        """The oracle, and what the metric takes by keyword alone, such as ``seed``."""
        own = signature(self.metric).parameters.values()
        by_keyword = [parameter for parameter in own if parameter.kind is Parameter.KEYWORD_ONLY]
        return Signature([Parameter("oracle", Parameter.POSITIONAL_ONLY), *by_keyword])

    def __call__(self, oracle: CurvatureOracle, /, **options: Any) -> Any:
        """Measure with these keywords, and return the number that the metric returns.

        Raises
        ------
        ModelError
            If the oracle is not of a model of this framework.
        """
        base = oracle
        while isinstance(base, Moved):
            base = base.base
        return self.metric(*model_backend(self.framework).copied_model(base, oracle.parameters), **options)


def model_backend(name: str) -> ModelBackend:
    """Load the backend with this name, which has to hand out its models.

    Raises
    ------
    ModelError
        If there is no such backend, or it does not.
    """
    found = backend(name)
    if not isinstance(found, ModelBackend):
        msg = (
            f"the backend {name!r} hands out no models: metrics can be written for its oracles alone, unless it gets the "
            f"methods of invariant_sharpness.adapters.registry.ModelBackend"
        )
        raise ModelError(msg)
    return found


def foreign_oracle(oracle: object, framework: str) -> ModelError:
    """The error for an oracle whose model is not of the framework."""
    msg = (
        f"the metric is written for models of {framework}, but it is measured on a {type(oracle).__name__}: make the oracle from "
        f"such a model, by invariant_sharpness.oracle(model, data)"
    )
    return ModelError(msg)
