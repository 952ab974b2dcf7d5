"""Sharpness of neural networks, measured independently of reparametrization."""

from __future__ import annotations

from invariant_sharpness.checkpoints import checkpoint
from invariant_sharpness.coordinates import GaussNewton, Moved, Scaled
from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.estimate import Estimate, GroupEstimate
from invariant_sharpness.estimators.diagonal import hessian_diagonal
from invariant_sharpness.estimators.group_diagonals import HessianDiagonal
from invariant_sharpness.measuring import measure
from invariant_sharpness.memory import memory_limit
from invariant_sharpness.metrics import (
    METRICS,
    Metric,
    fisher_rao_norm,
    hessian_frobenius_norm,
    hessian_spectral_norm,
    hessian_trace,
    matrix_normalized_sharpness,
    normalized_sharpness,
    parameter_normalized_sharpness,
)
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup
from invariant_sharpness.registry import oracle
from invariant_sharpness.report import Report
from invariant_sharpness.vector import ParameterVector

__all__ = [
    "METRICS",
    "CurvatureOracle",
    "Estimate",
    "GaussNewton",
    "GroupEstimate",
    "HessianDiagonal",
    "InvariantSharpnessError",
    "Metric",
    "Moved",
    "ParameterGroup",
    "ParameterVector",
    "Report",
    "Scaled",
    "checkpoint",
    "fisher_rao_norm",
    "hessian_diagonal",
    "hessian_frobenius_norm",
    "hessian_spectral_norm",
    "hessian_trace",
    "matrix_normalized_sharpness",
    "measure",
    "memory_limit",
    "normalized_sharpness",
    "oracle",
    "parameter_normalized_sharpness",
]
