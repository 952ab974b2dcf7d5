"""Networks that are trained by ``fit``, watched and not watched."""

from __future__ import annotations

import csv
import gc
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
from keras import layers
from keras_problems import inputs, labels
from tensorboard_files import scalars

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from invariant_sharpness_keras import keras_callback

NORM = "hessian_spectral_norm"
METRICS = [NORM, "hessian_trace", "preconditioned_sharpness"]
X, Y = inputs(32, 5).astype(keras.config.floatx()), labels(32)
BATCHES = 8
"""Of an epoch."""


def network(optimizer: Any = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(6), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((5,)), *hidden, layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    return model


def monitor(metrics: Any = NORM, **settings: Any) -> ish.Monitor:
    return ish.Monitor(metrics, (X, Y), **{"probes": 8, **settings})


def fitted(model: keras.Model, *callbacks: Any, epochs: int = 2, **settings: Any) -> dict[str, list[float]]:
    given = {"batch_size": len(X) // BATCHES, "verbose": 0, **settings}
    history: dict[str, list[float]] = model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **given).history
    return history


def bits(model: keras.Model) -> list[bytes]:
    """Weights, statistics, states of random layers and of the optimizer, gradients, and what is drawn next from every generator."""
    variables = [keras.ops.convert_to_numpy(v) for v in (*model.variables, *model.optimizer.variables)]
    gradients = [g for v in model.trainable_variables if (g := getattr(v.value, "grad", None)) is not None]
    drawn = [random.random(), np.random.random(), keras.ops.convert_to_numpy(keras.random.uniform((2,)))]  # noqa: NPY002
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        drawn += [tf.random.uniform((2,)).numpy(), tf.random.get_global_generator().uniform((2,)).numpy()]
    if keras.backend.backend() == "torch":
        import torch

        drawn += [torch.rand(2).numpy()]
    return [np.asarray(array).tobytes() for array in (*variables, *map(keras.ops.convert_to_numpy, gradients), *drawn)]


def trained(*callbacks: Any) -> tuple[dict[str, list[float]], list[bytes]]:
    """The history of a fit, and the bits in which it ends."""
    model = network()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.random.set_global_generator(tf.random.Generator.from_seed(1))
    return fitted(model, *callbacks), bits(model)


def ends_of_watched_fits() -> dict[str, Any]:
    """Whether a fit ends in the same bits when it is watched batch by batch and epoch by epoch; the steps, and the errors by step."""
    by_batch, by_epoch = monitor(METRICS, every=5), monitor(every=1)
    history, alone = trained()
    seen, watched = trained(keras_callback(by_batch), keras_callback(by_epoch, each="epoch"))
    return {
        "bits": watched == alone,
        "another": alone
        == trained(keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: keras.random.uniform((1,))))[1],
        "history": all(seen[name] == history[name] for name in history),
        "steps": [[entry.step for entry in one] for one in (by_batch, by_epoch)],
        "errors": [str(entry.errors) for one in (by_batch, by_epoch) for entry in one if entry.errors],
        "threshold": by_batch[-1].threshold,
    }


def entries_of_a_fit() -> dict[str, Any]:
    """Values of the last entry and of ``measure`` on the model that has come out; how long fits go on with the numbers of the steps."""
    model, watch = network(), monitor([NORM, "hessian_trace"], every=BATCHES)
    history = fitted(model, keras_callback(watch))
    report = ish.measure(ish.oracle(model, (X, Y)), [NORM, "hessian_trace"], probes=8)
    pairs = {name: [watch[-1].estimates[name].value, report[name].value] for name in report}
    fitted(model, keras_callback(watch), epochs=1, validation_data=(X, Y))
    return {
        "values": pairs,
        "loss": [watch[2].probe_loss, report.loss],
        "logged": dict(watch[2].logged),
        "history": {name: history[name][-1] for name in ("loss", "accuracy", f"sharpness/{NORM}")},
        "steps": [entry.step for entry in watch],
    }


