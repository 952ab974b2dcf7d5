"""Networks and data that are distributed over two devices of one process by a strategy of TensorFlow.

A program of its own, because the number of devices is fixed when the engine starts.
"""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np

import invariant_sharpness as ish

keras.config.set_floatx("float64")

EXAMPLES = 11
"""Two devices do not have equally many."""


def network() -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(3)])


def measured(data: Any, scope: Any = None) -> dict[str, float]:
    with scope or nullcontext():
        model = network()
    oracle = ish.oracle(model, data, batch_size=4)
    gradient = np.concatenate([a.ravel() for a in oracle.to_numpy(oracle.gradient(oracle.parameters)).values()])
    names = ["normalized_sharpness", "hessian_spectral_norm"]
    values = {name: estimate.value for name, estimate in ish.measure(oracle, names).items()}
    return {"examples": oracle.examples, "slope": float(gradient @ np.cos(np.arange(len(gradient)))), **values}


def on_tensorflow(data: Any) -> dict[str, Any]:
    """A strategy with two replicas on the processor: plain data, batches for each replica, and a list of them."""
    import tensorflow as tf

    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    spread = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(data).batch(4))
    forms = {"plain data": data, "distributed data": spread, "list of batches": list(spread)}
    return {name: measured(form, strategy.scope()) for name, form in forms.items()}


def main() -> None:
    random = np.random.default_rng(0)
    data = random.normal(size=(EXAMPLES, 4)), random.integers(0, 3, EXAMPLES)
    found = on_tensorflow(data)
    print(json.dumps({"expected": measured(data), "found": found}))


main()
