"""The metrics, each a plain function ``oracle -> Estimate``, and their declarations in ``METRICS``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from invariant_sharpness.metrics.average_case import (
    AVERAGE_ADAPTIVE,
    EXPECTED,
    average_adaptive_sharpness,
    expected_sharpness,
)
from invariant_sharpness.metrics.contrastive import (
    CONGRUENT,
    CONTRASTIVE,
    congruent_contrastive_ratio,
    contrastive_ratio,
)
from invariant_sharpness.metrics.declaration import Metric
from invariant_sharpness.metrics.feature_flatness import RELATIVE_FLATNESS, relative_flatness
from invariant_sharpness.metrics.fisher_rao import FISHER_RAO, fisher_rao_norm
from invariant_sharpness.metrics.head_normalized import HEAD_NORMALIZED, head_normalized_sharpness
from invariant_sharpness.metrics.hessian_norms import (
    HESSIAN_NORMS,
    hessian_frobenius_norm,
    hessian_spectral_norm,
    hessian_spectrum,
    hessian_trace,
)
from invariant_sharpness.metrics.keskar import (
    KESKAR,
    KESKAR_SUBSPACE,
    keskar_sharpness,
    keskar_subspace_sharpness,
)
from invariant_sharpness.metrics.matrix_normalized import MATRIX_NORMALIZED, matrix_normalized_sharpness
from invariant_sharpness.metrics.normalized import NORMALIZED, normalized_sharpness
from invariant_sharpness.metrics.pac_bayes import PAC_BAYES, pac_bayes_bound
from invariant_sharpness.metrics.pacgen_bound import PACGEN, pacgen
from invariant_sharpness.metrics.parameter_normalized import PARAMETER_NORMALIZED, parameter_normalized_sharpness
from invariant_sharpness.metrics.posterior import POSTERIOR, posterior_sharpness
from invariant_sharpness.metrics.regrets import KL_REGRET, LOCAL_REGRET, kl_regret, local_regret
from invariant_sharpness.metrics.volume import FLATNESS_VOLUME, flatness_volume
from invariant_sharpness.metrics.weight_norms import (
    WEIGHT_NORMS,
    stable_rank,
    weight_frobenius_norm,
    weight_spectral_norm,
)
from invariant_sharpness.metrics.worst_case import (
    WORST_CASE,
    WORST_CASE_ADAPTIVE,
    worst_case_adaptive_sharpness,
    worst_case_sharpness,
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
            LOCAL_REGRET,
            KL_REGRET,
            CONTRASTIVE,
            CONGRUENT,
        )
    }
)
"""Every metric of the library by name."""
