"""The metrics, each a plain function ``oracle -> Estimate``, and their declarations in ``METRICS``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from invariant_sharpness.metrics.declaration import Metric
from invariant_sharpness.metrics.fisher_rao import FISHER_RAO, fisher_rao_norm
from invariant_sharpness.metrics.flatness_volume import FLATNESS_VOLUME, flatness_volume
from invariant_sharpness.metrics.hessian_norms import (
    HESSIAN_NORMS,
    hessian_frobenius_norm,
    hessian_spectral_norm,
    hessian_trace,
)
from invariant_sharpness.metrics.matrix_normalized import MATRIX_NORMALIZED, matrix_normalized_sharpness
from invariant_sharpness.metrics.minibatch import MINIBATCH, contrastive_ratio, kl_regret, local_regret
from invariant_sharpness.metrics.normalized import NORMALIZED, normalized_sharpness
from invariant_sharpness.metrics.parameter_normalized import PARAMETER_NORMALIZED, parameter_normalized_sharpness
from invariant_sharpness.metrics.spectrum import hessian_spectrum
from invariant_sharpness.metrics.weight_norms import (
    WEIGHT_NORMS,
    stable_rank,
    weight_frobenius_norm,
    weight_spectral_norm,
)

__all__ = [
    "METRICS",
    "Metric",
    "contrastive_ratio",
    "fisher_rao_norm",
    "flatness_volume",
    "hessian_frobenius_norm",
    "hessian_spectral_norm",
    "hessian_spectrum",
    "hessian_trace",
    "kl_regret",
    "local_regret",
    "matrix_normalized_sharpness",
    "normalized_sharpness",
    "parameter_normalized_sharpness",
    "stable_rank",
    "weight_frobenius_norm",
    "weight_spectral_norm",
]

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            *HESSIAN_NORMS,
            MATRIX_NORMALIZED,
            PARAMETER_NORMALIZED,
            NORMALIZED,
            FISHER_RAO,
            FLATNESS_VOLUME,
            *MINIBATCH,
            *WEIGHT_NORMS,
        )
    }
)
"""Every metric of the library by name."""
