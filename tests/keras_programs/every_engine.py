"""What holds on every engine. Each function returns numbers and words that a test looks at."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras_problems import convolutional, inputs, labels, perceptron, relu_network, same, state

import invariant_sharpness as ish
from invariant_sharpness.symmetries import chain_rescalings, unit_count
from invariant_sharpness_keras import backend
from invariant_sharpness_keras.groups import parameter_groups


def metrics_of_the_reference() -> dict[str, Any]:
    """Every metric on Keras, and on the NumPy backend."""
    found = {}
    network, data = relu_network(), (inputs(), labels())
    for loss in ("cross_entropy", "normalized_cross_entropy"):
        mine = ish.measure(backend.oracle(perceptron(network), data, loss=loss, batch_size=4), list(ish.METRICS))
        reference = ish.measure(ish.oracle(network, data, loss), list(ish.METRICS))
        found |= {f"{loss}: {name}": [mine[name].value, reference[name].value] for name in ish.METRICS}
        found[f"{loss}: loss"] = [mine.loss, reference.loss]
    return found


def squared_error() -> list[float]:
    data = (inputs(), inputs(11, 3))
    network = relu_network()
    mine = ish.hessian_trace(backend.oracle(perceptron(network), data, loss="mse", batch_size=4))
    return [mine.value, ish.hessian_trace(ish.oracle(network, data, "mse")).value]


def callable_loss() -> dict[str, list[float]]:
    """A callable that is the cross-entropy has the values of the name."""

    def loss(outputs: Any, targets: Any) -> Any:
        hot = keras.ops.cast(targets[:, None] == keras.ops.arange(3, dtype=targets.dtype)[None], outputs.dtype)
        return keras.ops.logsumexp(outputs, axis=1) - keras.ops.sum(outputs * hot, axis=1)

    data = (inputs(), labels())
    model = perceptron()
    named, called = (backend.oracle(model, data, loss=form) for form in ("cross_entropy", loss))
    point = named.parameters
    return {
        "loss": [called.loss(point), named.loss(point)],
        "trace": [ish.hessian_trace(called).value, ish.hessian_trace(named).value],
        "fisher_rao": [ish.fisher_rao_norm(called).value, ish.fisher_rao_norm(named).value],
        "slopes": [oracle.directional_second_moment(point, point) for oracle in (called, named)],
    }


def rescaling_by_powers_of_two() -> dict[str, dict[str, list[float]]]:
    """Loss and normalized metrics, before and after."""
    found = {}
    for kind, model, x in (("dense", perceptron(), inputs()), ("conv", chain(), inputs(6, 4, 4, 2))):
        oracle = backend.oracle(model, (x, labels(len(x))), loss="cross_entropy")
        moved = oracle.parameters
        for rescaling in chain_rescalings(oracle.groups):
            units = unit_count(oracle.groups, rescaling)
            moved = rescaling.apply(oracle, moved, 2.0 ** (np.arange(units) % 7 - 3))
        other = ish.Moved(oracle, moved)
        found[kind] = {"loss": [oracle.loss(oracle.parameters), other.loss(other.parameters)]}
        for metric in (ish.normalized_sharpness, ish.parameter_normalized_sharpness, ish.fisher_rao_norm):
            found[kind][metric.__name__] = [metric(oracle).value, metric(other).value]
    return found


def chain() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.Conv2D(4, 2, activation="relu", bias_initializer="random_normal"),
            layers.Conv2D(4, 2, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3),
        ]
    )


def verdicts() -> dict[str, dict[str, str]]:
    """How the certificate judges each variable."""
    found = {}
    problems = {
        "relu": (perceptron(), inputs()),
        "gelu": (perceptron(activation="gelu"), inputs()),
    }
    for kind, (model, x) in problems.items():
        oracle = backend.oracle(model, (x, labels(len(x))), loss="cross_entropy")
        diagonal = ish.hessian_diagonal(oracle, probes=4)
        found[kind] = {name: part.method for name, part in diagonal.groups.items()}
    return found


def diagonal_of_the_convolutional_network() -> dict[str, list[float]]:
    """The exact diagonal, and the same entries from columns of products: the worst difference and the scale."""
    x = inputs(5, 8, 8, 2)
    oracle = backend.oracle(convolutional(), (x, labels(5)), loss="cross_entropy", batch_size=3)
    exact = ish.hessian_diagonal(oracle)
    found = {"exact": [part.method == "exact" for part in exact.groups.values()]}
    for name, part in exact.groups.items():
        entry = np.unravel_index(int(np.abs(part.values).argmax()), part.values.shape)
        unit = {g.name: np.zeros(g.shape) for g in oracle.groups}
        unit[name][entry] = 1
        column = oracle.hessian_vector_product(oracle.parameters, oracle.from_numpy(unit))
        found[name] = [float(part.values[entry]), float(column[name][entry])]
    return found


def derivative_by_differences() -> list[float]:
    """The slope of the loss along a direction, of a smooth network, and the same from central differences."""
    oracle = backend.oracle(perceptron(activation="tanh"), (inputs(), labels()), loss="cross_entropy")
    point, step = oracle.parameters, 2.0**-8
    difference = (oracle.loss((1 + step) * point) - oracle.loss((1 - step) * point)) / (2 * step)
    return [oracle.gradient(point).dot(point), difference]


def attention() -> dict[str, Any]:
    """Groups of an attention layer, and symmetry of its products."""
    x = keras.Input((4, 6))
    y = layers.MultiHeadAttention(2, 3)(x, x)
    y = layers.LayerNormalization()(y)
    model = keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(y)))
    oracle = backend.oracle(model, (inputs(5, 4, 6), labels(5)), loss="cross_entropy")
    u, v = (oracle.from_numpy({g.name: inputs(*g.shape) + k for g in oracle.groups}) for k in (0, 1))
    along_u, along_v = (oracle.hessian_vector_product(oracle.parameters, w) for w in (u, v))
    groups = {g.name.split("/", 1)[1]: [g.role, g.output_axes, g.input_axes] for g in oracle.groups}
    return {"groups": groups, "symmetry": [u.dot(along_v), v.dot(along_u)]}


def roles() -> dict[str, list[Any]]:
    """Role, axes, channel groups, divided side and owner of every variable of many layers."""
    image = keras.Input((8, 8, 4))
    tokens = keras.Input((6,), dtype="int32")
    y = layers.Conv2D(6, 3, groups=2, name="grouped")(image)
    y = layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise")(y)
    y = layers.SeparableConv2D(5, 2, name="separable")(y)
    y = layers.Conv2DTranspose(3, 2, name="transposed")(y)
    y = layers.GroupNormalization(1, name="norm")(y)
    z = layers.LSTM(2, name="recurrent")(layers.Embedding(7, 3, name="table")(tokens))
    y = layers.Concatenate()([layers.GlobalAveragePooling2D()(y), z])
    model = keras.Model([image, tokens], layers.Dense(3, name="dense")(y))
    return {
        g.name: [g.role, g.output_axes, g.input_axes, g.channel_groups, g.divided_axes, g.owner]
        for g in parameter_groups(model, model.trainable_variables)
    }


def given_groups() -> list[str]:
    """Roles that a user gives; the error for a name that is not there."""
    model, data = perceptron(), (inputs(), labels())
    given = ish.ParameterGroup("perceptron/last/kernel", (6, 3))
    oracle = backend.oracle(model, data, loss="cross_entropy", groups=[given])
    try:
        backend.oracle(model, data, loss="cross_entropy", groups=[ish.ParameterGroup("other", (6, 3))])
    except ish.InvariantSharpnessError as error:
        return [oracle.groups[4].role, f"{type(error).__name__}: {error}"]
    return [oracle.groups[4].role, "nothing was raised"]


def untouched() -> dict[str, bool]:
    """Whether all variables and random states are what they were."""
    model = convolutional()
    before = state(model)
    oracle = backend.oracle(model, (inputs(6, 8, 8, 2), labels(6)), loss="cross_entropy")
    ish.measure(oracle, ["hessian_trace", "hessian_spectral_norm", "fisher_rao_norm"])
    found = {"measured": same(before, state(model))}
    oracle = backend.oracle(model, Breaking(), loss="cross_entropy")
    for error in (ZeroDivisionError, KeyboardInterrupt):
        Breaking.error = error
        try:
            oracle.gradient(2.0 * oracle.parameters)
        except error:
            found[error.__name__] = same(before, state(model))
    return found


class Breaking:
    """Batches that are read from the user's random state, and of which the second raises, if it is told to."""

    error: type[BaseException] | None = None

    def __iter__(self) -> Any:
        for index in range(2):
            if index and Breaking.error is not None:
                raise Breaking.error
            yield inputs(3, 8, 8, 2) + np.random.random() * 0, labels(3)  # noqa: NPY002 - draws from the user's state


