"""Numbers that are none are refused by every metric and estimator before anything is computed, with what is taken instead."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.landscapes import balanced_directions, filter_normalized_directions, loss_landscape
from invariant_sharpness.testing import check_oracle
from invariant_sharpness_numpy import ReluNetwork, quadratic

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **ish.METRICS,
    **{
        name: getattr(ish, name)
        for name in ish.estimators.__all__
        if not isinstance(getattr(ish.estimators, name), type)
    },
    "find_symmetries": ish.find_symmetries,
    "certify": ish.certify,
    "pac_bayes_terms": ish.pac_bayes_terms,
    "loss_landscape": loss_landscape,
    "balanced_directions": balanced_directions,
    "filter_normalized_directions": filter_normalized_directions,
    "check_oracle": check_oracle,
}
NO_INTEGERS = (8.5, 64.0, "64", None, True, float("nan"), float("inf"), [64], np.array([3, 4]))
NO_NUMBERS = ("0.5", None, True, float("nan"), 1j, [0.5], np.array([0.5, 0.5]))
OUTSIDE = {
    "lam": (0, -0.5, float("inf")),
    "tolerance": (-1e-6, float("inf")),
    "max_iterations": (0, -3),
    "steps": (0, -1),
    "num_examples": (0, -3),
    "seed": (-1, 2**63),
}


class Untouchable:
    """An oracle that must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for before the arguments were looked at")


def numbers(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The options that are numbers."""
    found = signature(function).parameters
    return {n: p for n, p in found.items() if set(str(p.annotation).split(" | ")) <= {"int", "float", "None"}}


def wrong(parameter: Parameter) -> list[Any]:
    kinds = str(parameter.annotation).split(" | ")
    values = NO_NUMBERS if "float" in kinds else NO_INTEGERS
    return [v for v in values if v is not None or "None" not in kinds] + list(OUTSIDE.get(parameter.name, ()))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_such_number_is_refused_at_once(name: str) -> None:
    function = FUNCTIONS[name]
    required = [p for p in list(signature(function).parameters.values())[1:] if p.default is p.empty]
    others = {p.name: 2 if p.name in numbers(function) else None for p in required}
    for option, parameter in numbers(function).items():
        for value in wrong(parameter):
            with pytest.raises(ArgumentError) as caught:
                function(Untouchable(), **{**others, option: value})
            message = str(caught.value)
            assert message.startswith(f"{option}={value!r}, but "), message
            assert parameter.default in (None, Parameter.empty) or f"such as {parameter.default!r}" in message, message


def refusal(metric: Callable[..., Any], oracle: Any, options: dict[str, Any]) -> str | None:
    """The message, if the metric refuses the options; None if there is a value."""
    try:
        metric(oracle, **options)
    except ArgumentError as error:
        return str(error)
    return None


SMALL = {"int": (0, 2), "float": (0.0,)}


@pytest.mark.parametrize("name", ish.METRICS)
def test_number_that_a_metric_cannot_do_with_is_named(name: str) -> None:
    """Each option alone: there is a value, or an error of the library that has the option and what was given."""
    random = np.random.default_rng(0)
    network = ReluNetwork((random.random((2, 2)), random.normal(size=(3, 2))))  # no unit is dead for an example alone
    data = random.random((9, 2)), np.arange(9) % 3
    for option, parameter in numbers(ish.METRICS[name]).items():
        for value in SMALL["float" if "float" in str(parameter.annotation) else "int"]:
            message = refusal(ish.METRICS[name], ish.oracle(network, data), {option: value})
            assert message is None or f"{option}={value!r}" in message, message


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda o: ish.hessian_spectral_norm(o, steps=0), "steps=0, but an iteration takes at least one step"),
        (lambda _: ish.normalized_sharpness.with_options(lam=0), "lam=0, but lambda is a positive number, such as 0.5"),
        (lambda o: ish.hutchinson_trace(o, products=3.5), "num_matvecs=3.5, but num_matvecs is an integer, such as 64"),
        (lambda o: ish.measure(o, ["no_such"]), "there is no metric 'no_such'"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_names_and_configured_metrics_are_looked_at_too(call: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        call(quadratic(np.eye(2), np.ones((1, 2))))


def test_integers_of_numpy_and_options_that_are_none_are_taken() -> None:
    oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    assert ish.hessian_frobenius_norm(oracle, probes=np.int32(8), seed=np.uint8(3)).value == pytest.approx(5**0.5)
    assert ish.parameter_normalized_sharpness(oracle, lam=np.float32(0.5)).value > 0


def test_option_of_an_own_metric_means_what_its_author_says() -> None:
    def tilted(oracle: ish.CurvatureOracle, *, tolerance: float = -1.0, seed: int = 0) -> float:
        return tolerance * seed * float(oracle.parameters.norm())

    oracle = quadratic(np.eye(1), np.ones((1, 1)))
    assert ish.measure(oracle, [tilted], seed=2)["tilted"].value == -2.0


OTHERS = {
    "other names": {"other": np.ones((1, 2))},
    "other shape": {"weight": np.ones((2, 2))},
    "nothing": {},
}


@pytest.mark.parametrize("what", [*OTHERS, "array", "dictionary"])
@pytest.mark.parametrize("wrap", [ish.Moved, ish.Scaled])
def test_vector_of_another_network_is_refused(wrap: Any, what: str) -> None:
    oracle = quadratic(np.eye(2), np.ones((1, 2)))
    plain = {"array": np.ones(2), "dictionary": {"weight": np.ones((1, 2))}}
    vector = plain[what] if what in plain else ish.ParameterVector(np, OTHERS[what])
    with pytest.raises(ish.errors.ModelError, match=r"the (parameters|scales) (are a|belong to).*oracle.from_numpy"):
        wrap(oracle, vector)


@pytest.mark.parametrize("given", [3, {"weight": np.ones((1, 2))}, np.ones(2), "other"])
@pytest.mark.parametrize("name", [n for n, metric in ish.METRICS.items() if "diagonal" in metric.options])
def test_diagonal_of_another_network_is_refused(name: str, given: Any) -> None:
    oracle = quadratic(np.eye(2), np.ones((1, 2)))
    if isinstance(given, str):
        given = ish.hessian_diagonal(quadratic(np.eye(4), np.ones((2, 2))))
    with pytest.raises(
        ish.errors.ModelError, match=r"diagonal (is a|has a group).*pass what hessian_diagonal\(oracle\)"
    ):
        ish.METRICS[name](oracle, diagonal=given)
