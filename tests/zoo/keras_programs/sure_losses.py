"""Cross-entropies of logits of which a network is sure, with their derivatives in 60 digits."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np

LOGITS = (14.0, 0.0, -5.0, -9.0)
"""The first class has all probability but 1e-6, of which 1 - p in float32 has no digit but the first."""


BINARY_LOGITS, BINARY_LABELS = (14.0, -14.0, 30.0, -30.0), (1, 0, 1, 0)


def of_classes(z: Any, label: int) -> tuple[Any, Any, Any]:
    """Value, gradient and Hessian of the cross-entropy."""
    with localcontext() as context:
        context.prec = 60
        exponentials = [Decimal(float(value)).exp() for value in z]
        p = [e / sum(exponentials) for e in exponentials]
        gradient = [float(p[k] - (k == label)) for k in range(len(p))]
        hessian = [[float(p[k] * ((k == j) - p[j])) for j in range(len(p))] for k in range(len(p))]
        return -float(p[label].ln()), np.array(gradient), np.array(hessian)


def of_logits(z: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Values, slopes and curvatures of the binary cross-entropy, one logit by one."""
    with localcontext() as context:
        context.prec = 60
        wrong = [
            1 / (1 + (Decimal(float(value)) * (1 if label else -1)).exp())
            for value, label in zip(z, labels, strict=True)
        ]
        values = [-float((1 - w).ln()) for w in wrong]
        slopes = [float(-w if label else w) for w, label in zip(wrong, labels, strict=True)]
        return np.array(values), np.array(slopes), np.array([float(w * (1 - w)) for w in wrong])


def close(value: Any, expected: Any, dtype: str, what: str) -> None:
    """To 16 units in the last digit of every entry."""
    error = float(np.max(np.abs(np.asarray(value, dtype=np.float64) / expected - 1)))
    assert error <= 16 * np.finfo(dtype).eps, f"{what} is off by {error:.1e}: {value} and not {expected}"


def close_matrix(value: Any, expected: Any, dtype: str, what: str) -> None:
    """To rounding of what Cauchy and Schwarz bound every entry by."""
    bounds = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    error = float(np.max(np.abs(value - expected) / bounds))
    assert error <= 16 * np.finfo(dtype).eps, f"an entry of {what} is off by {error:.1e} of its bound"
