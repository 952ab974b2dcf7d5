"""
A demonstration: two networks, before and after a rescaling
===========================================================

A ReLU network does not change if what goes into a hidden unit is multiplied by a factor and what goes out of it divided by the same.
Most measures of sharpness do change, by any factor one likes; a normalized one stays. Here are both on two networks of the same size:
one learned handwritten digits, the other one memorized random labels of the same pictures.
``invariant-sharpness demo`` does the same with more metrics and on all digits, and needs no file.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import invariant_sharpness as ish
from invariant_sharpness.plotting import plot_rescalings_together
from invariant_sharpness_numpy import ReluNetwork

random = np.random.default_rng(0)
pixels, digits = load_digits(return_X_y=True)
x, unseen = pixels[:800] / 16, pixels[800:] / 16
labels = {"true labels": digits[:800], "random labels": random.integers(10, size=800)}

# %%
# scikit-learn trains both networks until they fit. The library needs the weights, as (outputs, inputs) matrices, and the biases.

oracles = {}
for name, y in labels.items():
    trained = MLPClassifier((64, 64), solver="lbfgs", alpha=0, max_iter=400, tol=0, random_state=0).fit(x, y)
    seen, new = trained.score(x, y), trained.score(unseen, digits[800:])
    print(f"{name}: {seen:.1%} right in training, {new:.1%} right on digits that it has not seen")
    network = ReluNetwork([W.T for W in trained.coefs_], trained.intercepts_)
    oracles[name] = ish.oracle(network, (x, y), loss="normalized_cross_entropy")

# %%
# What can be rescaled is found from the Jacobian of the outputs, whatever the network looks like.
# Each of these directions gets a random factor between 1/1024 and 1024: other parameters, the same function.

metrics = ["hessian_trace", "hessian_spectral_norm", "matrix_normalized_sharpness", "normalized_sharpness"]
reports = {}
for name, oracle in oracles.items():
    symmetries = ish.find_symmetries(oracle)
    rescaling = symmetries.rescaling(random.uniform(-10, 10, len(symmetries)))
    rescaled = ish.Moved(oracle, rescaling.apply(oracle.parameters))
    before, after = ish.measure(oracle, metrics), ish.measure(rescaled, metrics)
    reports[name] = before, after
    print(f"\n{name}: {len(symmetries)} factors, the loss moved by {abs(after.loss / before.loss - 1):.0e}")
    for metric in metrics:
        print(f"{metric:28} {before[metric].value:10.4g} {after[metric].value:10.4g}")

# %%
# By how much each metric moved. Run ``python two_networks.py picture.png`` to keep the picture.

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
plot_rescalings_together(reports, axes)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1])
plt.show()
