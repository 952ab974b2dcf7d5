"""Draw the toy example of Wang, Keskar, Xiong and Socher (2018): a sharp and a flat minimum of two parameters.

    python docs/experiments/pacgen_toy.py --picture docs/_static/pacgen_toy.png

100 points from a mixture of three Gaussians in the plane are labelled by whether their first coordinate is above its median. A
network of five layers shares two weights, W = [[w1, w2], [w2, w1]]: four times h <- sigmoid(W h) - 1/2, then the logit (w1, w2) . h.
The source says neither how the layers share the weights nor where the Gaussians are. The half is subtracted because
deep sigmoids that are not centred make the loss almost flat.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

import invariant_sharpness as ish
from invariant_sharpness.plotting import new_figure
from invariant_sharpness_numpy import FunctionOracle

CENTRES, WIDTH, EXAMPLES = np.array([[-2.0, 0.0], [2.0, 0.5], [0.0, 2.0]]), 0.6, 100
STARTS = {"sharp": (10.4, -0.8), "flat": (1.4, 3.0)}
COLORS = {"sharp": "#009E73", "flat": "#D55E00"}
STEP = 1e-5
"""Of the central differences of the gradient, whose error is about its square."""


class Minimum(NamedTuple):
    """A minimum of the loss, with its curvature and PACGen."""

    point: Any
    loss: float
    curvature: Any
    psi: float


def data(seed: int = 0) -> tuple[Any, Any]:
    """Points and labels."""
    random = np.random.default_rng(seed)
    members = random.integers(0, len(CENTRES), EXAMPLES)
    x = CENTRES[members] + WIDTH * random.normal(size=(EXAMPLES, 2))
    return x, (x[:, 0] > np.median(x[:, 0])).astype(float)


X, Y = data()


def loss_and_gradient(w: Any) -> tuple[float, Any]:
    """Mean cross-entropy; its gradient by forward mode, with the derivatives of h in both weights beside h."""
    W, along = np.array([[w[0], w[1]], [w[1], w[0]]]), np.array([np.eye(2), np.eye(2)[::-1]])
    h, slopes = X.T, np.zeros((2, 2, EXAMPLES))
    for _ in range(4):
        s = expit(W @ h)
        h, slopes = s - 0.5, s * (1 - s) * (along @ h + W @ slopes)
    z, z_slopes = W[0] @ h, along[:, 0] @ h + W[0] @ slopes
    return float(np.mean(np.logaddexp(0, z) - Y * z)), z_slopes @ (expit(z) - Y) / EXAMPLES


def oracle_at(point: Any) -> FunctionOracle:
    """The oracle of the two weights."""

    def product(p: Any, v: Any) -> Any:
        ahead, behind = (loss_and_gradient(p["w"] + sign * STEP * v["w"])[1] for sign in (1, -1))
        return {"w": (ahead - behind) / (2 * STEP)}

    def loss(p: Any) -> float:
        return loss_and_gradient(p["w"])[0]

    return FunctionOracle({"w": point}, loss, lambda p: {"w": loss_and_gradient(p["w"])[1]}, product)


def minimum_near(start: Any) -> Minimum:
    """The minimum that gradient descent finds from here."""
    point = minimize(loss_and_gradient, start, jac=True, tol=1e-12).x
    oracle = oracle_at(point)
    return Minimum(point, oracle.loss(oracle.parameters), ish.hessian_diagonal(oracle)["w"].values, psi(point))


def psi(point: Any) -> float:
    """PACGen with its defaults."""
    return ish.pacgen(oracle_at(np.asarray(point))).value


def draw(minima: dict[str, Minimum], resolution: int, path: str) -> None:
    """The loss as a surface, colored by PACGen, with a bar at each minimum; beside it PACGen from above."""
    horizontal, vertical = np.linspace(-2, 14, resolution), np.linspace(-4, 7, resolution)
    grid = np.stack(np.meshgrid(horizontal, vertical), axis=-1)
    losses = np.apply_along_axis(lambda w: loss_and_gradient(w)[0], 2, grid)
    metric = np.apply_along_axis(psi, 2, grid)
    figure = new_figure(11, 4.8)
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    shown = Normalize(metric.min(), float(np.quantile(metric, 0.98)))
    surface = figure.add_subplot(1, 2, 1, projection="3d", computed_zorder=False)
    height = np.minimum(losses, 2.0)
    colors = colormaps["viridis"](shown(metric))
    surface.plot_surface(grid[..., 0], grid[..., 1], height, facecolors=colors, rstride=1, cstride=1, linewidth=0)
    surface.view_init(elev=38, azim=-120)
    surface.set(xlabel="$w_1$", ylabel="$w_2$", zlabel="loss, cut at 2")
    plane = figure.add_subplot(1, 2, 2)
    mesh = plane.pcolormesh(horizontal, vertical, metric, norm=shown, cmap="viridis", shading="gouraud")
    levels = [0.05, 0.1, 0.2, 0.4, 0.6, 0.69, 1, 2]
    plane.clabel(plane.contour(horizontal, vertical, losses, levels=levels, colors="white", linewidths=0.7), fontsize=7)
    for name, found in minima.items():
        w1, w2 = found.point
        surface.plot([w1, w1], [w2, w2], [found.loss, 2.2], color=COLORS[name], linewidth=3, zorder=9)
        label = f"{name}: loss {found.loss:.3f}, PACGen {found.psi:.2f}"
        plane.plot(w1, w2, "o", color=COLORS[name], markeredgecolor="white", markersize=9, label=label)
    plane.set(xlabel="$w_1$", ylabel="$w_2$", title="PACGen (color) and loss (contours)")
    plane.legend(loc="upper right")
    figure.colorbar(mesh, ax=plane, extend="max")
    figure.savefig(path)


def main() -> None:
    """Print the minima and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", help="where to save the picture")
    parser.add_argument("--resolution", type=int, default=90, help="points per axis")
    arguments = parser.parse_args()
    minima = {name: minimum_near(start) for name, start in STARTS.items()}
    for name, found in minima.items():
        point, curvature = (f"({a[0]:.2f}, {a[1]:.2f})" for a in (found.point, found.curvature))
        print(f"{name:6} w = {point}, loss {found.loss:.4f}, h = {curvature}, PACGen {found.psi:.3f}")
    if arguments.picture:
        draw(minima, arguments.resolution, arguments.picture)


if __name__ == "__main__":
    main()
