"""Sharpness of neural networks, measured independently of reparametrization."""

from __future__ import annotations

from invariant_sharpness import errors, estimators, metrics, symmetries
from invariant_sharpness.adapters.optimizers import OptimizerState, optimizer_state
from invariant_sharpness.adapters.registry import oracle
from invariant_sharpness.coordinates import GaussNewton, Moved, Restricted, Scaled, changes, scales
from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.estimators import (
    Eigenpairs,
    HessianDiagonal,
    SpectralDensity,
    eigenpairs,
    hessian_diagonal,
    hessian_lipschitz_of_diagonal,
    hessian_lipschitz_of_operator,
    hutch_plus_plus_trace,
    hutchinson_trace,
    hutchinson_trace_within,
    schatten_norm,
    spectral_density,
    xdiag,
    xtrace,
)
from invariant_sharpness.evaluation.certificate import Certificate
from invariant_sharpness.evaluation.certifying import certify
from invariant_sharpness.evaluation.comparing import compare
from invariant_sharpness.evaluation.comparison import Comparison
from invariant_sharpness.evaluation.measuring import measure
from invariant_sharpness.evaluation.monitoring import Monitor
from invariant_sharpness.evaluation.planning import MeasurementPlan, plan
from invariant_sharpness.evaluation.ranking import Ranking, rank
from invariant_sharpness.evaluation.report import Report
from invariant_sharpness.metrics import *  # noqa: F403
from invariant_sharpness.metrics.pac_bayes import pac_bayes_terms
from invariant_sharpness.old_paths import accept_old_paths
from invariant_sharpness.pac_bayes import PacBayesBound
from invariant_sharpness.parameters.heads import Heads
from invariant_sharpness.parameters.low_rank import adapter_heads
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
    "Certificate",
    "Comparison",
    "CurvatureOracle",
    "Eigenpairs",
    "Estimate",
    "GaussNewton",
    "GroupEstimate",
    "HeadMixing",
    "Heads",
    "HessianDiagonal",
    "InvariantSharpnessError",
    "MeasurementPlan",
    "Monitor",
    "Moved",
    "OptimizerState",
    "OutputScale",
    "OutputShift",
    "PacBayesBound",
    "ParameterGroup",
    "ParameterVector",
    "Ranking",
    "Report",
    "Restricted",
    "Scaled",
    "SpectralDensity",
    "Symmetries",
    "UnitPermutation",
    "adapter_heads",
    "certify",
    "changes",
    "checkpoint",
    "compare",
    "eigenpairs",
    "errors",
    "estimators",
    "find_symmetries",
    "hessian_diagonal",
    "hessian_lipschitz_of_diagonal",
    "hessian_lipschitz_of_operator",
    "hutch_plus_plus_trace",
    "hutchinson_trace",
    "hutchinson_trace_within",
    "measure",
    "memory_limit",
    "metrics",
    "optimizer_state",
    "oracle",
    "pac_bayes_terms",
    "plan",
    "rank",
    "scales",
    "schatten_norm",
    "spectral_density",
    "symmetries",
    "xdiag",
    "xtrace",
]
__all__ += metrics.__all__

accept_old_paths()
