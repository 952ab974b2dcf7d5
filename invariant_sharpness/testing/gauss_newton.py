"""The diagonal of the Gauss-Newton matrix against columns of the Hessian, where the two are the same."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness.estimators.exact_diagonal import MOST_OUTPUTS
from invariant_sharpness.protocol import CurvatureOracle, GaussNewtonDiagonalOracle, HostArrays, require, supports
from invariant_sharpness.testing.entries import chosen_entries, unit_vector
from invariant_sharpness.testing.points import precision
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures
from invariant_sharpness.testing.tolerances import of_rounding, relative_error


def check_gauss_newton_diagonal(oracle: CurvatureOracle, seed: int) -> Figures:
    """On certified groups, entries of the diagonal are those of the Hessian's columns; other groups are zero.

    The largest and a random entry of up to six groups. Cost: the diagonal, the certificate and twelve products.
    """
    able = _able(oracle)
    exact = exact_groups(able, curvature_defects(able, seed))
    if not exact:
        msg = "no group is certified, so there is nothing that the diagonal could be compared with"
        raise CheckSkippedError(msg)
    diagonal = oracle.to_numpy(able.gauss_newton_diagonal(oracle.parameters, exact))
    leaked = [name for name, values in diagonal.items() if name not in exact and np.any(values != 0)]
    if leaked:
        msg = f"gauss_newton_diagonal is not zero in {leaked[0]!r}, which was not among the names: return zeros there"
        raise CheckFailedError(msg)
    return _compared(able, diagonal, exact, seed)


def _able(oracle: CurvatureOracle) -> GaussNewtonDiagonalOracle:
    if not supports(oracle, GaussNewtonDiagonalOracle):
        msg = "the oracle has no Gauss-Newton diagonal; the diagonal of the Hessian will be sampled"
        raise CheckSkippedError(msg)
    able = require(oracle, GaussNewtonDiagonalOracle, metric="check_gauss_newton_diagonal")
    if able.outputs_per_example > MOST_OUTPUTS:
        msg = f"{able.outputs_per_example} outputs per example are too many for it; the diagonal will be sampled"
        raise CheckSkippedError(msg)
    return able


def _compared(able: GaussNewtonDiagonalOracle, diagonal: HostArrays, exact: frozenset[str], seed: int) -> Figures:
    sizes = able.to_numpy(magnitudes(able))
    relevant = {name: diagonal[name] * sizes[name] ** 2 for name in exact}
    whole = max(float(np.max(np.abs(values), initial=0.0)) for values in relevant.values())
    worst = 0.0
    for name, index in chosen_entries(relevant, exact, seed):
        product = able.hessian_vector_product(able.parameters, unit_vector(able, (name, index)))
        bend, found = float(able.to_numpy(product)[name][index]), float(diagonal[name][index])
        local = whole / sizes[name][index] ** 2
        error = relative_error(abs(found - bend), max(abs(found), abs(bend)), local, precision(able))
        worst = max(worst, error)
        if error > of_rounding(precision(able)):
            msg = (
                f"gauss_newton_diagonal is {found:.6g} in {name!r} at {index}, but the Hessian there is {bend:.6g}, although "
                f"output_curvature says that the outputs are affine in {name!r}, where the two are the same. One of the two "
                f"methods is wrong: square each example's backward pass before summing, and sum positions before squaring"
            )
            raise CheckFailedError(msg, {"relative_error": error})
    return {"relative_error": worst, "certified_groups": len(exact)}
