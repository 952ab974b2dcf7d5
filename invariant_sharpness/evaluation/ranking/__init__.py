"""Ranking of measures by how well they order generalization gaps."""

from __future__ import annotations

from invariant_sharpness.evaluation.ranking.bootstrap import Interval
from invariant_sharpness.evaluation.ranking.harness import rank
from invariant_sharpness.evaluation.ranking.result import Ranking

__all__ = ["Interval", "Ranking", "rank"]
