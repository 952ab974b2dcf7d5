"""The demonstration: two networks, one that learned and one that memorized, before and after a rescaling.

Hidden units of a ReLU network can be rescaled without changing its function. Raw measures of
sharpness explode; normalized ones stay. Nothing here knows a framework: a backend trains the networks.
"""

from __future__ import annotations

from invariant_sharpness.cli.demonstration.results import Demonstration, NetworkResult
from invariant_sharpness.cli.demonstration.running import demonstrate
from invariant_sharpness.cli.demonstration.text import demonstration_text, print_demonstration

__all__ = ["Demonstration", "NetworkResult", "demonstrate", "demonstration_text", "print_demonstration"]
