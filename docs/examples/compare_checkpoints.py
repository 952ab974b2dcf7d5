"""
Compare two checkpoints
=======================

Which of two trained networks lies in the flatter minimum, and is the difference larger than its error?

Both networks below have the same architecture and fit the same digits; one was trained in small batches, the other in one large one.
What makes two numbers comparable: the same data, the same loss, the same seed (so that both are probed along the same random vectors),
and a metric that does not see the scale of the weights.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import invariant_sharpness as ish

digits = load_digits()
x = torch.tensor(digits.images.reshape(-1, 64)[:600] / 16)
y = torch.tensor(digits.target[:600])


def trained(batch_size, epochs, learning_rate):
    """A ReLU network after plain gradient descent."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 10)).double()
    optimizer = torch.optim.SGD(model.parameters(), learning_rate, momentum=0.9)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
    return model.eval()


models = {"batches of 16": trained(16, 30, 0.02), "one batch": trained(len(x), 200, 0.1)}

# %%
# An oracle is a model, data and a loss.
# All models are measured with the same seed; the table says which differences exceed the errors of both values.
# These networks are piecewise linear, so the diagonal of the Hessian is exact, and so are its metrics.

comparison = ish.compare({name: ish.oracle(model, (x, y)) for name, model in models.items()})
print(comparison)

# %%
# The same as a picture: marks are filled where the difference exceeds the errors.

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
comparison.plot(axes)
plt.show()

# %%
# Where does the difference come from?
# Normalized sharpness is a sum over the layers.

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
comparison.plot(axes, metric="normalized_sharpness")
plt.show()
