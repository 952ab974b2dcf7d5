"""The figure of a training at the edge of stability, and its numbers in a line."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

STATIC = Path(__file__).parents[1] / "_static"

Curves = dict[str, list[float]]
"""The steps, the losses, and any number of curvatures."""


def draw(name: str, title: str, curves: Curves, threshold: float, *, line: str) -> None:
    """Losses above, curvatures and the threshold below; ``line`` is the name of the threshold."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(6, 5), sharex=True, layout="constrained", height_ratios=(1, 2))
    above.semilogy(curves["step"], curves["loss"], color="0.3")
    above.set(ylabel="loss", title=title)
    for measure, values in curves.items():
        if measure not in ("step", "loss"):
            below.plot(curves["step"], values, ".-", label=measure, linewidth=1, markersize=4)
    below.axhline(threshold, color="0.3", linestyle="--", label=line)
    below.set(xlabel="step", ylabel="curvature", ylim=(0, None))
    below.legend(frameon=False)
    figure.savefig(STATIC / f"edge_of_stability_{name}.png", dpi=110)
    plt.close(figure)


def summary(curves: Curves, threshold: float) -> str:
    """The last quarter of the training against the threshold."""
    last = len(curves["step"]) // 4
    parts = [
        f"{measure} {np.median(values[-last:]) / threshold:.3f}"
        for measure, values in curves.items()
        if measure not in ("step", "loss")
    ]
    return f"threshold {threshold:.5g}; medians of the last quarter, in units of it: {', '.join(parts)}; loss {curves['loss'][-1]:.2g}"
