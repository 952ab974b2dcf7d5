"""An oracle restricted to some groups is that of the diagonal block of these groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.errors import MissingCapabilityError, ModelError
from invariant_sharpness.protocol import EVERY_CAPABILITY, ModelPrecisionOracle, supports
from invariant_sharpness.testing import check_oracle
from invariant_sharpness_numpy import FunctionOracle, quadratic
from zoo import numpy_problem
from zoo.vectors import assert_close, flat

PATTERNS: dict[str, Any] = {
    "a name": "layers.1.weight",
    "a pattern": "layers.*.weight",
    "a set of characters": "layers.[01].*",
    "several": ["layers.0.bias", "layers.2.*"],
    "everything": "*",
}


@pytest.fixture(params=PATTERNS)
def restricted(request: pytest.FixtureRequest) -> ish.Restricted:
    return ish.Restricted(whole(), PATTERNS[request.param])


def whole() -> Any:
    return numpy_problem.problem("cross_entropy", biases=True).oracle


def kept(oracle: ish.Restricted) -> Any:
    """Which entries of the flat array of all parameters belong to the groups that are kept."""
    return np.concatenate([np.full(group.size, group.name in oracle.names) for group in whole().groups])


def block(oracle: ish.Restricted) -> Any:
    """The diagonal block of the Hessian by complex steps."""
    return numpy_problem.dense_hessian("cross_entropy", biases=True)[np.ix_(kept(oracle), kept(oracle))]


def gauss_newton(oracle: ish.Restricted) -> Any:
    """The diagonal block of the Gauss-Newton matrix, from the Jacobian and the probabilities."""
    p = whole().parameters
    outputs = whole().outputs(p, numpy_problem.EXAMPLES)
    probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    J = jacobian(oracle)
    curvature = np.einsum("nk,kl->nkl", probabilities, np.eye(3)) - np.einsum(
        "nk,nl->nkl", probabilities, probabilities
    )
    return np.einsum("nki,nkl,nlj->ij", J, curvature, J) / len(J)


def jacobian(oracle: ish.Restricted) -> Any:
    """Derivatives of the outputs by the parameters that are kept, (n, K, P), from the whole oracle."""
    p, count = whole().parameters, int(kept(oracle).size)
    units = [numpy_problem.problem("cross_entropy", biases=True).vector(row) for row in np.eye(count)[kept(oracle)]]
    products = [whole().jacobian_vector_product(p, unit, numpy_problem.EXAMPLES) for unit in units]
    return np.stack(products, axis=2)


def test_only_the_named_groups_are_there(restricted: ish.Restricted) -> None:
    p = restricted.parameters
    assert [group.name for group in restricted.groups] == list(restricted.names) == list(p.arrays)
    assert_close(flat(p), flat(whole().parameters)[kept(restricted)], "parameters", 0)
    assert restricted.loss(p) == whole().loss(whole().parameters)


def test_products_are_those_of_the_dense_block(restricted: ish.Restricted) -> None:
    p, H = restricted.parameters, block(restricted)
    vectors = [prng.normals(restricted, 0, index) for index in range(3)]
    for v, product in zip(vectors, restricted.hessian_vector_products(p, vectors), strict=True):
        assert_close(flat(restricted.hessian_vector_product(p, v)), H @ flat(v), "a product with the block")
        assert_close(flat(product), H @ flat(v), "one of several products with the block")


def test_gradient_and_second_moments_are_those_of_the_kept_parameters(restricted: ish.Restricted) -> None:
    gradients = numpy_problem.example_gradients("cross_entropy", biases=True)[kept(restricted)]
    p, v = restricted.parameters, prng.normals(restricted, 0, 0)
    assert_close(flat(restricted.gradient(p)), gradients.mean(axis=1), "the gradient")
    assert_close(flat(restricted.gradient_second_moment(p)), (gradients**2).mean(axis=1), "the second moment")
    directional = restricted.directional_second_moment(p, v)
    assert_close(directional, ((flat(v) @ gradients) ** 2).mean(), "the second moment along a vector")


def test_gauss_newton_matrix_is_the_dense_block(restricted: ish.Restricted) -> None:
    p, v, G = restricted.parameters, prng.normals(restricted, 0, 0), gauss_newton(restricted)
    assert_close(flat(restricted.gauss_newton_vector_product(p, v)), G @ flat(v), "a Gauss-Newton product")
    diagonal = restricted.gauss_newton_diagonal(p, frozenset(restricted.names))
    assert_close(flat(diagonal), np.diag(G), "the Gauss-Newton diagonal")


def test_sampled_diagonal_is_that_of_the_whole(restricted: ish.Restricted) -> None:
    sampled = restricted.sampled_gauss_newton_diagonal(restricted.parameters, frozenset(restricted.names), range(2), 5)
    every = frozenset(group.name for group in whole().groups)
    expected = whole().sampled_gauss_newton_diagonal(whole().parameters, every, range(2), 5)
    assert_close(flat(sampled), flat(expected)[kept(restricted)], "the sampled diagonal", 1e-14)


def test_jacobian_products_are_those_of_the_kept_columns(restricted: ish.Restricted) -> None:
    p, v, J = restricted.parameters, prng.normals(restricted, 0, 0), jacobian(restricted)
    c = prng.cotangents(0, J.shape[:2])
    assert_close(restricted.jacobian_vector_product(p, v, len(J)), J @ flat(v), "J v")
    assert_close(flat(restricted.vector_jacobian_product(p, c)), np.einsum("nki,nk->i", J, c), "J^T c")
    assert np.array_equal(restricted.outputs(p, 3), whole().outputs(whole().parameters, 3)), "outputs"


def test_output_curvature_is_that_of_the_whole_group_by_group(restricted: ish.Restricted) -> None:
    v = prng.normals(restricted, 0, 0)
    found = restricted.output_curvature(restricted.parameters, v, seed=2)
    extended = np.zeros(kept(restricted).size)
    extended[kept(restricted)] = flat(v)
    direction = numpy_problem.problem("cross_entropy", biases=True).vector(extended)
    for part, expected in zip(found, whole().output_curvature(whole().parameters, direction, seed=2), strict=True):
        assert np.array_equal(flat(part), flat(expected)[kept(restricted)]), f"{flat(part)}"


def test_subset_of_the_examples_keeps_the_groups(restricted: ish.Restricted) -> None:
    gradients = numpy_problem.example_gradients("cross_entropy", biases=True)[kept(restricted)]
    subset: Any = restricted.subset([1, 4])
    assert subset.examples == 2
    assert_close(flat(subset.gradient(subset.parameters)), gradients[:, [1, 4]].mean(axis=1), "the gradient")


def test_other_groups_stay_where_they_are() -> None:
    restricted = ish.Restricted(whole(), "layers.1.*")
    loss = restricted.loss(2.0 * restricted.parameters)
    arrays = {k: a * (2.0 if k.startswith("layers.1") else 1.0) for k, a in whole().parameters.arrays.items()}
    assert loss == whole().loss(whole().from_numpy(arrays))


def test_every_capability_is_passed_on_and_none_is_made_up() -> None:
    restricted, poor = ish.Restricted(whole(), "layers.1.*"), ish.Restricted(quadratic(np.eye(2), [[1.0, 2.0]]), "*")
    missing = {wanted for wanted in EVERY_CAPABILITY - {ModelPrecisionOracle} if not supports(restricted, wanted)}
    assert not missing, f"{missing}"
    assert not any(supports(poor, wanted) for wanted in EVERY_CAPABILITY)
    with pytest.raises(MissingCapabilityError, match="Restricted needs gauss_newton_vector_product"):
        poor.gauss_newton_vector_product(poor.parameters, poor.parameters)


def test_metrics_of_a_layer_add_up_to_those_of_the_network() -> None:
    whole_trace = ish.hessian_trace(whole()).value
    parts = [ish.hessian_trace(ish.Restricted(whole(), f"layers.{layer}.*")).value for layer in range(3)]
    assert sum(parts) == pytest.approx(whole_trace, rel=1e-12), f"{parts} do not add up to {whole_trace}"


def test_largest_eigenvalue_is_that_of_the_dense_block() -> None:
    restricted = ish.Restricted(whole(), "layers.2.*")
    expected = float(np.abs(np.linalg.eigvalsh(block(restricted))).max())
    assert ish.hessian_spectral_norm(restricted).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("pattern", ["layers.0.weight", "layers.*.weight"])
def test_spectrum_is_that_of_the_dense_block(pattern: str) -> None:
    restricted = ish.Restricted(whole(), pattern)
    expected = np.linalg.eigvalsh(block(restricted))
    found = ish.eigenpairs(restricted, largest=3, smallest=2, tolerance=1e-9)
    ends = [pair.value for pair in (*found.smallest, *reversed(found.largest))]
    assert_close(np.array(ends), np.concatenate([expected[:2], expected[-3:]]), "ends of the spectrum", 1e-9)
    square = ish.hessian_spectrum(restricted).trace_of(lambda eigenvalues: eigenvalues**2)
    low, high = square.interval(0.9999)
    assert low <= float(np.sum(expected**2)) <= high, f"{square} is not {np.sum(expected**2)}"


def test_group_whose_name_is_a_pattern_is_found_by_its_name() -> None:
    zeros = {"layers[0]": np.zeros(1), "layers0": np.zeros(1)}
    oracle = FunctionOracle(zeros, lambda _: 0.0, lambda _: zeros, lambda _p, _v: zeros)
    assert ish.Restricted(oracle, "layers[0]").names == ("layers[0]",)


@pytest.mark.parametrize("wrong", ["layer.1.weight", ["layers.0.*", "layers.1.wieght"], []])
def test_pattern_that_matches_nothing_is_refused_with_the_names(wrong: Any) -> None:
    with pytest.raises(ModelError, match=r"no parameter group matches .*The groups are layers\.0\.weight, ") as caught:
        ish.Restricted(whole(), wrong)
    assert not wrong or "Did you mean 'layers.1.weight'?" in str(caught.value), caught.value


def test_it_passes_the_checks_of_oracles() -> None:
    results = check_oracle(ish.Restricted(whole(), "layers.1.*"))
    assert {result.status for result in results} == {"passed"}, f"{results}"
