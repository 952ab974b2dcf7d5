"""What leaves the function of a network alone."""

from __future__ import annotations

from invariant_sharpness.symmetries.unit_rescaling import UnitRescaling, chain_rescalings, unit_count

__all__ = ["UnitRescaling", "chain_rescalings", "unit_count"]
