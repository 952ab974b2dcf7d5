"""Networks of the zoo on JAX: built of Flax NNX, and trained until the training loss is small.

They are those of ``zoo_torch``, from initial weights of the same distribution. Two things differ: the random numbers, and the running variance of
batch normalization, in which PyTorch corrects for the size of the batch and Flax does not. The measures are shown weights in PyTorch's order and
layout, so that equal weights have equal measures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from zoo_data import CLASSES, Images
from zoo_grid import Setting
from zoo_network import MOST_EPOCHS, SMALL_LOSS, UNITS_PER_CHANNEL, Array, Noise, Trained

import invariant_sharpness as ish
from invariant_sharpness_jax import from_nnx

Layer = Callable[[jax.Array], jax.Array]


def train(
    setting: Setting, images: Images, *, small_loss: float = SMALL_LOSS, most_epochs: int = MOST_EPOCHS
) -> Trained:
    """Train one network, on a GPU if there is one; the same setting gives the same weights, bit by bit, on one kind of machine.

    Training stops where the mean cross-entropy of the training set is at most ``small_loss``, and after ``most_epochs``.
    """
    network = build(setting, images.x.shape[1:])
    x, y = jnp.asarray(images.x), jnp.asarray(images.y)
    initial = weights(network)
    optimizer = nnx.Optimizer(network, update_rule(setting), wrt=nnx.Param)
    order = np.random.default_rng([setting.seed, 2])
    epochs, loss = 0, float("inf")
    while loss > small_loss and epochs < most_epochs and not np.isnan(loss):
        network.train()
        _epoch(network, optimizer, x, y, _batches(order.permutation(len(y)), setting.batch_size))
        network.eval()
        epochs, loss = epochs + 1, float(_loss(network, x, y))
    return as_trained(network, setting, (x, y), initial, epochs, loss)


def as_trained(
    network: nnx.Module,
    setting: Setting,
    data: tuple[jax.Array, jax.Array],
    initial: list[Array],
    epochs: int,
    loss: float,
) -> Trained:
    """What the measures see of a network in evaluation mode, which was trained on these images and labels.

    The oracle has a function of the parameters; running means and variances are constants in it.
    """
    apply, parameters = from_nnx(network)
    x, _ = data
    return Trained(
        oracle=lambda loss: ish.oracle(apply, data, loss=loss, parameters=parameters),
        initial=initial,
        weights=weights(network),
        outputs=lambda inputs: _outputs(network, inputs),
        perturbed_outputs=lambda noise: _outputs(_perturbed(network, noise), x),
        squared_outputs=None if setting.norm else lambda: _outputs(_squared(network), jnp.ones_like(x[:1])),
        parameter_count=sum(parameter.size for parameter in parameters_in_order(network)),
        epochs=epochs,
        loss=loss,
    )


def build(setting: Setting, shape: tuple[int, ...]) -> nnx.Module:
    """Build a network for images of a shape, channels first; within, they are last."""
    if setting.architecture not in ARCHITECTURES:
        sys.exit(f"there is no {setting.architecture} on JAX, only {', '.join(ARCHITECTURES)}: take --framework torch")
    layers = ARCHITECTURES[setting.architecture](setting, shape, nnx.Rngs(setting.seed))
    return nnx.Sequential(*layers)


def _mlp(setting: Setting, shape: tuple[int, ...], rngs: nnx.Rngs) -> Iterator[Layer]:
    yield _flatten
    yield from _dense_layers(int(np.prod(shape)), setting.width, setting, rngs)


def _dense_layers(inputs: int, units: int, setting: Setting, rngs: nnx.Rngs) -> Iterator[Layer]:
    for _ in range(setting.depth):
        yield _dense(inputs, units, rngs)
        yield from _norm(setting, units, rngs)
        yield nnx.relu
        inputs = units
    yield _dense(inputs, CLASSES, rngs)


def _lenet(setting: Setting, shape: tuple[int, ...], rngs: nnx.Rngs) -> Iterator[Layer]:
    yield _channels_last
    channels, width = shape[0], setting.width
    for outputs in (width, 2 * width):
        yield _convolution(channels, outputs, 5, rngs)
        yield from _norm(setting, outputs, rngs)
        yield nnx.relu
        yield _max_pool
        channels = outputs
    yield _channels_first
    yield _flatten
    yield from _dense_layers(2 * width * (shape[1] // 4) * (shape[2] // 4), UNITS_PER_CHANNEL * width, setting, rngs)


def _resnet(setting: Setting, shape: tuple[int, ...], rngs: nnx.Rngs) -> Iterator[Layer]:
    yield _channels_last
    yield _convolution(shape[0], setting.width, 3, rngs)
    yield nnx.relu
    for _ in range(setting.depth):
        yield Block(setting, rngs)
        yield _max_pool
    yield partial(jnp.mean, axis=(1, 2))
    yield _dense(setting.width, CLASSES, rngs)


class Block(nnx.Module):
    """Two convolutions beside the identity."""

    def __init__(self, setting: Setting, rngs: nnx.Rngs) -> None:
        width = setting.width
        first, second = (_convolution(width, width, 3, rngs) for _ in range(2))
        norms = [list(_norm(setting, width, rngs)) for _ in range(2)]
        self.branch = nnx.Sequential(first, *norms[0], nnx.relu, second, *norms[1])

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(x + self.branch(x))


ARCHITECTURES = {"mlp": _mlp, "lenet": _lenet, "resnet": _resnet}


def _dense(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    initial = _uniform(inputs)
    return nnx.Linear(inputs, outputs, kernel_init=initial, bias_init=initial, rngs=rngs)


def _convolution(inputs: int, outputs: int, size: int, rngs: nnx.Rngs) -> nnx.Conv:
    initial = _uniform(inputs * size**2)
    return nnx.Conv(inputs, outputs, (size, size), kernel_init=initial, bias_init=initial, rngs=rngs)


def _uniform(fan_in: int) -> jax.nn.initializers.Initializer:
    """Draw between ``-1 / sqrt(fan_in)`` and ``1 / sqrt(fan_in)``, as PyTorch does: Flax's own weights are larger, and would ask for other learning rates."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def _norm(setting: Setting, channels: int, rngs: nnx.Rngs) -> Iterator[Layer]:
    if setting.norm:
        yield nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, rngs=rngs)


