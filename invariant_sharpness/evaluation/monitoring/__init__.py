"""Sharpness in the course of a training run."""

from __future__ import annotations

from invariant_sharpness.evaluation.monitoring.entries import Entry
from invariant_sharpness.evaluation.monitoring.history import History
from invariant_sharpness.evaluation.monitoring.monitor import Monitor

__all__ = ["Entry", "History", "Monitor"]