def learning_rates() -> dict[str, list[float | None]]:
    """The rates of entries from a number, a schedule, a variable that a callback changes, and below an optimizer that scales the loss."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    halved = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / 2**epoch)
    cases: dict[str, tuple[Any, list[Any]]] = {
        "number": (keras.optimizers.SGD(0.1), []),
        "schedule": (keras.optimizers.SGD(schedule), []),
        "variable": (keras.optimizers.SGD(0.1), [halved]),
        "scaled": (keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), []),
        "unknown": (keras.optimizers.Adagrad(0.1), []),
    }
    found: dict[str, list[float | None]] = {}
    for name, (optimizer, others) in cases.items():
        watch = monitor(lambda oracle: oracle.parameters.norm(), every=1)
        fitted(network(optimizer), *others, keras_callback(watch), batch_size=len(X), epochs=3)
        found[name] = [entry.learning_rate for entry in watch]
    return found


def logs_of_a_fit() -> dict[str, Any]:
    """What callbacks behind find in the logs of batches and epochs, files of them, and the values of the entries."""
    name, watch = f"sharpness/{NORM}", monitor(every=3)
    batches: list[float | None] = []
    behind = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: batches.append(logs.get(name)))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "epochs.csv"
        files = keras.callbacks.CSVLogger(str(file)), keras.callbacks.TensorBoard(folder)
        history = fitted(network(), keras_callback(watch), behind, *files)
        with file.open() as stream:
            written = [float(row[name]) for row in csv.DictReader(stream)]
        board = list(scalars(Path(folder) / "train", f"epoch_{name}").values())
    values = {entry.step: entry.estimates[NORM].value for entry in watch}
    return {"batches": batches, "epochs": history[name], "values": values, "file": written, "tensorboard": board}


def entries_of_several_networks() -> dict[str, Any]:
    """Steps under gradient accumulation, and several in one execution where Keras does that; a network that computes in half precision."""
    executed = 1 if keras.config.backend() == "torch" else 4
    accumulating, together = monitor(every=1), monitor(every=1)
    fitted(network(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)), keras_callback(accumulating))
    model = network()
    model.compile("sgd", model.loss, steps_per_execution=executed)
    fitted(model, keras_callback(together))
    half = keras.Sequential([keras.Input((5,)), layers.Dense(3, dtype="mixed_bfloat16")])
    half.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    try:
        fitted(half, keras_callback(monitor()))
    except ModelError as error:
        words = str(error)
    steps = {"accumulating": [e.step for e in accumulating], "together": [e.step for e in together]}
    return steps | {"executed": executed, "half": words}


def programs_of_many_entries() -> dict[str, Any]:
    """Graphs of TensorFlow or compilations of JAX that there are after each of 24 entries, with a batch that is shorter than others; and warnings of retracing."""
    told, counted = _warnings(), _programs()
    made: list[int] = []

    def count(_: Any) -> float:
        gc.collect()
        made.append(counted())
        return 0.0

    watch = ish.Monitor([*METRICS, "normalized_sharpness", count], (X, Y), every=1, probes=8, batch_size=20)
    fitted(network(), keras_callback(watch), epochs=3)
    return {"made": made, "warnings": told}


def _warnings() -> list[str]:
    """A list to which TensorFlow adds what it warns of."""
    import logging

    told: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logging.getLogger("tensorflow").addHandler(Handler(logging.WARNING))
    return told


def _programs() -> Any:
    """A function that counts programs: graphs that are alive on TensorFlow, and compilations so far on JAX."""
    if keras.backend.backend() == "tensorflow":
        from tensorflow.python.framework.func_graph import FuncGraph

        return lambda: sum(isinstance(thing, FuncGraph) for thing in gc.get_objects())
    if keras.backend.backend() == "jax":
        import jax

        compiled: list[str] = []

        def listen(name: str, *_: Any, **__: Any) -> None:
            compiled.extend([name] if "backend_compile" in name else [])

        jax.monitoring.register_event_duration_secs_listener(listen)
        return lambda: len(compiled)
    return lambda: 0


CHECKS = [
    ends_of_watched_fits,
    entries_of_a_fit,
    learning_rates,
    logs_of_a_fit,
    entries_of_several_networks,
    programs_of_many_entries,
]
