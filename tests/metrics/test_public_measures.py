"""What the certificate says of measures that others defined, and whether their formulas are those of the definitions."""

from __future__ import annotations

import copy
import runpy
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.evaluation.certificate import Certificate
from zoo import EXPERIMENTS
from zoo.torch_derivatives import cross_entropy, dense_diagonal, dense_hessian, dense_matrix

SCRIPTS = EXPERIMENTS
formulas = SimpleNamespace(**runpy.run_path(str(SCRIPTS / "public_formulas.py")))
modules = SimpleNamespace(**runpy.run_path(str(SCRIPTS / "public_modules.py")))

VERDICTS = {
    "trace_over_norm": ("CLAIM FAILS", "moves"),
    "eigenvalue_over_norm": ("CLAIM FAILS", "moves"),
    "trace_times_norm": ("moves", "moves"),
    "eigenvalue_times_norm": ("CLAIM FAILS", "moves"),
    "sam_rise": ("moves", "moves"),
    "asam_rise_with_eta": ("CLAIM FAILS", "CLAIM FAILS"),
    "asam_rise": ("holds", "holds"),
    "average_adaptive_rise": ("holds", "holds"),
    "renyi_sharpness": ("moves", "moves"),
    "quotient_eigenvalue": ("holds", "moves"),
    "minimum_sharpness": ("holds", "moves"),
    "layerwise_trace": ("moves", "moves"),
    "filter_normalized_curvature": ("stays", "moves"),
    "pac_bayes_flatness": ("moves", "moves"),
    "magnitude_aware_flatness": ("moves", "moves"),
    "magnitude_aware_by_variance": ("moves", "moves"),
    "path_norm": ("stays", "stays"),
    "relative_flatness_by_deviation": ("holds", "stays"),
    "relative_flatness_by_variance": ("holds", "moves"),
    "relative_flatness_of_varying_features": ("holds", "stays"),
}
"""Under rescalings of layers, and of rows and columns."""

Measure = Callable[[ish.CurvatureOracle], float]


