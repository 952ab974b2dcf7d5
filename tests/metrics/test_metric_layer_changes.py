"""Sensitivity to a given change: exact on quadratics, cross terms included; helpers for rounding and pruning; invariance."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ArgumentError, ModelError, UnknownNameError
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork, quadratic
from zoo import numpy_problem
from zoo.vectors import assert_close, flat

SIZES = {"a": (2, 3), "b": (4,), "c": (1, 2)}
ENDS = np.cumsum([int(np.prod(shape)) for shape in SIZES.values()])


def cut(values: Any) -> dict[str, Any]:
    parts = np.split(values, ENDS[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(SIZES.items(), parts, strict=True)}


def joined(arrays: Any) -> Any:
    return np.concatenate([np.ravel(arrays[name]) for name in SIZES])


def quadratic_in_layers(seed: int) -> tuple[FunctionOracle, Any, Any, Any]:
    """A quadratic loss that is not at its minimum, in three groups; its Hessian, gradient and a change."""
    random = np.random.default_rng(seed)
    A = random.normal(size=(ENDS[-1], ENDS[-1]))
    H, linear, theta, delta = (A + A.T) / 2, random.normal(size=ENDS[-1]), *random.normal(size=(2, ENDS[-1]))
    oracle = FunctionOracle(
        cut(theta),
        lambda p: float(joined(p) @ H @ joined(p) / 2 + linear @ joined(p)),
        lambda p: cut(H @ joined(p) + linear),
        lambda _, v: cut(H @ joined(v)),
    )
    return oracle, H, H @ theta + linear, delta


@pytest.mark.parametrize("seed", range(5))
def test_it_is_exact_on_a_quadratic_cross_terms_included(seed: int) -> None:
    oracle, H, g, delta = quadratic_in_layers(seed)
    found = ish.change_sensitivity(oracle, oracle.from_numpy(cut(delta)))
    places = np.split(np.arange(ENDS[-1]), ENDS[:-1])
    for (name, layer), place in zip(found.items(), places, strict=True):
        d = delta[place]
        assert_close(layer.slope, g[place] @ d, f"slope of {name}", 1e-12)
        assert_close(layer.curvature, d @ H[np.ix_(place, place)] @ d / 2, f"curvature of {name}", 1e-11)
        assert layer.rise == pytest.approx(layer.predicted, abs=1e-11)
        trace = np.trace(H[np.ix_(place, place)])
        assert_close(layer.hawq, trace / len(place) * (d @ d), f"HAWQ of {name}", 1e-12)
    total = g @ delta + delta @ H @ delta / 2
    parts = sum(g[place] @ delta[place] + delta[place] @ H[np.ix_(place, place)] @ delta[place] / 2 for place in places)
    assert found.total.rise == pytest.approx(total, abs=1e-10)
    assert found.total.predicted == pytest.approx(total, abs=1e-10)
    assert found.cross_terms == pytest.approx(total - parts, abs=1e-10)
    assert found.interaction == pytest.approx(total - parts, abs=1e-10)
    assert abs(found.cross_terms) > 1e-3, "there are none to be seen"


def test_prediction_of_a_network_is_right_to_third_order() -> None:
    oracle = numpy_problem.problem("cross_entropy", biases=True).oracle
    change = ish.changes.rounding(oracle, bits=3)
    errors = [
        [abs(layer.rise - layer.predicted) for layer in ish.change_sensitivity(oracle, t * change, hawq=False).values()]
        for t in (0.1, 0.01)
    ]
    assert (np.array(errors[1]) <= np.array(errors[0]) / 500 + 1e-14).all(), f"{errors}"


def test_layers_that_do_not_change_are_left_out() -> None:
    oracle = numpy_problem.problem("cross_entropy", biases=True).oracle
    found = ish.change_sensitivity(oracle, ish.changes.rounding(oracle, bits=4, parameters="layers.1.*"), hawq=False)
    assert list(found) == ["layers.1.weight", "layers.1.bias"]
    assert found["layers.1.weight"].hawq is None
    with pytest.raises(UnknownNameError, match=r"layers\.1\.weight"):
        found["layers.0.weight"]


def test_it_prints_and_exports_all_rows() -> None:
    oracle, _, _, delta = quadratic_in_layers(0)
    found = ish.change_sensitivity(oracle, oracle.from_numpy(cut(delta)))
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "a", "b", "c", "all"]
    read = json.loads(found.to_json())
    assert read["layers"]["b"]["rise"] == found["b"].rise
    assert read["total"]["hawq"] is None
    assert "all together" in found._repr_html_()


def rows_scaled(factors: Any) -> tuple[NetworkOracle, NetworkOracle]:
    """A network with two hidden units, and the same function with rows and columns multiplied."""
    random = np.random.default_rng(0)
    W, V = random.normal(size=(2, 4)), random.normal(size=(3, 2))
    x, y = random.normal(size=(30, 4)), np.arange(30) % 3
    there = ReluNetwork((factors[:, None] * W, V / factors))
    return NetworkOracle(ReluNetwork((W, V)), x, y), NetworkOracle(there, x, y)


FIELDS = ("rise", "slope", "curvature")


def test_rounding_of_rows_is_invariant_to_their_factors() -> None:
    """In the layer whose rows are multiplied; the next one has its columns divided, and another unit of its own."""
    before, after = (
        ish.change_sensitivity(one, ish.changes.rounding(one, bits=3, per="row"))["layers.0.weight"]
        for one in rows_scaled(np.array([8.0, 0.25]))
    )
    for field in FIELDS:
        assert_close(getattr(after, field), getattr(before, field), field, 1e-11)
    assert before.hawq is not None
    assert after.hawq is not None
    assert abs(after.hawq / before.hawq - 1) > 0.1, f"HAWQ stayed at {before.hawq} and {after.hawq}"


def test_one_factor_for_each_layer_leaves_all_of_it_alone() -> None:
    before, after = (
        ish.change_sensitivity(one, ish.changes.rounding(one, bits=3, per="tensor"))
        for one in rows_scaled(np.array([8.0, 8.0]))
    )
    for name in before:
        for field in (*FIELDS, "hawq"):
            assert_close(getattr(after[name], field), getattr(before[name], field), f"{field} of {name}", 1e-11)


def test_rounding_of_tensors_moves_with_the_factors_of_rows() -> None:
    before, after = (
        ish.change_sensitivity(one, ish.changes.rounding(one, bits=3, per="tensor"))["layers.0.weight"]
        for one in rows_scaled(np.array([8.0, 0.25]))
    )
    assert abs(after.rise / before.rise - 1) > 0.1, f"it stayed at {before.rise} and {after.rise}"


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_rounded_weights_are_whole_steps(bits: int) -> None:
    oracle = numpy_problem.problem("cross_entropy", biases=True).oracle
    change = oracle.to_numpy(ish.changes.rounding(oracle, bits=bits))
    for group in oracle.groups:
        W = oracle.to_numpy(oracle.parameters)[group.name]
        if group.role == "bias":
            assert not change[group.name].any()
            continue
        steps = np.abs(W).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
        multiples = (W + change[group.name]) / steps
        assert np.abs(multiples - np.round(multiples)).max() <= 1e-9
        assert (np.abs(change[group.name]) <= steps / 2 * (1 + 1e-12)).all()


@pytest.mark.parametrize("per", ["tensor", "row"])
def test_pruned_weights_are_the_smallest(per: Any) -> None:
    oracle = numpy_problem.problem("cross_entropy", biases=True).oracle
    W = oracle.to_numpy(oracle.parameters)["layers.0.weight"]
    there = W + oracle.to_numpy(ish.changes.pruning(oracle, fraction=0.5, per=per))["layers.0.weight"]
    for before, after in [(W, there)] if per == "tensor" else zip(W, there, strict=True):
        gone = after == 0
        assert gone.sum() == before.size // 2
        assert np.abs(before[gone]).max() <= np.abs(before[~gone]).min()
        assert (after[~gone] == before[~gone]).all()


def test_row_of_zeros_stays() -> None:
    oracle = quadratic(np.eye(4), [[0.0, 0.0], [1.0, 0.3]])
    assert oracle.to_numpy(ish.changes.rounding(oracle, bits=2))["weight"].tolist() == [[0.0, 0.0], [0.0, -0.3]]


def test_bad_input_is_refused() -> None:
    oracle = numpy_problem.problem("cross_entropy", biases=True).oracle
    with pytest.raises(ArgumentError, match="bits=1"):
        ish.changes.rounding(oracle, bits=1)
    with pytest.raises(ArgumentError, match="fraction=50"):
        ish.changes.pruning(oracle, fraction=50)
    with pytest.raises(ArgumentError, match="per='column' is not known"):
        ish.changes.pruning(oracle, fraction=0.5, per="column")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"no parameter group matches 'layer\.\*'"):
        ish.changes.rounding(oracle, bits=4, parameters="layer.*")
    with pytest.raises(ArgumentError, match="zero everywhere"):
        ish.change_sensitivity(oracle, oracle.parameters.only([]))
    with pytest.raises(ModelError, match="the changes belong to another network"):
        ish.change_sensitivity(oracle, quadratic(np.eye(1), [[1.0]]).parameters)
    assert flat(oracle.parameters).size == numpy_problem.problem("cross_entropy", biases=True).theta.size
