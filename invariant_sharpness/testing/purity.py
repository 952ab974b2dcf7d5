"""Methods are pure functions: they change nothing, and equal arguments give equal results."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.testing.evaluations import evaluations, on_host
from invariant_sharpness.testing.points import nearby_point, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, Figures


def check_purity(oracle: CurvatureOracle, seed: int) -> Figures:
    """No method changes its arguments, or the parameters of the model. Cost: one call of each method."""
    point, direction = nearby_point(oracle, seed), scaled_signs(oracle, seed, 0)
    for method, evaluate in evaluations(oracle).items():
        before = [on_host(oracle, vector) for vector in (point, direction, oracle.parameters)]
        evaluate(point, direction)
        after = [on_host(oracle, vector) for vector in (point, direction, oracle.parameters)]
        for what, old, new in zip(
            ("its first argument", "its second argument", "parameters"), before, after, strict=True
        ):
            if any(not np.array_equal(a, b) for a, b in zip(old, new, strict=True)):
                msg = f"{method} changed {what}: work on copies, and put the model back in a finally clause"
                raise CheckFailedError(msg)
    return {}


def check_determinism(oracle: CurvatureOracle, seed: int) -> Figures:
    """Each method gives the same result at the same point, bit by bit, also after it was asked about another one.

    Cost: three calls of each method.
    """
    point, other = nearby_point(oracle, seed), nearby_point(oracle, seed + 1)
    direction = scaled_signs(oracle, seed, 0)
    for method, evaluate in evaluations(oracle).items():
        first = on_host(oracle, evaluate(point, direction))
        evaluate(other, direction)
        second = on_host(oracle, evaluate(point, direction))
        pairs = list(zip(first, second, strict=True))
        if any(not np.array_equal(a, b) for a, b in pairs):
            difference = max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in pairs)
            msg = (
                f"{method} gave two results for the same arguments, which differ by up to {difference:.2g}. Turn off what is "
                f"random (dropout, augmentation, sampling) and what remembers (running statistics); on a GPU, ask the "
                f"framework for deterministic kernels"
            )
            raise CheckFailedError(msg, {"difference": difference})
    return {}