def network(hidden: int = 6) -> nn.Sequential:
    """All units active on some examples."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3)).double()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(40, 4).double(), torch.arange(40) % 3


def oracle(model: nn.Module) -> ish.CurvatureOracle:
    return ish.oracle(model, data())


def all_measures(model: nn.Module) -> dict[Measure, set[str]]:
    of_modules = {modules.of_module(measure, model, *data()): claims for measure, claims in modules.CLAIMS.items()}
    return formulas.CLAIMS | of_modules


def certified(model: nn.Module, claims: dict[Measure, set[str]]) -> Certificate:
    return ish.certify(oracle(model), list(claims), claims={m.__name__: claim for m, claim in claims.items()})


@cache
def certificate() -> Certificate:
    return certified(network(), all_measures(network()))


@cache
def hessian() -> np.ndarray:
    return dense_matrix(dense_hessian(network(), *data(), cross_entropy)).numpy()


def weights(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


def squared_norm() -> float:
    return sum(float((w**2).sum()) for w in weights(network()).values())


def traces() -> dict[str, float]:
    diagonal = dense_diagonal(network(), dense_hessian(network(), *data(), cross_entropy))
    return {name: float(values.sum()) for name, values in diagonal.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", VERDICTS)
def test_verdict(name: str) -> None:
    found = {finding.kind: finding.verdict for finding in certificate().worst() if finding.metric == name}
    assert (found["layer"], found["row_column"]) == VERDICTS[name], str(certificate())


def test_every_measure_has_a_verdict_here() -> None:
    assert {measure.__name__ for measure in all_measures(network())} == VERDICTS.keys()


@pytest.mark.slow
def test_all_formulas_hold_in_balanced_coordinates() -> None:
    mended = {modules.in_balanced_coordinates(measure): {"row_column"} for measure in formulas.CLAIMS}
    again = certified(network(), mended)
    assert {finding.verdict for finding in again} == {"holds"}, str(again)


def test_dead_unit_moves_relative_flatness_unless_it_is_left_out() -> None:
    model = network()
    with torch.no_grad():
        model[0].bias[0] = -100.0
    names = ("relative_flatness_by_deviation", "relative_flatness_of_varying_features")
    claims = {modules.of_module(vars(modules)[name], model, *data()): {"layer"} for name in names}
    found = {f.metric: f.verdict for f in certified(model, claims).worst() if f.kind == "layer"}
    assert found == {names[0]: "CLAIM FAILS", names[1]: "holds"}, found


def test_adaptive_sharpness_stays_with_the_parameters_as_scale_and_moves_with_lengths_added() -> None:
    changes = {f.metric: f.change for f in certificate().worst() if f.kind == "row_column"}
    assert changes["asam_rise"] < 1e-9 < 0.1 < changes["asam_rise_with_eta"], changes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("trace_over_norm", lambda: np.trace(hessian()) / squared_norm()),
        ("trace_times_norm", lambda: np.trace(hessian()) * squared_norm()),
        ("eigenvalue_over_norm", lambda: np.linalg.norm(hessian(), 2) / squared_norm()),
        ("eigenvalue_times_norm", lambda: np.linalg.norm(hessian(), 2) * squared_norm()),
        ("layerwise_trace", lambda: traces()["2.weight"] * np.linalg.norm(weights(network())["2.weight"])),
    ],
)
def test_formula_is_that_of_the_dense_hessian(name: str, expected: Callable[[], float]) -> None:
    measured = vars(formulas)[name](oracle(network()))
    assert measured == pytest.approx(expected(), rel=1e-6), (measured, expected())


def test_renyi_sharpness_is_that_of_the_eigenvalues() -> None:
    shares = np.linalg.eigvalsh(hessian()) / np.trace(hessian())
    measured, expected = formulas.renyi_sharpness(oracle(network())), np.log(np.sum(shares**2))
    assert measured == pytest.approx(expected, rel=1e-9), (measured, expected)


def test_quotient_eigenvalue_solves_the_generalized_problem() -> None:
    """H v = m G v, with the metric G that divides each parameter tensor by its squared norm."""
    metric = np.concatenate([np.full(w.size, 1 / np.sum(w**2)) for w in weights(network()).values()])
    expected = np.abs(np.linalg.eigvals(hessian() / metric[:, None])).max()
    assert formulas.quotient_eigenvalue(oracle(network())) == pytest.approx(expected, rel=1e-6)


def test_minimum_sharpness_of_one_hidden_layer_is_in_closed_form() -> None:
    """With (t_W + t_b) / a^2 + a^2 u_W + u_b the least value is 2 sqrt((t_W + t_b) u_W) + u_b."""
    t = traces()
    expected = 2 * np.sqrt((t["0.weight"] + t["0.bias"]) * t["2.weight"]) + t["2.bias"]
    measured = formulas.minimum_sharpness(oracle(network()))
    assert measured == pytest.approx(expected, rel=1e-9), (measured, expected)


@pytest.mark.slow
def test_minimum_sharpness_is_no_larger_than_the_trace_of_a_rescaled_network() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    symmetries = ish.find_symmetries(oracle(model)).by_layer()
    least = formulas.minimum_sharpness(oracle(model))
    for logarithms in np.random.default_rng(0).uniform(-1, 1, (20, 2)):
        moved = ish.Moved(oracle(model), symmetries.rescaling(logarithms).apply(oracle(model).parameters))
        trace = ish.hessian_trace(moved).value
        assert trace >= least * (1 - 1e-9), (trace, least, logarithms)


def test_curvature_along_filters_is_that_of_the_dense_hessian() -> None:
    """Gaussian draws in the order of the parameters; rows as long as those of the weights, zeros for biases."""
    random, total = np.random.default_rng(0), 0.0
    for _ in range(8):
        direction = [random.normal(size=w.shape) * (w.ndim > 1) for w in weights(network()).values()]
        for d, w in zip(direction, weights(network()).values(), strict=True):
            if w.ndim > 1:
                d *= np.linalg.norm(w, axis=1, keepdims=True) / np.linalg.norm(d, axis=1, keepdims=True)
        vector = np.concatenate([d.ravel() for d in direction])
        total += vector @ hessian() @ vector / 8
    assert formulas.filter_normalized_curvature(oracle(network())) == pytest.approx(total, rel=1e-8)


@pytest.mark.parametrize(
    ("name", "scale", "radius"),
    [
        ("sam_rise", lambda _name, w: torch.ones_like(w), 0.05),
        ("asam_rise", lambda _name, w: w.abs(), 2.0),
        ("asam_rise_with_eta", lambda name, w: w.abs() + 0.01 if "weight" in name else torch.ones_like(w), 0.5),
    ],
)
def test_rise_is_that_after_the_step_of_the_optimizer(
    name: str, scale: Callable[[str, torch.Tensor], torch.Tensor], radius: float
) -> None:
    model, (x, y) = network(), data()
    before = nn.functional.cross_entropy(model(x), y)
    before.backward()
    steps = {n: scale(n, w.detach()) for n, w in model.named_parameters()}
    length = torch.cat([(steps[n] * w.grad).ravel() for n, w in model.named_parameters()]).norm()
    with torch.no_grad():
        for n, w in model.named_parameters():
            w += radius * steps[n] ** 2 * w.grad / length
        expected = float(nn.functional.cross_entropy(model(x), y) - before)
    assert vars(formulas)[name](oracle(network())) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("name", "power"), [("deviation", 0.5), ("variance", 1.0)])
def test_relative_flatness_is_that_of_the_network_with_scaled_features(name: str, power: float) -> None:
    """The sum over pairs of rows of the last weight, with the dense Hessian of a network whose features were divided."""
    model, (x, y) = network(), data()
    with torch.no_grad():
        divisor = model[:2](x).var(dim=0, correction=0) ** power
        model[0].weight /= divisor[:, None]
        model[0].bias /= divisor
        model[2].weight *= divisor
    block = dense_hessian(model, x, y, cross_entropy)["2.weight"]["2.weight"].reshape(3, 6, 3, 6)
    expected = float(torch.einsum("sjtj,si,ti->", block, model[2].weight.detach(), model[2].weight.detach()))
    measured = vars(modules)[f"relative_flatness_by_{name}"](network(), x, y)
    assert measured == pytest.approx(expected, rel=1e-10), (measured, expected)


def test_path_norm_is_the_sum_over_paths() -> None:
    first, b, second, c = (values**2 for values in weights(network()).values())
    expected = float((second @ (first.sum(axis=1) + b) + c).sum())
    assert modules.path_norm(copy.deepcopy(network()), *data()) == pytest.approx(expected, rel=1e-12)


def test_network_in_coordinates_has_the_scaled_hessian() -> None:
    """The trace of S H S, as others compute it from the network alone."""
    model = network()
    scale = {name: np.random.default_rng(0).uniform(0.5, 2, w.shape) for name, w in weights(model).items()}
    base = oracle(model)
    moved = modules.network_at(model, ish.Scaled(base, base.from_numpy(scale)))
    found = dense_matrix(dense_hessian(moved, *data(), cross_entropy)).numpy()
    s = np.concatenate([array.ravel() for array in scale.values()])
    np.testing.assert_allclose(found, s[:, None] * hessian() * s, rtol=1e-9, atol=1e-12)
