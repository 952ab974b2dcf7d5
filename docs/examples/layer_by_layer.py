"""
Which layers are sharp
======================

Normalized sharpness is a sum over the weights of a network, so it says where the sharpness sits: which layers can be pruned, quantized
or given a larger step, and which cannot. A convolutional network on digits.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.plotting import plot_groups

digits = load_digits()
x, y = torch.tensor(digits.images[:400, None] / 16), torch.tensor(digits.target[:400])

torch.manual_seed(0)
body = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
model = nn.Sequential(*body, nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).double()
optimizer = torch.optim.Adam(model.parameters(), 0.01)
for _ in range(30):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()

oracle = ish.oracle(model.eval(), (x, y))
sharpness = ish.normalized_sharpness(oracle)
for name, group in sharpness.per_group.items():
    share, entries = group.value / sharpness.value, oracle.parameters[name].numel()
    print(f"{name:10} {share:6.1%} of the sharpness, {entries} weights, {group.method}")

# %%
# The raw trace of the Hessian orders the layers otherwise, and would order them otherwise again after a rescaling that changes nothing.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
plot_groups(sharpness, left)
plot_groups(ish.hessian_trace(oracle), right)
plt.show()
