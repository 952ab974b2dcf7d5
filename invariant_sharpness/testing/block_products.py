"""Products in a block against products one by one."""

from __future__ import annotations

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.protocol import BlockProductOracle, CurvatureOracle, require, supports
from invariant_sharpness.testing.points import nearby_point, precision, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures
from invariant_sharpness.testing.tolerances import of_rounding

_VECTORS = 3


def check_block_products(oracle: CurvatureOracle, seed: int) -> Figures:
    """``hessian_vector_products`` gives what ``hessian_vector_product`` gives for each vector, in order. Cost: six products."""
    if not supports(oracle, BlockProductOracle):
        msg = "the oracle multiplies with one vector at a time; many products take longer"
        raise CheckSkippedError(msg)
    able = require(oracle, BlockProductOracle, metric="check_block_products")
    point, scale = nearby_point(oracle, seed), magnitudes(oracle)
    vectors = [scaled_signs(oracle, seed, k) for k in range(_VECTORS)]
    block = able.hessian_vector_products(point, vectors)
    if len(block) != _VECTORS:
        msg = f"hessian_vector_products returned {len(block)} products for {_VECTORS} vectors: return one for each"
        raise CheckFailedError(msg)
    alone = [oracle.hessian_vector_product(point, vector) for vector in vectors]
    whole = max((scale * product).norm() for product in alone)
    difference = max((scale * (a - b)).norm() for a, b in zip(block, alone, strict=True))
    error = difference / whole if difference > 0 else 0.0
    if error > of_rounding(precision(oracle)):
        msg = (
            f"hessian_vector_products differs by {error:.2g} from products taken one by one. Keep the vectors of a block "
            f"apart and in order, and divide by the weights of the data once"
        )
        raise CheckFailedError(msg, {"relative_error": error})
    return {"relative_error": error}
