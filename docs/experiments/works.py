"""The two networks on which costs are measured, in PyTorch, JAX and Keras, with the same random weights.

Work A is a 784-512-512-10 perceptron on 2,048 examples; work B has two convolutions and two dense layers, on 512 images
of 3 x 32 x 32. Both run in float32, in batches of 256. The data are random, which does not matter for the cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

BATCH = 256
RUNS = 3

Arrays = dict[str, Any]
Batches = list[tuple[Any, Any]]

SHAPES = {"A": (784,), "B": (3, 32, 32)}
EXAMPLES = {"A": 2048, "B": 512}
MATRICES = {"A": [(512, 784), (512, 512), (10, 512)], "B": [(128, 4096), (10, 128)]}
KERNELS = {"A": [], "B": [(32, 3, 3, 3), (64, 32, 3, 3)]}


def batches(work: str, multiple: int = 1) -> Iterator[tuple[Any, Any]]:
    """The batches, made when they are asked for: images with the channels first, and labels."""
    for number in range(EXAMPLES[work] * multiple // BATCH):
        random = np.random.default_rng(number)
        yield random.random((BATCH, *SHAPES[work]), dtype=np.float32), random.integers(10, size=BATCH)


def batches_channels_last(work: str) -> Batches:
    """All of them, with the channels last."""
    return [(np.moveaxis(x, 1, -1), y) for x, y in batches(work)]


def weights(work: str) -> tuple[list[Any], list[Any]]:
    """Kernels and matrices, outputs first, scaled as PyTorch does; all biases are zero."""
    random = np.random.default_rng(0)

    def draw(shape: tuple[int, ...]) -> Any:
        bound = np.prod(shape[1:]) ** -0.5
        return random.uniform(-bound, bound, shape).astype(np.float32)

    return [draw(shape) for shape in KERNELS[work]], [draw(shape) for shape in MATRICES[work]]


def processor_seconds(function: Callable[[], object]) -> float:
    """The time of the processors, of all threads together: it does not depend on what else runs on the machine."""
    start = time.process_time()
    function()
    return time.process_time() - start


def device_seconds(function: Callable[[], object]) -> float:
    """The time by the clock, until PyTorch's accelerator has done everything."""
    import torch

    torch.accelerator.synchronize()
    start = time.perf_counter()
    function()
    torch.accelerator.synchronize()
    return time.perf_counter() - start


Seconds = Callable[[Callable[[], object]], float]


def ratio(function: Callable[[], object], unit: Callable[[], object], seconds: Seconds = processor_seconds) -> float:
    """The median time of a function over that of the unit, run in turns, after one turn that is not counted."""
    times = np.array([(seconds(function), seconds(unit)) for _ in range(1 + RUNS)])[1:]
    own, units = np.median(times, axis=0)
    return float(own / units)


def torch_network(work: str) -> Any:
    """A ``torch.nn.Sequential``."""
    import torch
    from torch import nn

    kernels, matrices = weights(work)
    layers: list[nn.Module] = []
    for kernel in kernels:
        convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        layers += [convolution, nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten()] if kernels else []
    for matrix in matrices:
        layers += [nn.Linear(matrix.shape[1], matrix.shape[0]), nn.ReLU()]
    network = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter, values in zip(list(network.parameters())[::2], [*kernels, *matrices], strict=True):
            parameter.copy_(torch.from_numpy(values))
        for bias in list(network.parameters())[1::2]:
            bias.zero_()
    return network


def torch_batches(work: str) -> Batches:
    """All batches, as tensors."""
    import torch

    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches(work)]


def torch_gradient(network: Any, data: Batches) -> Callable[[], object]:
    """One gradient of the mean loss, as anybody would write it."""
    import torch

    examples = sum(len(x) for x, _ in data)
    device = next(network.parameters()).device
    there = [(x.to(device), y.to(device)) for x, y in data]

    def gradient() -> object:
        network.zero_grad()
        for x, y in there:
            (torch.nn.functional.cross_entropy(network(x), y, reduction="sum") / examples).backward()
        return network

    return gradient


def jax_network(work: str) -> tuple[Callable[[Arrays, Any], Any], Arrays]:
    """``apply`` and its parameters; images have the channels last, which XLA's convolutions are made for."""
    import jax
    import jax.numpy as jnp

    kernels, matrices = weights(work)
    parameters = {f"kernel{i}": jnp.asarray(value.transpose(2, 3, 1, 0)) for i, value in enumerate(kernels)}
    parameters |= {f"matrix{i}": jnp.asarray(value.T) for i, value in enumerate(matrices)}
    parameters |= {f"kernel_bias{i}": jnp.zeros(len(value)) for i, value in enumerate(kernels)}
    parameters |= {f"bias{i}": jnp.zeros(len(value)) for i, value in enumerate(matrices)}

    def apply(p: Arrays, x: Any) -> Any:
        for i in range(len(kernels)):
            x = jax.lax.conv_general_dilated(
                x, p[f"kernel{i}"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + p[f"kernel_bias{i}"])
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = x.reshape(len(x), -1)
        for i in range(len(matrices)):
            x = x @ p[f"matrix{i}"] + p[f"bias{i}"]
            x = jax.nn.relu(x) if i < len(matrices) - 1 else x
        return x

    return apply, parameters


def jax_loss(outputs: Any, labels: Any) -> Any:
    """Sum of the cross-entropies."""
    import jax
    import jax.numpy as jnp

    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1).sum()


def jax_gradient(apply: Callable[[Arrays, Any], Any], parameters: Arrays, data: Batches) -> Callable[[], object]:
    """One gradient of the mean loss, as anybody would write it."""
    import jax
    import jax.numpy as jnp

    on_device = [(jnp.asarray(x), jnp.asarray(y)) for x, y in data]
    slope = jax.grad(lambda p, x, y: jax_loss(apply(p, x), y))
    step = jax.jit(lambda total, x, y: jax.tree.map(jnp.add, total, slope(parameters, x, y)))

    def gradient() -> object:
        total = jax.tree.map(jnp.zeros_like, parameters)
        for x, y in on_device:
            total = step(total, x, y)
        return jax.block_until_ready(total)

    return gradient


def keras_network(work: str) -> Any:
    """A ``keras.Sequential``; images have the channels last."""
    import keras

    kernels, matrices = weights(work)
    layers: list[Any] = [keras.layers.Input(SHAPES[work][1:] + SHAPES[work][:1])]
    for kernel in kernels:
        layers += [keras.layers.Conv2D(len(kernel), 3, padding="same", activation="relu"), keras.layers.MaxPooling2D()]
    layers += [keras.layers.Flatten()] if kernels else []
    layers += [keras.layers.Dense(rows, activation="relu") for rows, _ in MATRICES[work][:-1]]
    layers += [keras.layers.Dense(MATRICES[work][-1][0])]
    network = keras.Sequential(layers)
    values = [kernel.transpose(2, 3, 1, 0) for kernel in kernels] + [matrix.T for matrix in matrices]
    for variable, value in zip([v for v in network.trainable_variables if v.ndim > 1], values, strict=True):
        variable.assign(value)
    return network
