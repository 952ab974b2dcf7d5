"""JAX functions as curvature oracles, and adapters for Flax, Equinox and Haiku. Importing this package does not import JAX."""

from __future__ import annotations

from invariant_sharpness_jax.adapters import from_equinox, from_haiku, from_linen, from_nnx
from invariant_sharpness_jax.application import Application
from invariant_sharpness_jax.entry import backend, model_metric

__all__ = ["Application", "backend", "from_equinox", "from_haiku", "from_linen", "from_nnx", "model_metric"]
