"""Random networks that nobody tuned to, written once for every framework, with their losses and data.

A network is a list of layers of random kinds and sizes: dense, with residuals, shared, gated, routed to experts, normalized,
with attention, recurrent over sequences of unequal lengths, or a raw parameter of three axes. A framework
supplies the few functions of :class:`Functions`; the reference is another interpretation of the same list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

Array = Any
CLASSES = 3
STEPS = 3


class Functions(Protocol):
    """What a framework supplies: its functions under the names of NumPy, and the network's parameters."""

    def linear(self, name: str, x: Array, /) -> Array: ...
    def parameter(self, name: str, /) -> Array: ...
    def activation(self, name: str, x: Array, /) -> Array: ...
    def softmax(self, x: Array, /) -> Array: ...
    def einsum(self, subscripts: str, *arrays: Array) -> Array: ...
    def largest(self, x: Array, /) -> Array: ...
    def mean(self, x: Array, /) -> Array: ...


class Layer(NamedTuple):
    """A layer of a kind, between so many units, with the name of its parameters and of its activation."""

    kind: str
    name: str
    inputs: int
    outputs: int
    activation: str


@dataclass
class Case:
    """A network with its loss and its data, which is drawn from a seed."""

    seed: int
    layers: list[Layer]
    loss: str
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    batch_size: int
    dtype: str
    raw: bool
    """Whether dense layers are bare parameters, and no layers of the framework."""
    probes: int
    parameters: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    @property
    def words(self) -> str:
        kinds = ", ".join(f"{layer.kind} {layer.activation}" for layer in self.layers)
        return f"seed {self.seed}: {kinds}; {self.loss}; {self.dtype}; {'raw' if self.raw else 'layers'}; {self.probes} probes"


PIECEWISE_LINEAR = ("relu", "relu6", "hardtanh", "leaky_relu", "abs", "identity")
SMOOTH = ("gelu", "tanh", "silu", "sigmoid")
HIDDEN = ("dense", "dense", "dense", "residual", "shared", "gated", "routed", "normalized", "attention", "three axes")
LOSSES = ("cross_entropy", "cross_entropy", "mse", "huber", "smoothed")


def case(seed: int) -> Case:
    """Draw a network of at most some 150 parameters."""
    random = np.random.default_rng(seed)
    steps = STEPS if random.random() < 0.15 else 0
    smooth = random.random() < 0.4
    sizes = [int(size) for size in random.integers(2, 6, random.integers(2, 4))]
    layers = _layers(random, sizes, steps, SMOOTH + PIECEWISE_LINEAR if smooth else PIECEWISE_LINEAR)
    loss = str(random.choice(LOSSES))
    x, y = _data(random, sizes[0], loss, steps)
    dtype = "float32" if random.random() < 0.15 else "float64"
    raw, probes = bool(random.random() < 0.3), int(random.choice([8, 64]))
    drawn = Case(seed, layers, loss, x, y, int(random.integers(3, 2 * len(x))), dtype, raw, probes)
    drawn.parameters = {
        name: random.normal(size=shape).astype(dtype) for layer in layers for name, shape in shapes(layer).items()
    }
    return drawn


def _layers(random: Any, sizes: list[int], steps: int, activations: tuple[str, ...]) -> list[Layer]:
    layers, inputs = [], sizes[0]
    for number, outputs in enumerate(sizes[1:]):
        kind = "recurrent" if steps and number == 0 else str(random.choice(HIDDEN))
        width = inputs if kind in ("residual", "shared", "attention", "normalized") else outputs
        layers.append(Layer(kind, f"layer{number}", inputs, width, str(random.choice(activations))))
        inputs = width
    return [*layers, Layer("dense", "last", inputs, CLASSES, "identity")]


def _data(random: Any, features: int, loss: str, steps: int) -> tuple[Any, Any]:
    """Examples in the order in which users have them: as drawn, sorted by a feature or by length, or repeated."""
    examples = int(random.choice([20, 60, 90, 400]))
    x = random.normal(size=(examples, features))
    order = random.choice(["as drawn", "sorted", "repeated", "with zeros"])
    if order == "sorted":
        x = x[np.argsort(x[:, 0])]
    elif order == "repeated":
        x[:33] = x[0]
    elif order == "with zeros":
        x *= random.random(x.shape) < 0.6
    if steps:
        lengths = np.sort(random.integers(1, steps + 1, examples))
        there = np.arange(steps)[None, :, None] < lengths[:, None, None]
        x = np.concatenate([random.normal(size=(examples, steps, features)) * there, there], axis=-1)
    y = random.normal(size=(examples, CLASSES)) if loss in ("mse", "huber") else random.integers(CLASSES, size=examples)
    return x, y


def shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    """The parameters of a layer: a matrix is (outputs, inputs)."""
    name, n, m = layer.name, layer.inputs, layer.outputs
    one = {f"{name}.weight": (m, n), f"{name}.bias": (m,)}
    match layer.kind:
        case "gated":
            return one | {f"{name}_gate.weight": (m, n), f"{name}_gate.bias": (m,)}
        case "routed":
            return {f"{name}_expert{k}.{part}": s for k in range(3) for part, s in (("weight", (m, n)), ("bias", (m,)))}
        case "normalized":
            return {f"{name}.gain": (n,), f"{name}.shift": (n,)}
        case "attention":
            return {f"{name}_{part}.weight": (2, 2) for part in ("query", "key", "value")} | {
                f"{name}_{part}.bias": (2,) for part in ("query", "key", "value")
            }
        case "three axes":
            return {f"{name}.tensor": (m, n, 2)}
        case "recurrent":
            return one | {f"{name}_again.weight": (m, m), f"{name}_again.bias": (m,)}
    return one


def forward(f: Functions, layers: list[Layer], x: Array) -> Array:
    """The network's outputs, one row per example."""
    for layer in layers:
        x = KINDS[layer.kind](f, layer, x)
    return x


def _dense(f: Functions, layer: Layer, x: Array) -> Array:
    return f.activation(layer.activation, f.linear(layer.name, x))


def _residual(f: Functions, layer: Layer, x: Array) -> Array:
    return x + _dense(f, layer, x)


def _shared(f: Functions, layer: Layer, x: Array) -> Array:
    return _dense(f, layer, _dense(f, layer, x))


def _gated(f: Functions, layer: Layer, x: Array) -> Array:
    return f.activation(layer.activation, f.linear(f"{layer.name}_gate", x)) * f.linear(layer.name, x)


def _routed(f: Functions, layer: Layer, x: Array) -> Array:
    """Each example goes to one of three experts, by its direction."""
    chosen = f.largest(f.einsum("nj,jk->nk", x, f.parameter(f"router{layer.inputs}")))
    experts = [f.activation(layer.activation, f.linear(f"{layer.name}_expert{k}", x)) for k in range(3)]
    return sum(chosen[:, k : k + 1] * expert for k, expert in enumerate(experts))


def _normalized(f: Functions, layer: Layer, x: Array) -> Array:
    centered = x - f.mean(x)
    unit = centered * (f.mean(centered * centered) + 0.1) ** -0.5
    return f.activation(layer.activation, unit * f.parameter(f"{layer.name}.gain") + f.parameter(f"{layer.name}.shift"))


def _attention(f: Functions, layer: Layer, x: Array) -> Array:
    """Two tokens of two features, made of the example's first features; added to it."""
    tokens = f.einsum("nj,jtd->ntd", x, f.parameter(f"tokens{layer.inputs}"))
    query, key, value = (f.linear(f"{layer.name}_{part}", tokens) for part in ("query", "key", "value"))
    attended = f.einsum("nst,ntd->nsd", f.softmax(f.einsum("nsd,ntd->nst", query, key)), value)
    return x + f.einsum("ntd,jtd->nj", attended, f.parameter(f"tokens{layer.inputs}"))


def _three_axes(f: Functions, layer: Layer, x: Array) -> Array:
    """The sum over pairs of maps, one of which is bent."""
    both = f.einsum("ijk,nj->nik", f.parameter(f"{layer.name}.tensor"), x)
    return both[:, :, 0] + f.activation(layer.activation, both[:, :, 1])


def _recurrent(f: Functions, layer: Layer, x: Array) -> Array:
    """The last channel says which steps an example has."""
    state: Any = 0.0
    for step in range(STEPS):
        there, new = x[:, step, -1:], f.linear(layer.name, x[:, step, :-1])
        if step:
            new = new + f.linear(f"{layer.name}_again", state)
        state = there * f.activation(layer.activation, new) + (1 - there) * state
    return state


KINDS: dict[str, Callable[[Functions, Layer, Array], Array]] = {
    "dense": _dense,
    "residual": _residual,
    "shared": _shared,
    "gated": _gated,
    "routed": _routed,
    "normalized": _normalized,
    "attention": _attention,
    "three axes": _three_axes,
    "recurrent": _recurrent,
}


def constants() -> dict[str, np.ndarray[Any, Any]]:
    """What is no parameter: a router for other numbers of features than experts, and how features become tokens."""
    random = np.random.default_rng(0)
    return {f"tokens{n}": random.normal(size=(n, 2, 2)) for n in range(2, 6)} | {
        f"router{n}": random.normal(size=(n, 3)) for n in range(2, 6)
    }