class Pieces(keras.utils.PyDataset):
    """The data of the other tests, in batches of four; or the other way round."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        rows = slice(4 * index, 4 * index + 4)
        return inputs()[rows], labels()[rows]


def forms_of_data() -> dict[str, float]:
    """One loss for all of them."""
    x, y = inputs(), labels()
    forms = {
        "arrays": (x, y),
        "list": [(x[:4], y[:4]), (x[4:], y[4:])],
        "tensors": [(keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y))],
        "PyDataset": Pieces(),
        "bytes": (x, y.astype("uint8")),
    }
    oracles = {kind: backend.oracle(perceptron(), data, loss="cross_entropy") for kind, data in forms.items()}
    return {kind: oracle.loss(oracle.parameters) for kind, oracle in oracles.items()}


def two_inputs() -> list[list[float]]:
    """Loss and trace with inputs in a dictionary and in a tuple; the loss of constant outputs is ln 3."""
    a, b = keras.Input((5,), name="a"), keras.Input((2,), name="b")
    outputs = layers.Dense(3, kernel_initializer="zeros")(layers.Concatenate()([a, b]))
    cases = (
        (keras.Model({"a": a, "b": b}, outputs), {"a": inputs(), "b": inputs(11, 2), "labels": labels()}),
        (keras.Model([a, b], outputs), ((inputs(), inputs(11, 2)), labels())),
    )
    oracles = [backend.oracle(model, data, loss="cross_entropy") for model, data in cases]
    return [[oracle.loss(oracle.parameters), ish.hessian_trace(oracle).value] for oracle in oracles]


def frozen() -> list[str]:
    """Names of the groups where a layer is frozen."""
    model = perceptron()
    model.layers[1].trainable = False
    oracle = backend.oracle(model, (inputs(), labels()), loss="cross_entropy")
    ish.hessian_trace(oracle)
    return [group.name.split("/", 1)[1] for group in oracle.groups]


class Noisy(Pieces):
    """Random augmentation."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x + np.random.normal(size=x.shape), y  # noqa: NPY002


