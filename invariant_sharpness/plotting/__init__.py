"""Pictures of results. They take results and return matplotlib axes, and never touch pyplot."""

from __future__ import annotations

from invariant_sharpness.plotting.certificate import plot_certificate
from invariant_sharpness.plotting.course import plot_course
from invariant_sharpness.plotting.figures import new_figure
from invariant_sharpness.plotting.groups import MOST_BARS, plot_groups, plot_groups_together
from invariant_sharpness.plotting.landscape import plot_landscape
from invariant_sharpness.plotting.ranking import plot_gaps, plot_sign_errors
from invariant_sharpness.plotting.ratios import plot_ratios
from invariant_sharpness.plotting.rescaling import plot_rescaling, plot_rescalings_together
from invariant_sharpness.plotting.spectrum import plot_density

__all__ = [
    "MOST_BARS",
    "new_figure",
    "plot_certificate",
    "plot_course",
    "plot_density",
    "plot_gaps",
    "plot_groups",
    "plot_groups_together",
    "plot_landscape",
    "plot_ratios",
    "plot_rescaling",
    "plot_rescalings_together",
    "plot_sign_errors",
]