def _flatten(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1)


def _channels_last(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x, 1, -1)


def _channels_first(x: jax.Array) -> jax.Array:
    return jnp.moveaxis(x, -1, 1)


def _max_pool(x: jax.Array) -> jax.Array:
    return nnx.max_pool(x, (2, 2), (2, 2))


def update_rule(setting: Setting) -> optax.GradientTransformation:
    """Momentum or Adam with weight decay as ``torch.optim.SGD`` and ``torch.optim.AdamW`` have it: in the gradient, and beside it."""
    if setting.optimizer == "adam":
        return optax.adamw(setting.learning_rate, weight_decay=setting.weight_decay)
    return optax.chain(optax.add_decayed_weights(setting.weight_decay), optax.sgd(setting.learning_rate, momentum=0.9))


def _batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _epoch(
    network: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array, batches: list[np.ndarray]
) -> None:
    for batch in batches:
        _step(network, optimizer, x, y, batch)


@nnx.jit
def _step(network: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array, batch: jax.Array) -> None:
    optimizer.update(network, nnx.grad(_loss)(network, x[batch], y[batch]))


@nnx.jit
def _loss(network: nnx.Module, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(network(x), y).mean()


@nnx.jit
def _logits(network: nnx.Module, x: jax.Array) -> jax.Array:
    return network(x)


def _outputs(network: nnx.Module, x: jax.Array) -> Array:
    parts = (x[start : start + 1_000] for start in range(0, len(x), 1_000))
    return np.concatenate([np.asarray(_logits(network, part), dtype=np.float64) for part in parts])


def parameters_in_order(network: nnx.Module) -> Iterator[nnx.Param]:
    """The parameters layer by layer, weights before biases, as PyTorch orders them."""
    for _, layer in nnx.iter_modules(network):
        if isinstance(layer, nnx.Linear | nnx.Conv):
            yield from (layer.kernel, layer.bias)
        elif isinstance(layer, nnx.BatchNorm):
            yield from (layer.scale, layer.bias)


def weights(network: nnx.Module) -> list[Array]:
    """Weights of dense layers and convolutions, ``(outputs, inputs, ...)``."""
    kernels = (parameter for parameter in parameters_in_order(network) if parameter.ndim > 1)
    return [outputs_first(np.array(kernel[...], dtype=np.float64)) for kernel in kernels]


def outputs_first(array: np.ndarray) -> np.ndarray:
    """``(..., inputs, outputs)`` as ``(outputs, inputs, ...)``; arrays of one axis stay as they are."""
    return np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 1 else array


def outputs_last(array: np.ndarray) -> np.ndarray:
    """``(outputs, inputs, ...)`` as ``(..., inputs, outputs)``; arrays of one axis stay as they are."""
    return np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array


def _perturbed(network: nnx.Module, noise: Noise) -> nnx.Module:
    """A copy with ``noise(number, shape)`` added to each parameter, in PyTorch's order and shapes."""
    copy = nnx.clone(network)
    for number, parameter in enumerate(parameters_in_order(copy)):
        shape = outputs_first(np.empty(parameter.shape)).shape
        parameter[...] += outputs_last(noise(number, shape)).astype(parameter.dtype)
    return copy


def _squared(network: nnx.Module) -> nnx.Module:
    """A copy with every parameter squared."""
    copy = nnx.clone(network)
    for parameter in parameters_in_order(copy):
        parameter[...] **= 2
    return copy