class Dropping(keras.Model):
    """Dropout that is never switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.dense = layers.Dropout(0.5, seed=0), layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(self.dropout(x, training=True))


def errors() -> dict[str, str]:
    """Type and words of the error for everything that can be wrong."""
    x, y = inputs(), labels()
    spoiled = x.copy()
    spoiled[4, 2] = np.nan
    softmax = keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="softmax")])
    mixed = keras.Sequential([keras.Input((5,)), layers.Dense(3, dtype="mixed_bfloat16")])
    half = keras.Sequential([keras.Input((5,)), layers.Dense(3, dtype="bfloat16")])
    infinite = perceptron()
    infinite.layers[0].kernel.assign(np.full((5, 7), np.inf))
    still = perceptron()
    still.trainable = False
    z = keras.Input((5,))
    dropping = Dropping()
    dropping(x)
    two = keras.Model(z, [layers.Dense(3)(z), layers.Dense(3)(z)])
    cases: dict[str, tuple[Any, Any, Any]] = {
        "empty list": (perceptron(), [], "cross_entropy"),
        "empty batch": (perceptron(), [(x, y), (x[:0], y[:0])], "cross_entropy"),
        "generator": (perceptron(), iter([(x, y)]), "cross_entropy"),
        "sample weights": (perceptron(), [(x, y, y)], "cross_entropy"),
        "no labels": (perceptron(), {"x": x}, "cross_entropy"),
        "rows": (perceptron(), [(x, y[:7])], "cross_entropy"),
        "NaN input": (perceptron(), [(x, y), (spoiled, y)], "cross_entropy"),
        "label": (perceptron(), [(x, y), (x, y + 1)], "cross_entropy"),
        "one-hot": (perceptron(), (x, np.eye(3, dtype=int)[y]), "cross_entropy"),
        "features": (perceptron(), (x[:, :4], y), "cross_entropy"),
        "augmentation": (perceptron(), Noisy(), "cross_entropy"),
        "unknown loss": (perceptron(), (x, y), "hinge"),
        "mean loss": (perceptron(), (x, y), lambda outputs, _: keras.ops.mean(outputs)),
        "swapped": (perceptron(), (x, y), keras.losses.mean_squared_error),
        "from probabilities": (perceptron(), (x, y), keras.losses.SparseCategoricalCrossentropy()),
        "Keras loss": (perceptron(), (x, y), keras.losses.Huber()),
        "softmax": (softmax, (x, y), "cross_entropy"),
        "infinite weight": (infinite, (x, y), "cross_entropy"),
        "frozen": (still, (x, y), "cross_entropy"),
        "unbuilt": (keras.Sequential([layers.Dense(3)]), (x, y), "cross_entropy"),
        "mixed precision": (mixed, (x, y), "cross_entropy"),
        "half precision": (half, (x, y), "cross_entropy"),
        "dropout in inference": (dropping, (x, y), "cross_entropy"),
        "two outputs": (two, (x, y), "cross_entropy"),
    }
    return {what: failure(*case) for what, case in cases.items()}


def failure(model: Any, data: Any, loss: Any) -> str:
    try:
        backend.oracle(model, data, loss=loss)
    except ish.InvariantSharpnessError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def example_with_an_infinite_loss() -> str:
    def loss(outputs: Any, targets: Any) -> Any:
        return keras.ops.where(keras.ops.equal(targets, 2), np.inf, 1.0) * keras.ops.sum(outputs**2, axis=1)

    try:
        ish.measure(backend.oracle(perceptron(), [(inputs(2, 5), labels(2)), (inputs(), labels())], loss=loss))
    except ish.InvariantSharpnessError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


CHECKS = [
    metrics_of_the_reference,
    squared_error,
    callable_loss,
    rescaling_by_powers_of_two,
    verdicts,
    given_groups,
    diagonal_of_the_convolutional_network,
    derivative_by_differences,
    attention,
    roles,
    untouched,
    forms_of_data,
    two_inputs,
    frozen,
    errors,
    example_with_an_infinite_loss,
]
