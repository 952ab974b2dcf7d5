"""The states of Keras' optimizers: what an optimizer makes of the gradients of a model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.model_metrics import foreign_oracle
from invariant_sharpness.adapters.optimizers import OptimizerState, no_step_yet, unknown_optimizer
from invariant_sharpness.errors import ModelError
from invariant_sharpness_keras.groups import unique_names
from invariant_sharpness_keras.models import host_values
from invariant_sharpness_keras.oracle import KerasOracle


def read_optimizer(oracle: object, optimizer: keras.optimizers.Optimizer) -> OptimizerState:
    """Read the preconditioner of Adam, AdamW, RMSprop or SGD.

    Raises
    ------
    ModelError
        If it is another optimizer, trains none of the oracle's parameters, or has not taken a step.
    """
    if not isinstance(oracle, KerasOracle):
        raise foreign_oracle(oracle, "Keras")
    places = _places(oracle.model, optimizer)
    for kind, read in _READERS.items():
        if isinstance(optimizer, kind):
            return read(optimizer, places)
    raise unknown_optimizer(type(optimizer).__name__)


def _places(model: Any, optimizer: Any) -> dict[str, int]:
    """Where the variables of the model stand in the lists of the optimizer, by name."""
    variables = list(model.trainable_variables)
    known = {id(variable): place for place, variable in enumerate(getattr(optimizer, "_trainable_variables", ()))}
    named = zip(unique_names(variables), variables, strict=True)
    places = {name: known[id(variable)] for name, variable in named if id(variable) in known}
    if not places and not known:
        raise no_step_yet(type(optimizer).__name__, unique_names(variables)[0])
    if not places:
        msg = (
            "the optimizer trains no variable of the oracle's model: make the oracle of the very model that is trained"
        )
        raise ModelError(msg)
    return places


def _adam(optimizer: Any, places: dict[str, int]) -> OptimizerState:
    """The epsilon of Keras is beside the root without bias correction."""
    step = _steps(optimizer, places)
    corrected = 1 - optimizer.beta_2**step
    squares = optimizer._velocity_hats if optimizer.amsgrad else optimizer._velocities
    return OptimizerState(
        name=type(optimizer).__name__,
        learning_rates=_rates(optimizer, places),
        mean_squares={name: _host(squares[place]) / corrected for name, place in places.items()},
        epsilon=optimizer.epsilon / float(np.sqrt(corrected)),
        correction=1 - optimizer.beta_1**step,
        momentum=float(optimizer.beta_1),
        form="average",
        decoupled_decay=_decay(optimizer),
    )


def _rmsprop(optimizer: Any, places: dict[str, int]) -> OptimizerState:
    _steps(optimizer, places)

    def mean_square(place: int) -> npt.NDArray[np.float64]:
        square = _host(optimizer._velocities[place])
        return square - _host(optimizer._average_gradients[place]) ** 2 if optimizer.centered else square

    return OptimizerState(
        name=type(optimizer).__name__,
        learning_rates=_rates(optimizer, places),
        mean_squares={name: mean_square(place) for name, place in places.items()},
        epsilon_root=float(optimizer.epsilon),
        momentum=float(optimizer.momentum),
        decoupled_decay=_decay(optimizer),
    )


def _sgd(optimizer: Any, places: dict[str, int]) -> OptimizerState:
    return OptimizerState(
        name=type(optimizer).__name__,
        learning_rates=_rates(optimizer, places),
        momentum=float(optimizer.momentum),
        form="nesterov" if optimizer.nesterov else "heavy ball",
        decoupled_decay=_decay(optimizer),
    )


_READERS = {
    keras.optimizers.Adam: _adam,
    keras.optimizers.AdamW: _adam,
    keras.optimizers.RMSprop: _rmsprop,
    keras.optimizers.SGD: _sgd,
}


def _steps(optimizer: Any, places: dict[str, int]) -> int:
    steps = int(optimizer.iterations.numpy() if hasattr(optimizer.iterations, "numpy") else optimizer.iterations)
    if steps == 0:
        raise no_step_yet(type(optimizer).__name__, next(iter(places)))
    return steps


def _rates(optimizer: Any, places: dict[str, int]) -> dict[str, float]:
    return dict.fromkeys(places, float(keras.ops.convert_to_numpy(optimizer.learning_rate)))


def _decay(optimizer: Any) -> float:
    return float(optimizer.weight_decay or 0.0)


def _host(variable: Any) -> npt.NDArray[np.float64]:
    return host_values([variable])[0].astype(np.float64)
