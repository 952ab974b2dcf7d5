"""From a framework to an oracle: an engine supplies sums over a batch, the rest is here, once.

``Engine`` and ``Point`` say what a framework supplies; ``DatasetOracle`` is the pass over the data.
"""

from __future__ import annotations

from invariant_sharpness.adapters.building import checked_data
from invariant_sharpness.adapters.dataset_oracle import DatasetOracle
from invariant_sharpness.adapters.engine import Cotangents, Engine, Point, Sums
from invariant_sharpness.adapters.host_engine import EngineDefaults, HostEngine

__all__ = ["Cotangents", "DatasetOracle", "Engine", "EngineDefaults", "HostEngine", "Point", "Sums", "checked_data"]
