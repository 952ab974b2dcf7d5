"""Several threads that measure, on one model and on several: right values, and models and process as they were."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness_numpy import FunctionOracle, ReluNetwork

Build = Callable[[], ish.CurvatureOracle]
Watch = Callable[[], Callable[[], list[str]]]
Problem = tuple[Build, Watch]
"""Builds an oracle of one model; looks at model and process, and says later what has changed."""


def torch_problem(seed: int) -> Problem:
    from zoo.model_trace import Trace
    from zoo.torch_networks import random_problem

    torch = pytest.importorskip("torch")
    model, *data = random_problem("cnn" if seed else "mlp", examples=7, seed=seed)
    model.register_forward_pre_hook(lambda *_: (torch.rand(1), None)[1])  # a pass draws numbers of the process
    return lambda: ish.oracle(model, tuple(data), batch_size=4), lambda: Trace(model).differences


def numpy_problem(seed: int) -> Problem:
    random = np.random.default_rng(seed)
    network = ReluNetwork((random.normal(size=(6, 4)), random.normal(size=(3, 6))))
    data = random.normal(size=(7, 4)), random.integers(0, 3, 7)
    return lambda: ish.oracle(network, data, batch_size=4), lambda: watched(lambda: network.weights)


def watched(arrays: Callable[[], Iterable[Any]]) -> Callable[[], list[str]]:
    """What of these arrays and of NumPy's random state has changed from now on."""
    kept, state = [array.copy() for array in arrays()], np.random.get_state()[1].copy()  # noqa: NPY002

    def differences() -> list[str]:
        same = all(np.array_equal(*pair) for pair in zip(kept, arrays(), strict=True))
        moved = not np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
        return ["parameters"] * (not same) + ["NumPy's random state"] * moved

    return differences


def jax_problem(seed: int) -> Problem:
    jax = pytest.importorskip("jax")
    random = np.random.default_rng(seed)
    parameters = {name: jax.numpy.asarray(random.normal(size=(4, 4))) for name in ("first", "second")}
    data = random.normal(size=(7, 4)).astype(np.float32), random.integers(0, 4, 7)

    def apply(p: Any, x: Any) -> Any:
        return jax.numpy.tanh(x @ p["first"]) @ p["second"]

    oracle = ish.oracle(apply, data, parameters=parameters, batch_size=7, dtype="float32")
    return lambda: oracle, lambda: watched(parameters.values)  # one oracle: each would be compiled anew


def function_problem(seed: int) -> Problem:
    """Functions of a model that is held at other parameters for the time being."""
    H, held = np.diag([1.0, 2.0, 3.0, 4.0 + seed]), {"W": np.ones((2, 2))}

    def at(p: Any, function: Callable[[Any], Any]) -> Any:
        before, held["W"] = held["W"], p["W"]
        try:
            _yield_to_others()
            return function(held["W"].ravel())
        finally:
            held["W"] = before

    def loss(p: Any) -> float:
        return float(at(p, lambda w: w @ H @ w / 2))

    def gradient(p: Any) -> Any:
        return {"W": at(p, lambda w: H @ w).reshape(2, 2)}

    def product(p: Any, v: Any) -> Any:
        return {"W": at(p, lambda _: H @ v["W"].ravel()).reshape(2, 2)}

    oracle = FunctionOracle(held, loss, gradient, product)
    return lambda: oracle, lambda: watched(held.values)


def _yield_to_others() -> None:
    """Whoever waits takes its turn, unless it has to wait for this one."""
    threading.Event().wait(1e-4)


PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "torch": torch_problem,
    "jax": jax_problem,
    "numpy": numpy_problem,
    "functions": function_problem,
}
BACKENDS = [
    pytest.param(
        name, marks=pytest.mark.skipif(name in ("torch", "jax") and not find_spec(name), reason="not installed")
    )
    for name in PROBLEMS
]


def values(build: Build) -> list[float]:
    """Six values of an oracle that is built now: at its parameters, elsewhere, along draws, and of the parameters themselves."""
    oracle = build()
    point = oracle.parameters
    elsewhere = ish.Moved(oracle, 1.5 * point)
    return [
        oracle.loss(2.0 * point),
        point.norm(),
        ish.hutchinson_trace(oracle, num_matvecs=4).value,
        ish.hessian_spectral_norm(elsewhere, max_iterations=4).value,
        float(oracle.parameters.norm()),
        oracle.loss(oracle.parameters),
    ]


@contextmanager
def impatient() -> Generator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def together(functions: list[Callable[[], Any]]) -> list[Any]:
    """What the functions return or raise, each called in a thread of its own."""
    start, results = threading.Barrier(len(functions)), [None] * len(functions)

    def run(number: int, function: Callable[[], Any]) -> None:
        start.wait()
        try:
            results[number] = function()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(functions)]
    with impatient():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads), "a thread waits for ever"
    return results


@pytest.mark.parametrize("runs", [5, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_threads_get_the_values_of_one(backend: str, models: int, runs: int) -> None:
    problems = [PROBLEMS[backend](seed) for seed in range(models)] * (3 - models)
    expected, watches = [values(build) for build, _ in problems], [watch() for _, watch in problems]
    for run in range(runs):
        found = together([lambda build=build: values(build) for build, _ in problems])
        assert found == expected, f"run {run}: {found} instead of {expected}"
        assert [what for differences in watches for what in differences()] == [], f"run {run}"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("backend", BACKENDS)
def test_thread_that_is_interrupted_lets_the_next_one_go_on(backend: str, error: type[BaseException]) -> None:
    build, watch = PROBLEMS[backend](0)
    oracle, expected, differences = build(), values(build), watch()

    def interrupted() -> None:
        with exclusive(), exclusive():
            oracle.loss(2.0 * oracle.parameters)
            raise error

    (first, second) = together([interrupted, lambda: values(build)])
    assert isinstance(first, error)
    assert second == expected
    assert differences() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_process_that_is_forked_while_another_thread_measures_can_measure() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def measuring() -> None:
        with exclusive():
            inside.set()
            go_on.wait(30)

    thread = threading.Thread(target=measuring)
    thread.start()
    inside.wait(30)
    child = os.fork()
    if child == 0:  # the other thread does not exist here
        waiting = threading.Thread(target=lambda: exclusive().__enter__(), daemon=True)
        waiting.start()
        waiting.join(10)
        os._exit(int(waiting.is_alive()))
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the new process waits for a thread that it has not"
