"""Sharpness of neural networks, measured independently of reparametrization."""

from __future__ import annotations

from invariant_sharpness.adapters.registry import oracle
from invariant_sharpness.coordinates import GaussNewton, Moved, Scaled
from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.estimators.densities import SpectralDensity
from invariant_sharpness.estimators.diagonals import HessianDiagonal
from invariant_sharpness.estimators.exact_diagonal import hessian_diagonal
from invariant_sharpness.estimators.hutchinson import hutch_plus_plus_trace, hutchinson_trace, hutchinson_trace_within
from invariant_sharpness.estimators.lanczos import Eigenpairs, eigenpairs
from invariant_sharpness.estimators.lanczos_quadrature import schatten_norm, spectral_density
from invariant_sharpness.estimators.leave_one_out_diagonal import xdiag
from invariant_sharpness.estimators.leave_one_out_trace import xtrace
from invariant_sharpness.estimators.lipschitz import hessian_lipschitz_of_diagonal, hessian_lipschitz_of_operator
from invariant_sharpness.evaluation.certificate import Certificate
from invariant_sharpness.evaluation.certifying import certify
from invariant_sharpness.evaluation.measuring import measure
from invariant_sharpness.evaluation.report import Report
from invariant_sharpness.metrics import (
    METRICS,
    Metric,
    average_adaptive_sharpness,
    congruent_contrastive_ratio,
    contrastive_ratio,
    expected_sharpness,
    fisher_rao_norm,
    flatness_volume,
    head_normalized_sharpness,
    hessian_frobenius_norm,
    hessian_spectral_norm,
    hessian_spectrum,
    hessian_trace,
    keskar_sharpness,
    keskar_subspace_sharpness,
    kl_regret,
    local_regret,
    matrix_normalized_sharpness,
    normalized_sharpness,
    pac_bayes_bound,
    pacgen,
    parameter_normalized_sharpness,
    posterior_sharpness,
    relative_flatness,
    stable_rank,
    weight_frobenius_norm,
    weight_spectral_norm,
    worst_case_adaptive_sharpness,
    worst_case_sharpness,
)
from invariant_sharpness.metrics.pac_bayes import pac_bayes_terms
from invariant_sharpness.pac_bayes import PacBayesBound
from invariant_sharpness.parameters.heads import Heads
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup
from invariant_sharpness.results.estimate import Estimate, GroupEstimate
from invariant_sharpness.runtime.checkpoints import checkpoint
from invariant_sharpness.runtime.memory import memory_limit
from invariant_sharpness.symmetries import (
    HeadMixing,
    OutputScale,
    OutputShift,
    Symmetries,
    UnitPermutation,
    find_symmetries,
)

__all__ = [
    "METRICS",
    "Certificate",
    "CurvatureOracle",
    "Eigenpairs",
    "Estimate",
    "GaussNewton",
    "GroupEstimate",
    "HeadMixing",
    "Heads",
    "HessianDiagonal",
    "InvariantSharpnessError",
    "Metric",
    "Moved",
    "OutputScale",
    "OutputShift",
    "PacBayesBound",
    "ParameterGroup",
    "ParameterVector",
    "Report",
    "Scaled",
    "SpectralDensity",
    "Symmetries",
    "UnitPermutation",
    "average_adaptive_sharpness",
    "certify",
    "checkpoint",
    "congruent_contrastive_ratio",
    "contrastive_ratio",
    "eigenpairs",
    "expected_sharpness",
    "find_symmetries",
    "fisher_rao_norm",
    "flatness_volume",
    "head_normalized_sharpness",
    "hessian_diagonal",
    "hessian_frobenius_norm",
    "hessian_lipschitz_of_diagonal",
    "hessian_lipschitz_of_operator",
    "hessian_spectral_norm",
    "hessian_spectrum",
    "hessian_trace",
    "hutch_plus_plus_trace",
    "hutchinson_trace",
    "hutchinson_trace_within",
    "keskar_sharpness",
    "keskar_subspace_sharpness",
    "kl_regret",
    "local_regret",
    "matrix_normalized_sharpness",
    "measure",
    "memory_limit",
    "normalized_sharpness",
    "oracle",
    "pac_bayes_bound",
    "pac_bayes_terms",
    "pacgen",
    "parameter_normalized_sharpness",
    "posterior_sharpness",
    "relative_flatness",
    "schatten_norm",
    "spectral_density",
    "stable_rank",
    "weight_frobenius_norm",
    "weight_spectral_norm",
    "worst_case_adaptive_sharpness",
    "worst_case_sharpness",
    "xdiag",
    "xtrace",
]
