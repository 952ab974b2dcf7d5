"""
Watch sharpness while a network trains
======================================

Under full-batch gradient descent with step size eta the largest eigenvalue of the Hessian hovers just above 2 / eta
(Cohen et al. 2021, "the edge of stability"). The Fisher-Rao norm, which no rescaling of the network changes, goes on moving.

A monitor measures every so many steps, on data that stay the same, and leaves the training as it is, bit by bit.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import invariant_sharpness as ish

digits = load_digits()
x = torch.tensor(digits.images.reshape(-1, 64)[:250] / 16, dtype=torch.float64)
y = nn.functional.one_hot(torch.tensor(digits.target[:250])).double()

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10)).double()

learning_rate = 2.0
optimizer = torch.optim.SGD(model.parameters(), learning_rate)
monitor = ish.Monitor(["hessian_spectral_norm", "fisher_rao_norm"], data=(x, y), loss="mse", every=20)
for step in range(241):
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    monitor.step(model, step=step, learning_rate=learning_rate, train_loss=loss)

print(monitor)

# %%
# The dashed line is 2 / eta.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
monitor.plot(left)
monitor.plot(right, metric="fisher_rao_norm")
plt.show()
