"""The PAC-Bayes bound behind normalized sharpness: divergences, the cost of scales, and the bound with its terms."""

from __future__ import annotations

from invariant_sharpness.pac_bayes.bound import PacBayesBound, hoeffding_term
from invariant_sharpness.pac_bayes.divergence import (
    best_common_variance,
    best_product_variances,
    divergence_at_equal_variances,
    gaussian_divergence,
    least_divergence,
)
from invariant_sharpness.pac_bayes.scales import NATS_PER_FLOAT, SCALES, number_of_floats

__all__ = [
    "NATS_PER_FLOAT",
    "SCALES",
    "PacBayesBound",
    "best_common_variance",
    "best_product_variances",
    "divergence_at_equal_variances",
    "gaussian_divergence",
    "hoeffding_term",
    "least_divergence",
    "number_of_floats",
]
