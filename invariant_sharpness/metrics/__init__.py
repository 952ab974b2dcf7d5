"""The metrics: functions ``oracle -> Estimate`` that carry their declarations, and all of them by name in ``METRICS``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from invariant_sharpness.metrics import (
    average_case,
    batch,
    contrastive,
    critical,
    feature_flatness,
    fisher_rao,
    head_normalized,
    hessian_norms,
    keskar,
    m_sharpness,
    matrix_normalized,
    non_euclidean,
    normalized,
    pac_bayes,
    pacgen_bound,
    parameter_normalized,
    posterior,
    preconditioned,
    regrets,
    traces,
    volume,
    weight_norms,
    worst_case,
)
from invariant_sharpness.metrics.average_case import average_adaptive_sharpness, expected_sharpness
from invariant_sharpness.metrics.batch import batch_sharpness, pooled_batch_sharpness
from invariant_sharpness.metrics.contrastive import congruent_contrastive_ratio, contrastive_ratio
from invariant_sharpness.metrics.critical import critical_sharpness
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.declared import Metric
from invariant_sharpness.metrics.eigenvalues import hessian_spectrum
from invariant_sharpness.metrics.feature_flatness import relative_flatness
from invariant_sharpness.metrics.fisher_rao import fisher_rao_norm
from invariant_sharpness.metrics.head_normalized import head_normalized_sharpness
from invariant_sharpness.metrics.hessian_norms import (
    hessian_frobenius_norm,
    hessian_spectral_norm,
)
from invariant_sharpness.metrics.keskar import keskar_sharpness, keskar_subspace_sharpness
from invariant_sharpness.metrics.layer_changes import ChangeSensitivity, LayerChange, change_sensitivity
from invariant_sharpness.metrics.m_sharpness import one_step_sharpness, over_minibatches
from invariant_sharpness.metrics.matrix_normalized import matrix_normalized_sharpness
from invariant_sharpness.metrics.non_euclidean import non_euclidean_sharpness
from invariant_sharpness.metrics.normalized import normalized_sharpness
from invariant_sharpness.metrics.pac_bayes import pac_bayes_bound
from invariant_sharpness.metrics.pacgen_bound import pacgen
from invariant_sharpness.metrics.parameter_normalized import parameter_normalized_sharpness
from invariant_sharpness.metrics.posterior import posterior_sharpness
from invariant_sharpness.metrics.preconditioned import preconditioned_sharpness
from invariant_sharpness.metrics.regrets import kl_regret, local_regret
from invariant_sharpness.metrics.traces import hessian_trace
from invariant_sharpness.metrics.volume import flatness_volume
from invariant_sharpness.metrics.weight_norms import stable_rank, weight_frobenius_norm, weight_spectral_norm
from invariant_sharpness.metrics.worst_case import worst_case_adaptive_sharpness, worst_case_sharpness
from invariant_sharpness.results.names import ByName

__all__ = [
    "METRICS",
    "ChangeSensitivity",
    "LayerChange",
    "Metric",
    "average_adaptive_sharpness",
    "batch_sharpness",
    "change_sensitivity",
    "congruent_contrastive_ratio",
    "contrastive_ratio",
    "critical_sharpness",
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
    "metric",
    "non_euclidean_sharpness",
    "normalized_sharpness",
    "one_step_sharpness",
    "over_minibatches",
    "pac_bayes_bound",
    "pacgen",
    "parameter_normalized_sharpness",
    "pooled_batch_sharpness",
    "posterior_sharpness",
    "preconditioned_sharpness",
    "relative_flatness",
    "stable_rank",
    "weight_frobenius_norm",
    "weight_spectral_norm",
    "worst_case_adaptive_sharpness",
    "worst_case_sharpness",
]

_FAMILIES = (
    traces,
    hessian_norms,
    worst_case,
    keskar,
    average_case,
    volume,
    weight_norms,
    matrix_normalized,
    parameter_normalized,
    normalized,
    head_normalized,
    posterior,
    fisher_rao,
    feature_flatness,
    pac_bayes,
    pacgen_bound,
    regrets,
    contrastive,
    critical,
    batch,
    preconditioned,
    non_euclidean,
    m_sharpness,
)

METRICS: Mapping[str, Metric[...]] = MappingProxyType(
    ByName(
        {
            found.name: found
            for family in _FAMILIES
            for found in vars(family).values()
            if isinstance(found, Metric) and found.__module__ == family.__name__
        },
        "metric",
    )
)
"""Every metric of the library by name, in the order of their families."""
