"""The random networks of ``attack_networks`` in PyTorch, JAX, TensorFlow and NumPy, as oracles; and their dense Hessians.

The reference is PyTorch's own second derivative of the loss over all examples at once, in float64, of a cross-entropy in which nothing
cancels; it shares no line with the library, and nothing but the list of layers with the other frameworks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from attack_networks import CLASSES, Case, Layer, constants, forward
from torch import nn

import invariant_sharpness as ish

Array = Any


class Truth(NamedTuple):
    """The loss, and its Hessian by parameters."""

    loss: float
    hessian: np.ndarray[Any, Any]
    places: dict[str, slice]


class TorchFunctions:
    """Functions of tensors, with parameters by name."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.parameters = parameters

    def parameter(self, name: str) -> Any:
        return self.parameters[name]

    def linear(self, name: str, x: Any) -> Any:
        return x @ self.parameters[f"{name}.weight"].T + self.parameters[f"{name}.bias"]

    def activation(self, name: str, x: Any) -> Any:
        plain = {"identity": lambda z: z, "abs": torch.abs, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
        return plain[name](x) if name in plain else getattr(nn.functional, name)(x)

    def softmax(self, x: Any) -> Any:
        return torch.softmax(x, -1)

    def einsum(self, subscripts: str, *arrays: Any) -> Any:
        return torch.einsum(subscripts, *arrays)

    def largest(self, x: Any) -> Any:
        return nn.functional.one_hot(x.argmax(-1), x.shape[-1]).to(x.dtype)

    def mean(self, x: Any) -> Any:
        return x.mean(-1, keepdim=True)


def truth(case: Case, dtype: torch.dtype = torch.float64) -> Truth:
    """Differentiate the mean loss over all examples twice, densely."""
    arrays = {k: torch.as_tensor(v, dtype=dtype) for k, v in case.parameters.items()}
    fixed = {k: torch.as_tensor(v, dtype=dtype) for k, v in constants().items()}
    x, y = torch.as_tensor(case.x, dtype=dtype), torch.as_tensor(case.y)
    ends = np.cumsum([array.numel() for array in arrays.values()])
    places = {k: slice(int(end) - v.numel(), int(end)) for (k, v), end in zip(arrays.items(), ends, strict=True)}

    def mean_loss(flat: Any) -> Any:
        tree = {k: flat[places[k]].reshape(v.shape) for k, v in arrays.items()}
        return reference_losses(case.loss)(forward(TorchFunctions(tree | fixed), case.layers, x), y).mean()

    flat = torch.cat([array.ravel() for array in arrays.values()])
    return Truth(float(mean_loss(flat)), torch.func.hessian(mean_loss)(flat).numpy(), places)


def reference_losses(name: str) -> Callable[[Any, Any], Any]:
    """The same losses as functions whose derivatives have all their digits."""
    ones = {"cross_entropy": 1.0, "smoothed": 0.9}
    if name not in ones:
        return torch_losses(name)
    share = ones[name]

    def masses(z: Any, y: Any) -> Any:
        return share * nn.functional.one_hot(y, CLASSES).to(z.dtype) + (1 - share) / CLASSES

    return lambda z, y: -(masses(z, y) * log_probabilities(z)).sum(-1)


def log_probabilities(z: Any) -> Any:
    """The logarithm of the softmax, in differences to the largest output.

    The derivatives of torch's own are differences 1 - p, which have few digits where the network is sure: with 1 - p = 1e-10, an
    entry of the Hessian is off by 1e-6. Here 1 - p is the sum of the other probabilities.
    """
    first = nn.functional.one_hot(z.argmax(-1), CLASSES).bool()
    zeros = torch.zeros_like(z)
    below = torch.where(first, zeros, z - torch.where(first, z, zeros).sum(-1, keepdim=True))
    return below - torch.where(first, zeros, below.exp()).sum(-1, keepdim=True).log1p()


def torch_losses(name: str) -> Callable[[Any, Any], Any]:
    """One loss per example."""
    per_example: dict[str, Callable[[Any, Any], Any]] = {
        "cross_entropy": lambda z, y: nn.functional.cross_entropy(z, y, reduction="none"),
        "mse": lambda z, y: ((z - y) ** 2).mean(-1),
        "huber": lambda z, y: nn.functional.huber_loss(z, y.to(z.dtype), reduction="none").sum(-1),
        "smoothed": lambda z, y: nn.functional.cross_entropy(z, y, reduction="none", label_smoothing=0.1),
    }
    return per_example[name]


class TorchNetwork(TorchFunctions, nn.Module):
    """Dense layers are ``nn.Linear``, unless all parameters are to be raw."""

    def __init__(self, case: Case) -> None:
        nn.Module.__init__(self)
        self.layers, self.names = case.layers, {}
        for name, array in case.parameters.items():
            owner, _, part = name.rpartition(".")
            tensor = nn.Parameter(torch.tensor(array))
            if case.raw or part not in ("weight", "bias"):
                self.names[name.replace(".", "_")] = name
                self.register_parameter(name.replace(".", "_"), tensor)
                continue
            if part == "weight":
                self.add_module(owner, nn.Linear(array.shape[1], array.shape[0], dtype=tensor.dtype))
            setattr(self.get_submodule(owner), part, tensor)
            self.names[name] = name
        for name, array in constants().items():
            self.register_buffer(name, torch.tensor(array.astype(case.dtype)))

    def parameter(self, name: str) -> Any:
        return getattr(self, name.replace(".", "_"))

    def linear(self, name: str, x: Any) -> Any:
        if name in self._modules:
            return self._modules[name](x)
        return x @ self.parameter(f"{name}.weight").T + self.parameter(f"{name}.bias")

    def forward(self, x: Any) -> Any:
        return forward(self, self.layers, x)


def torch_oracle(case: Case) -> tuple[Any, dict[str, str]]:
    """The oracle; and for each of its groups the name of the parameter."""
    network = TorchNetwork(case)
    named = {
        "cross_entropy": "cross_entropy",
        "mse": nn.MSELoss(),
        "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    }
    loss = named.get(case.loss, torch_losses(case.loss))
    targets = case.y.astype(case.dtype) if case.y.dtype.kind == "f" else case.y
    oracle = ish.oracle(network, (case.x.astype(case.dtype), targets), loss=loss, batch_size=case.batch_size)
    return oracle, network.names


def jax_oracle(case: Case) -> tuple[Any, dict[str, str]]:
    import jax
    import jax.numpy as jnp

    class JaxFunctions(TorchFunctions):
        def activation(self, name: str, x: Any) -> Any:
            plain = {
                "identity": lambda z: z,
                "abs": jnp.abs,
                "tanh": jnp.tanh,
                "hardtanh": lambda z: jnp.clip(z, -1, 1),
                "gelu": lambda z: jax.nn.gelu(z, approximate=False),
            }
            return plain[name](x) if name in plain else getattr(jax.nn, name)(x)

        def softmax(self, x: Any) -> Any:
            return jax.nn.softmax(x)

        def einsum(self, subscripts: str, *arrays: Any) -> Any:
            return jnp.einsum(subscripts, *arrays)

        def largest(self, x: Any) -> Any:
            return jax.nn.one_hot(jnp.argmax(x, -1), x.shape[-1], dtype=x.dtype)

        def mean(self, x: Any) -> Any:
            return x.mean(-1, keepdims=True)

    fixed = {k: jnp.asarray(v.astype(case.dtype)) for k, v in constants().items()}
    parameters = {k: jnp.asarray(v) for k, v in case.parameters.items()}

    def huber(z: Any, y: Any) -> Any:
        return jnp.where(jnp.abs(z - y) < 1, 0.5 * (z - y) ** 2, jnp.abs(z - y) - 0.5).sum(-1)

    def smoothed(z: Any, y: Any) -> Any:
        wanted = 0.9 * jax.nn.one_hot(y, CLASSES) + 0.1 / CLASSES
        return -(wanted * jax.nn.log_softmax(z)).sum(-1)

    losses = {"huber": huber, "smoothed": smoothed, "mse": lambda z, y: ((z - y) ** 2).mean(-1)}
    oracle = ish.oracle(
        lambda tree, x: forward(JaxFunctions({**tree, **fixed}), case.layers, x),
        (case.x.astype(case.dtype), case.y),
        parameters=parameters,
        loss=losses.get(case.loss, case.loss),
        batch_size=case.batch_size,
    )
    return oracle, {name: name for name in case.parameters}


def tensorflow_oracle(case: Case) -> tuple[Any, dict[str, str]]:
    import tensorflow as tf

    class TensorFlowNetwork(TorchFunctions, tf.Module):
        def __init__(self) -> None:
            tf.Module.__init__(self)
            self.trained = [tf.Variable(v, name=k.replace(".", "_")) for k, v in case.parameters.items()]
            self.fixed = {k: tf.constant(v.astype(case.dtype)) for k, v in constants().items()}

        def parameter(self, name: str) -> Any:
            return self.fixed[name] if name in self.fixed else self.trained[list(case.parameters).index(name)]

        def linear(self, name: str, x: Any) -> Any:
            return tf.einsum("...j,kj->...k", x, self.parameter(f"{name}.weight")) + self.parameter(f"{name}.bias")

        def activation(self, name: str, x: Any) -> Any:
            plain = {
                "identity": lambda z: z,
                "abs": tf.abs,
                "tanh": tf.tanh,
                "sigmoid": tf.sigmoid,
                "hardtanh": lambda z: tf.clip_by_value(z, -1.0, 1.0),
                # tf.nn has the slope and the root of 2 in single precision, whatever the argument has.
                "leaky_relu": lambda z: tf.maximum(z, 0.01 * z),
                "gelu": lambda z: z * (1 + tf.math.erf(z / np.sqrt(2))) / 2,
            }
            return plain[name](x) if name in plain else getattr(tf.nn, name)(x)

        def softmax(self, x: Any) -> Any:
            return tf.nn.softmax(x)

        def einsum(self, subscripts: str, *arrays: Any) -> Any:
            return tf.einsum(subscripts, *arrays)

        def largest(self, x: Any) -> Any:
            return tf.one_hot(tf.argmax(x, -1), x.shape[-1], dtype=x.dtype)

        def mean(self, x: Any) -> Any:
            return tf.reduce_mean(x, -1, keepdims=True)

        def __call__(self, x: Any) -> Any:
            return forward(self, case.layers, x)

    def huber(z: Any, y: Any) -> Any:
        return tf.reduce_sum(tf.where(tf.abs(z - y) < 1, 0.5 * (z - y) ** 2, tf.abs(z - y) - 0.5), -1)

    def smoothed(z: Any, y: Any) -> Any:
        wanted = 0.9 * tf.one_hot(y, CLASSES, dtype=z.dtype) + 0.1 / CLASSES
        return -tf.reduce_sum(wanted * tf.nn.log_softmax(z), -1)

    losses = {"huber": huber, "smoothed": smoothed, "mse": lambda z, y: tf.reduce_mean((z - y) ** 2, -1)}
    targets = case.y.astype(case.dtype) if case.y.dtype.kind == "f" else case.y
    network = TensorFlowNetwork()
    oracle = ish.oracle(
        network,
        (case.x.astype(case.dtype), targets),
        loss=losses.get(case.loss, case.loss),
        batch_size=case.batch_size,
    )
    return oracle, {group.name: _named(group.name, case) for group in oracle.groups}


def _named(group: str, case: Case) -> str:
    return next(name for name in case.parameters if name.replace(".", "_") in group.replace(":0", ""))


def relu_case(case: Case) -> Case:
    """The same sizes as a plain ReLU network, which the NumPy backend has."""
    sizes = [layer.inputs for layer in case.layers] + [CLASSES]
    random = np.random.default_rng(case.seed)
    layers = [
        Layer("dense", f"layers.{k}", n, m, "identity" if k == len(sizes) - 2 else "relu")
        for k, (n, m) in enumerate(pairwise(sizes))
    ]
    parameters = {}
    for k, layer in enumerate(layers):
        parameters[f"layers.{k}.weight"] = random.normal(size=(layer.outputs, layer.inputs))
        parameters[f"layers.{k}.bias"] = random.normal(size=layer.outputs)
    loss = "mse" if case.loss in ("mse", "huber") else "cross_entropy"
    x = case.x if case.x.ndim == 2 else case.x[:, 0, :-1]
    return replace(case, layers=layers, parameters=parameters, dtype="float64", loss=loss, x=x)


def numpy_oracle(case: Case) -> tuple[Any, dict[str, str]]:
    from invariant_sharpness_numpy import ReluNetwork

    weights = tuple(v for k, v in case.parameters.items() if k.endswith("weight"))
    biases = tuple(v for k, v in case.parameters.items() if k.endswith("bias"))
    oracle = ish.oracle(ReluNetwork(weights, biases), (case.x, case.y), loss=case.loss, batch_size=case.batch_size)
    return oracle, {name: name for name in case.parameters}


ORACLES = {"torch": torch_oracle, "jax": jax_oracle, "tensorflow": tensorflow_oracle, "numpy": numpy_oracle}
