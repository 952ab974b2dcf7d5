"""Networks and data that are distributed over two devices of one process: by a strategy of TensorFlow, or by ``keras.distribution`` on JAX.

    python distributed.py tensorflow

A program of its own, because the number of devices is fixed when the engine starts; JAX wants the environment of
``zoo.host_devices.divided_processor(2)``.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from typing import Any

os.environ["KERAS_BACKEND"] = sys.argv[1]
os.environ["JAX_ENABLE_X64"] = "1"

import keras
import numpy as np

import invariant_sharpness as ish

keras.config.set_floatx("float64")

EXAMPLES = 11
"""Two devices do not have equally many."""


def network() -> Any:
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(6, "relu", name="hidden")
    return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(3)])


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


def on_jax(data: Any) -> dict[str, Any]:
    """Examples on two devices; and units of the hidden layer."""
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh((1, 2), ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*hidden/kernel"] = (None, "model")
    layout[".*hidden/bias"] = ("model",)
    distributions = {
        "data parallel": keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False),
        "model parallel": keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch"),
    }
    with distributions["model parallel"].scope():
        if network().layers[0].kernel.value.sharding.is_fully_replicated:
            sys.exit("the units of the hidden layer are not divided among the devices")
    return {name: measured(data, distribution.scope()) for name, distribution in distributions.items()}


def main() -> None:
    random = np.random.default_rng(0)
    data = random.normal(size=(EXAMPLES, 4)), random.integers(0, 3, EXAMPLES)
    found = {"tensorflow": on_tensorflow, "jax": on_jax}[keras.backend.backend()](data)
    print(json.dumps({"expected": measured(data), "found": found}))


main()
