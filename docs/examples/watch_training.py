"""
Watch sharpness while a network trains
======================================

Under full-batch gradient descent with step size eta the largest eigenvalue of the Hessian hovers just above 2 / eta
(Cohen et al. 2021, "the edge of stability"). The Fisher-Rao norm, which no rescaling of the network changes, goes on moving.

An oracle follows its model: it reads the parameters whenever it is asked, so it is built once, before training.
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
oracle = ish.oracle(model, (x, y), loss="mse")

learning_rate, steps, every = 2.0, 241, 20
optimizer = torch.optim.SGD(model.parameters(), learning_rate)
history = []
for step in range(steps):
    if step % every == 0:
        report = ish.measure(oracle, ["hessian_spectral_norm", "fisher_rao_norm"])
        history.append([step, report.loss, report["hessian_spectral_norm"].value, report["fisher_rao_norm"].value])
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()

for step, loss, largest, fisher_rao in history:
    print(f"step {step:4}  loss {loss:.5f}  largest eigenvalue {largest:.3f}  Fisher-Rao norm {fisher_rao:.4f}")

# %%
# The dashed line is 2 / eta.

number, losses, largest, fisher_rao = zip(*history, strict=True)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.plot(number, largest, "o-", label="largest eigenvalue of the Hessian")
left.axhline(2 / learning_rate, color="0.4", linestyle="--", label="2 / learning rate")
left.legend(frameon=False)
right.plot(number, fisher_rao, "o-", color="tab:green", label="Fisher-Rao norm")
right.legend(frameon=False)
for axes in (left, right):
    axes.set_xlabel("step")
plt.show()
