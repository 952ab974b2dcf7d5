"""Variables and random states are what they were."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from keras import layers
from keras_problems import inputs, labels, same, state

import invariant_sharpness as ish
from invariant_sharpness_keras import backend


def untouched() -> dict[str, bool]:
    """Whether all variables and random states are what they were: after measuring, and after two kinds of interruption."""
    model = with_states()
    before = state(model)
    oracle = backend.oracle(model, Breaking(), loss="cross_entropy")
    ish.measure(oracle, ["hessian_trace", "hessian_spectral_norm", "fisher_rao_norm"])
    oracle.gauss_newton_vector_product(oracle.parameters, oracle.parameters)
    oracle.vector_jacobian_product(2.0 * oracle.parameters, oracle.outputs(oracle.parameters, 5))
    found = {"measured": same(before, state(model))}
    for error in (ZeroDivisionError, KeyboardInterrupt):
        Breaking.error = error
        try:
            oracle.gradient(2.0 * oracle.parameters)
        except error:
            found[error.__name__] = same(before, state(model))
    return found


def with_states() -> keras.Model:
    """A network with moving statistics, and with a random state of its own."""
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(4, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(3),
        ]
    )


def training_between_passes() -> dict[str, Any]:
    """Whether a vector is what it was when the model is trained; and the loss then, of the oracle and of a new one."""
    model, data = with_states(), (inputs(), labels())
    oracle = backend.oracle(model, data, loss="cross_entropy")
    vector = oracle.parameters
    before = oracle.to_numpy(vector)
    oracle.loss(vector)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data, epochs=2, verbose=0)
    new = backend.oracle(model, data, loss="cross_entropy")
    after = oracle.to_numpy(vector)
    return {
        "vector": all(np.array_equal(before[name], after[name]) for name in before),
        "moved": not np.array_equal(
            before[oracle.groups[0].name], oracle.to_numpy(oracle.parameters)[oracle.groups[0].name]
        ),
        "loss": [oracle.loss(oracle.parameters), new.loss(new.parameters)],
    }


def two_threads() -> dict[str, Any]:
    """Whether two threads on one model, and on two, get the values of one thread; and whether the models are what they were."""
    models = [with_states(), with_states()]
    oracles = [backend.oracle(model, (inputs(), labels()), loss="cross_entropy") for model in models]
    before = [state(model) for model in models]

    def values(oracle: Any) -> list[float]:
        found = []
        for _ in range(5):
            point = oracle.parameters
            found += [oracle.loss(2.0 * point), oracle.gradient(1.5 * point).norm(), oracle.parameters.norm()]
        return found

    expected = [values(oracle) for oracle in oracles]
    with ThreadPoolExecutor(2) as threads:
        one = list(threads.map(values, [oracles[0]] * 2))
        two = list(threads.map(values, oracles))
    kept = all(same(*pair) for pair in zip(before, map(state, models), strict=True))
    return {"one model": one == [expected[0]] * 2, "two models": two == expected, "models": kept}


class Breaking:
    """Batches that are read from the user's random state, and of which the second raises, if it is told to."""

    error: type[BaseException] | None = None

    def __iter__(self) -> Any:
        for index in range(2):
            if index and Breaking.error is not None:
                raise Breaking.error
            yield inputs(3, 5) + np.random.random() * 0, labels(3)  # noqa: NPY002 - draws from the user's state


CHECKS = [untouched, training_between_passes, two_threads]
