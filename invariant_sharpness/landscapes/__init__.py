"""Loss landscapes: the loss on lines and planes through the parameters, in directions that follow a rescaling or do not."""

from __future__ import annotations

from invariant_sharpness.landscapes.directions import balanced_directions, filter_normalized_directions
from invariant_sharpness.landscapes.surface import Landscape, loss_landscape
from invariant_sharpness.plotting import plot_landscape

__all__ = ["Landscape", "balanced_directions", "filter_normalized_directions", "loss_landscape", "plot_landscape"]
