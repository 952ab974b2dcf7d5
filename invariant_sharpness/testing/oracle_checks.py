"""All checks of an oracle, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.testing.block_products import check_block_products
from invariant_sharpness.testing.example_gradients import check_second_moments
from invariant_sharpness.testing.first_derivative import check_gradient
from invariant_sharpness.testing.gauss_newton import check_gauss_newton_diagonal
from invariant_sharpness.testing.gauss_newton_product import check_gauss_newton_product
from invariant_sharpness.testing.jacobian import check_jacobian
from invariant_sharpness.testing.purity import check_determinism, check_purity
from invariant_sharpness.testing.results import CheckResult, Figures
from invariant_sharpness.testing.running import OnFail, blamed_on, results_of
from invariant_sharpness.testing.sampled_outputs import check_sampled_outputs
from invariant_sharpness.testing.second_derivative import check_linearity, check_second_derivative, check_symmetry
from invariant_sharpness.testing.structure import check_finite, check_groups, check_round_trip, check_vectors

Check = Callable[[CurvatureOracle, int], Figures]
"""A check: returns what it measured, or raises :class:`CheckFailedError` or :class:`CheckSkippedError`."""

CHECKS: dict[str, Check] = {
    "check_groups": check_groups,
    "check_vectors": check_vectors,
    "check_round_trip": check_round_trip,
    "check_finite": check_finite,
    "check_purity": check_purity,
    "check_determinism": check_determinism,
    "check_gradient": check_gradient,
    "check_linearity": check_linearity,
    "check_symmetry": check_symmetry,
    "check_second_derivative": check_second_derivative,
    "check_block_products": check_block_products,
    "check_gauss_newton_diagonal": check_gauss_newton_diagonal,
    "check_gauss_newton_product": check_gauss_newton_product,
    "check_jacobian": check_jacobian,
    "check_sampled_outputs": check_sampled_outputs,
    "check_second_moments": check_second_moments,
}
"""All checks of an oracle by name, in the order in which they run: a later one relies on what an earlier one saw."""


def check_oracle(oracle: CurvatureOracle, *, seed: int = 0, on_fail: OnFail = "raise") -> list[CheckResult]:
    r"""Check that an oracle is what the metrics take it for.

    Its groups and vectors fit; its methods are pure and deterministic; its gradient is that of the loss; its
    product is linear, symmetric and the derivative of the gradient; its optional capabilities agree with these.
    Derivatives are checked at a generic point near the parameters, in the scaled coordinates :math:`\theta_i / |\theta_i|`,
    with tolerances that follow from the precision of the parameters and from the rounding seen.

    Parameters
    ----------
    oracle
        Any object with the methods of :class:`invariant_sharpness.CurvatureOracle`.
    seed
        Of the random directions. What passes with one seed passes with all others but for a bug.
    on_fail
        ``"raise"``: stop at the first failure. ``"return"``: run everything.

    Returns
    -------
    list of CheckResult
        One per check, in the order of :data:`CHECKS`. Cost: about 50 losses, 40 gradients, 70 products, 30 passes for outputs and 70 draws of them.

    Raises
    ------
    CheckFailedError
        With ``on_fail="raise"``, at the first check that fails; names the check.
    ValueError
        If ``on_fail`` is neither ``"raise"`` nor ``"return"``.
    """
    checks = {name: blamed_on("the oracle", partial(check, oracle, seed)) for name, check in CHECKS.items()}
    return results_of(checks, on_fail)
