"""
A landscape that a rescaling does not change
============================================

Pictures of the loss around a minimum look sharp or flat depending on the scale of the weights, also along filter-normalized directions.
Directions in balanced coordinates move with the weights: the picture before and after a rescaling is the same, number by number.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import invariant_sharpness as ish
from invariant_sharpness.landscapes import balanced_directions, filter_normalized_directions, loss_landscape
from invariant_sharpness.symmetries import chain_rescalings
from invariant_sharpness_numpy import NetworkOracle
from invariant_sharpness_numpy.training import train_network

x, y = load_digits(return_X_y=True)
x, y = x[:200] / 16, y[:200].astype(int)
before = NetworkOracle(train_network(x, y, sizes=(64, 12, 10), seed=0), x, y)

# %%
# The same function with other weights: what goes into a hidden unit is multiplied by a power of two, what goes out of it divided.

(rescaling,) = chain_rescalings(before.groups)
factors = np.ldexp(1.0, np.random.default_rng(0).integers(-3, 4, size=12))
after = ish.Moved(before, rescaling.apply(before, before.parameters, factors))

figure, grid = plt.subplots(2, 2, figsize=(8, 6.5), layout="constrained")
for row, directions in zip(grid, (filter_normalized_directions, balanced_directions), strict=True):
    losses = []
    for axes, oracle in zip(row, (before, after), strict=True):
        landscape = loss_landscape(oracle, directions(oracle), points=15)
        landscape.plot(axes)
        losses.append(landscape.losses)
    print(f"{directions.__name__:30} largest change of a loss: {np.abs(losses[1] / losses[0] - 1).max():.1e} of itself")
plt.show()
