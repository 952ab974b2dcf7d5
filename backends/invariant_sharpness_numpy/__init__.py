"""The reference backend: closed-form derivatives in NumPy and float64, written to be read line by line."""

from __future__ import annotations

from invariant_sharpness_numpy.entry import backend
from invariant_sharpness_numpy.function_oracle import FunctionOracle, quadratic
from invariant_sharpness_numpy.network import ReluNetwork
from invariant_sharpness_numpy.network_oracle import NetworkOracle

__all__ = ["FunctionOracle", "NetworkOracle", "ReluNetwork", "backend", "quadratic"]
