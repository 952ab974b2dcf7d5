"""All checks of an oracle, by name and one after the other."""

from __future__ import annotations

from functools import partial

from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.testing.additivity import check_block_products
from invariant_sharpness.testing.derivatives import (
    check_gradient,
    check_linearity,
    check_second_derivative,
    check_symmetry,
)
from invariant_sharpness.testing.example_derivatives import check_jacobian, check_second_moments
from invariant_sharpness.testing.gauss_newton import (
    check_gauss_newton_diagonal,
    check_gauss_newton_product,
    check_sampled_outputs,
)
from invariant_sharpness.testing.precision import Check, decided_in_double_precision
from invariant_sharpness.testing.purity import check_determinism, check_purity
from invariant_sharpness.testing.residual_diagonal import check_node_curvature, check_residual_diagonal
from invariant_sharpness.testing.results import CheckResult, OnFail, caught, results_of
from invariant_sharpness.testing.structure import check_finite, check_groups, check_round_trip, check_vectors

CHECKS: dict[str, Check] = {
    "check_groups": check_groups,
    "check_vectors": check_vectors,
    "check_round_trip": check_round_trip,
    "check_finite": check_finite,
    "check_purity": check_purity,
    "check_determinism": check_determinism,
    "check_gradient": decided_in_double_precision(check_gradient),
    "check_linearity": check_linearity,
    "check_symmetry": check_symmetry,
    "check_second_derivative": decided_in_double_precision(check_second_derivative),
    "check_block_products": check_block_products,
    "check_gauss_newton_diagonal": check_gauss_newton_diagonal,
    "check_gauss_newton_product": check_gauss_newton_product,
    "check_residual_diagonal": check_residual_diagonal,
    "check_node_curvature": check_node_curvature,
    "check_jacobian": decided_in_double_precision(check_jacobian),
    "check_sampled_outputs": check_sampled_outputs,
    "check_second_moments": check_second_moments,
}
"""All checks of an oracle by name, in the order in which they run: a later one relies on what an earlier one saw."""


@checked_numbers
def check_oracle(oracle: CurvatureOracle, *, seed: int = 0, on_fail: OnFail = "raise") -> list[CheckResult]:
    r"""Check that an oracle is what the metrics take it for.

    Its groups and vectors fit; its methods are pure and deterministic; its gradient is that of the loss; its
    product is linear, symmetric and the derivative of the gradient; its optional capabilities agree with these.
    Derivatives are checked at a generic point near the parameters, in the scaled coordinates :math:`\theta_i / |\theta_i|`,
    with tolerances that follow from the precision of the parameters and from the rounding seen. What differences in single
    precision cannot decide, since their steps cross kinks, is decided by a copy in double precision, in PyTorch and JAX.

    Parameters
    ----------
    oracle
        Any object with the methods of :class:`invariant_sharpness.CurvatureOracle`.
    seed
        Seed of the random directions, an integer from 0. What passes with one seed passes with all others but for a bug.
    on_fail
        ``"raise"``: stop at the first failure. ``"return"``: run everything.

    Returns
    -------
    list of CheckResult
        One per check, in the order of :data:`CHECKS`. Cost: about 60 losses, 45 gradients, 70 products, 30 passes for outputs and 70 draws of them; about as many losses and gradients again where the copy decides.

    Raises
    ------
    CheckFailedError
        With ``on_fail="raise"``, at the first check that fails; names the check.
    ArgumentError
        If ``on_fail`` is neither ``"raise"`` nor ``"return"``.

    Examples
    --------
    A product with a matrix that is not symmetric is no second derivative. An oracle of three plain functions has none of the
    eight optional capabilities.

    >>> from invariant_sharpness.testing import check_oracle
    >>> from invariant_sharpness_numpy import FunctionOracle, quadratic
    >>> statuses = [result.status for result in check_oracle(quadratic([[2.0]], [[1.0]]))]
    >>> statuses.count("passed"), statuses.count("skipped")
    (10, 8)
    >>> loss, gradient = (lambda p: float(p["x"] @ p["x"]) / 2), (lambda p: p)
    >>> wrong = FunctionOracle({"x": [3.0, 4.0]}, loss, gradient, lambda p, v: {"x": v["x"] + [0.0, v["x"][0]]})
    >>> results = check_oracle(wrong, on_fail="return")
    >>> [result.check for result in results if result.status == "failed"]
    ['check_symmetry', 'check_second_derivative']
    """
    checks = {name: caught(partial(check, oracle, seed), "the oracle") for name, check in CHECKS.items()}
    return results_of(checks, on_fail)
