"""A run that is watched: a quadratic whose largest eigenvalue is 4."""

from __future__ import annotations

from typing import Any

import numpy as np

import invariant_sharpness as ish
from invariant_sharpness.evaluation.monitoring import Monitor
from invariant_sharpness_numpy import quadratic

CURVATURE = "hessian_spectral_norm"
DIAGONAL = np.array([1.0, 4.0])


def at(*point: float) -> ish.CurvatureOracle:
    """(w^2 + 4 v^2) / 2, whose largest eigenvalue is 4."""
    return quadratic(np.diag(DIAGONAL), np.array([point]))


def watched(steps: int, metrics: Any = CURVATURE, **settings: Any) -> Monitor:
    monitor = Monitor(metrics, **settings)
    for step in range(steps):
        monitor.step(at(1.0, 1.0 / (step + 1)), step=step, learning_rate=0.1 * (step + 1), train_loss=step)
    return monitor


def wrong(oracle: ish.CurvatureOracle) -> float:
    del oracle
    msg = "out of memory"
    raise RuntimeError(msg)
