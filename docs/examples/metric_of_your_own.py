"""
Test a metric of your own
=========================

Does your measure of sharpness see a rescaling that the network does not see?
A metric is a function of an oracle that returns a number; ``certify`` finds the rescaling symmetries of a model, applies them, and
compares. Here are two: the trace of the Hessian over the squared norm of the weights, which looks invariant and is not, and a trace
in balanced coordinates, which is.
"""

import matplotlib.pyplot as plt
import numpy as np

import invariant_sharpness as ish
from invariant_sharpness_numpy import ReluNetwork

random = np.random.default_rng(0)
x, y = random.standard_normal((60, 6)), random.integers(0, 3, 60)
weights = tuple(random.standard_normal((m, n)) / n**0.5 for n, m in [(6, 8), (8, 5), (5, 3)])
network = ReluNetwork(weights, tuple(0.3 * random.standard_normal(len(weight)) for weight in weights))
oracle = ish.oracle(network, (x, y))


def trace_over_norm(oracle):
    """tr H / |w|^2, as several papers use it."""
    return ish.hessian_trace(oracle).value / oracle.parameters.norm() ** 2


def balanced_trace(oracle):
    """The trace in coordinates that move with the weights: scales are the balanced ones of rows and columns."""
    scale = ish.scales.balanced(oracle)
    return ish.hessian_trace(ish.Scaled(oracle, scale))


# %%
# Both are said to survive rescalings of rows and columns. One of the claims fails.

claims = {"trace_over_norm": {"row_column"}, "balanced_trace": {"row_column"}}
certificate = ish.certify(oracle, [trace_over_norm, balanced_trace], claims=claims)
print(certificate)
print("claims that fail:", sorted({record.metric for record in certificate.failed}))

# %%

figure, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
certificate.plot(axes)
plt.show()
