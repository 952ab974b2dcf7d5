"""Dense derivatives of a network whose examples are mixed, under losses of whole batches."""

from __future__ import annotations

from functools import cache
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import torch
from torch.autograd.functional import hessian

from zoo.keras_programs.joint_losses import BATCHES, GRAPHS, JOINT, WEIGHTS, of_batch


def outputs_of(flat: Any, x: Any) -> Any:
    """Outputs of a batch, whose examples are mixed: each is centered by the mean over the batch."""
    hidden = torch.tanh(x @ flat[:12].reshape(4, 3).T)
    return (hidden - hidden.mean(0)) @ flat[12:].reshape(2, 4).T


def loss_of_graph(flat: Any, graph: dict[str, Any]) -> Any:
    """The mean cross-entropy of the nodes of a graph, each of which adds up what comes along its edges."""
    first, second = flat[:12].reshape(4, 3), flat[12:].reshape(2, 4)
    hidden = torch.tanh(torch.as_tensor(graph["nodes"]) @ first.T)
    sources, ends = torch.as_tensor(graph["edges"])
    outputs = hidden.index_add(0, ends, hidden[sources]) @ second.T
    return torch.nn.functional.cross_entropy(outputs, torch.as_tensor(graph["labels"]))


@cache
def dense_of_graphs() -> dict[str, np.ndarray]:
    """Value, gradient and Hessian of the mean over the graphs."""

    def mean(flat: Any) -> Any:
        return torch.stack([loss_of_graph(flat, graph) for graph in GRAPHS]).mean()

    start = flat_weights()
    gradient = torch.autograd.functional.vjp(mean, start)[1]
    return {"loss": mean(start).numpy(), "gradient": gradient.numpy(), "hessian": hessian(mean, start).numpy()}


def flat_weights() -> torch.Tensor:
    return torch.as_tensor(np.concatenate([array.ravel() for array in WEIGHTS.values()]))


@cache
def dense(name: str) -> dict[str, np.ndarray]:
    """Value, gradient, Hessian, Gauss-Newton matrix and second moment of the gradients, each a mean over batches."""
    start = flat_weights()
    loss = of_batch(JOINT[name], xp)
    found: dict[str, list[Any]] = {key: [] for key in ("loss", "gradient", "hessian", "gauss_newton", "moment")}
    for x, y in [(torch.as_tensor(x), torch.as_tensor(y)) for x, y in BATCHES]:
        z = outputs_of(start, x)
        (gradient,) = torch.autograd.functional.vjp(lambda flat, x=x, y=y: loss(outputs_of(flat, x), y), start)[1:]
        J = torch.autograd.functional.jacobian(lambda flat, x=x: outputs_of(flat, x).ravel(), start)
        curvature = hessian(lambda flat, z=z, y=y: loss(flat.reshape(z.shape), y), z.ravel())
        found["loss"].append(loss(z, y))
        found["gradient"].append(gradient)
        found["hessian"].append(hessian(lambda flat, x=x, y=y: loss(outputs_of(flat, x), y), start))
        found["gauss_newton"].append(J.T @ curvature @ J)
        found["moment"].append(gradient**2)
    return {key: np.mean([part.numpy() for part in parts], axis=0) for key, parts in found.items()}
