"""The metrics, each a plain function ``oracle -> Estimate``, and their declarations in ``METRICS``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from invariant_sharpness.metrics.declaration import Metric
from invariant_sharpness.metrics.fisher_rao import FISHER_RAO, fisher_rao_norm
from invariant_sharpness.metrics.flatness_volume import FLATNESS_VOLUME, flatness_volume
from invariant_sharpness.metrics.head_normalized import HEAD_NORMALIZED, head_normalized_sharpness
from invariant_sharpness.metrics.hessian_norms import (
    HESSIAN_NORMS,
    hessian_frobenius_norm,
    hessian_spectral_norm,
    hessian_trace,
)
from invariant_sharpness.metrics.keskar import (
    KESKAR,
    KESKAR_SUBSPACE,
    keskar_sharpness,
    keskar_subspace_sharpness,
)
from invariant_sharpness.metrics.largest_rise import (
    WORST_CASE,
    WORST_CASE_ADAPTIVE,
    worst_case_adaptive_sharpness,
    worst_case_sharpness,
)
from invariant_sharpness.metrics.matrix_normalized import MATRIX_NORMALIZED, matrix_normalized_sharpness
from invariant_sharpness.metrics.mean_rise import (
    AVERAGE_ADAPTIVE,
    EXPECTED,
    average_adaptive_sharpness,
    expected_sharpness,
)
from invariant_sharpness.metrics.minibatch import (
    MINIBATCH,
    congruent_contrastive_ratio,
    contrastive_ratio,
    kl_regret,
    local_regret,
)
from invariant_sharpness.metrics.normalized import NORMALIZED, normalized_sharpness
from invariant_sharpness.metrics.pac_bayes import PAC_BAYES, pac_bayes_bound
from invariant_sharpness.metrics.pacgen_psi import PACGEN, pacgen
from invariant_sharpness.metrics.parameter_normalized import PARAMETER_NORMALIZED, parameter_normalized_sharpness
from invariant_sharpness.metrics.posterior import POSTERIOR, posterior_sharpness
from invariant_sharpness.metrics.relative_flatness import RELATIVE_FLATNESS, relative_flatness
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
    "average_adaptive_sharpness",
    "congruent_contrastive_ratio",
    "contrastive_ratio",
    "expected_sharpness",
    "fisher_rao_norm",
    "flatness_volume",
    "head_normalized_sharpness",
    "hessian_frobenius_norm",
    "hessian_spectral_norm",
    "hessian_spectrum",
    "hessian_trace",
    "keskar_sharpness",
    "keskar_subspace_sharpness",
    "kl_regret",
    "local_regret",
    "matrix_normalized_sharpness",
    "normalized_sharpness",
    "pac_bayes_bound",
    "pacgen",
    "parameter_normalized_sharpness",
    "posterior_sharpness",
    "relative_flatness",
    "stable_rank",
    "weight_frobenius_norm",
    "weight_spectral_norm",
    "worst_case_adaptive_sharpness",
    "worst_case_sharpness",
]

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            *HESSIAN_NORMS,
            WORST_CASE,
            KESKAR,
            KESKAR_SUBSPACE,
            EXPECTED,
            FLATNESS_VOLUME,
            *WEIGHT_NORMS,
            MATRIX_NORMALIZED,
            PARAMETER_NORMALIZED,
            NORMALIZED,
            HEAD_NORMALIZED,
            POSTERIOR,
            FISHER_RAO,
            RELATIVE_FLATNESS,
            WORST_CASE_ADAPTIVE,
            AVERAGE_ADAPTIVE,
            PAC_BAYES,
            PACGEN,
            *MINIBATCH,
        )
    }
)
"""Every metric of the library by name."""
