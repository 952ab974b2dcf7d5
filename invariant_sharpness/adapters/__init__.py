"""From a framework to an oracle: an engine supplies sums over a batch, the rest is here, once.

``Engine`` and ``Point`` say what a framework supplies; ``DatasetOracle`` is the pass over the data.
"""

from __future__ import annotations

from invariant_sharpness.adapters.dataset_oracle import DatasetOracle
from invariant_sharpness.adapters.engine import Cotangents, Engine, EngineDefaults, Point, Sums

__all__ = ["Cotangents", "DatasetOracle", "Engine", "EngineDefaults", "Point", "Sums"]
