r"""Random factors of the second derivative of an operation: :math:`E[w_a w_b^T] + E[w_b w_a^T] = 2 M`, where M is that of :math:`\langle c, f(x) \rangle` in x.

What is drawn are signs: one for each entry of the argument, and for a norm one for each row as well.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from invariant_sharpness_torch.autograd_uses import Node
from invariant_sharpness_torch.graph_nodes import Curved, argument_edge, edge_shape
from invariant_sharpness_torch.layouts import Layout
from invariant_sharpness_torch.products import second_derivative

Signs = Callable[[int, torch.Size], torch.Tensor]
"""From the number of a set of signs, and a shape, to signs."""

Pair = tuple[torch.Tensor, torch.Tensor]
Factors = Callable[[Signs], Pair]
"""From signs to :math:`w_a` at the first of the arguments, and :math:`w_b` at the last."""


def factors(curved: Curved, layout: Layout, cotangent: torch.Tensor) -> Factors:
    """Return what makes the factors of an operation from signs.

    Parameters
    ----------
    curved
        The operation.
    layout
        Where the examples are in its first argument.
    cotangent
        The derivative in its result.
    """
    node, name = curved.node, curved.node.name()
    if len(curved.arguments) == 2:
        return _product(curved, layout, cotangent)
    rule = _RULES.get(name)
    return _diagonal(curvature(curved, cotangent)) if rule is None else rule(node, cotangent)


def curvature(curved: Curved, cotangent: torch.Tensor) -> torch.Tensor:
    r"""The second derivative :math:`m = \sigma''(x) c` of a function entry by entry."""
    if curved.node.name() == "DivBackward0":
        x, y = (value.detach() for value in (curved.node._saved_self, curved.node._saved_other))
        return (2 * cotangent * x / y**3).sum_to_size(y.shape)
    (edge,) = curved.edges
    slope = _slope(curved.node, curved.arguments[0], cotangent)
    with second_derivative():
        (second,) = torch.autograd.grad(slope, [edge], torch.ones_like(slope), retain_graph=True)
    return second


def _slope(node: Node, argument: int, cotangent: torch.Tensor) -> torch.Tensor:
    """The derivative in an argument, with its graph."""
    others = (None for _ in range(len(node._input_metadata) - 1))
    with torch.enable_grad():
        found = node(cotangent, *others)
        slope: torch.Tensor = found[argument] if isinstance(found, tuple) else found
        return slope.sum_to_size(edge_shape(argument_edge(node, argument)))


def _diagonal(second: torch.Tensor) -> Factors:
    root, sign = second.abs().sqrt(), second.sign()

    def pair(signs: Signs) -> Pair:
        one = root * signs(0, root.shape)
        return one, sign * one

    return pair


def _product(curved: Curved, layout: Layout, cotangent: torch.Tensor) -> Factors:
    """Derivatives in both arguments: M has two blocks, of which each is the other's transpose; the scale of the signs cancels in what the two factors make."""
    first, second = curved.arguments
    edge = argument_edge(curved.node, second)
    slope = _slope(curved.node, first, cotangent)
    scale = _scale(layout, slope.detach(), _value(curved.node, first))

    def pair(signs: Signs) -> Pair:
        drawn = signs(0, slope.shape)
        (other,) = torch.autograd.grad(slope, [edge], drawn / scale, retain_graph=True)
        return 2 * scale * drawn, other

    return pair


_SAVED = {
    "AddmmBackward0": ("", "_saved_mat1", "_saved_mat2"),
    "BaddbmmBackward0": ("", "_saved_batch1", "_saved_batch2"),
    "ConvolutionBackward0": ("_saved_input", "_saved_weight"),
    "PreluKernelBackward0": ("_saved_self", "_saved_weight"),
    "MulBackward0": ("_saved_self", "_saved_other"),
    "DivBackward0": ("_saved_self", "_saved_other"),
}


def _value(node: Node, argument: int) -> torch.Tensor:
    """A factor of a product."""
    value: torch.Tensor = getattr(node, _SAVED.get(node.name(), ("_saved_self", "_saved_mat2"))[argument])
    return value.detach()


def _scale(layout: Layout, slope: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A scale for each example and unit, by which signs become derivatives in a unit: divided by D where the unit is multiplied by D."""
    unit = 1 if slope.ndim == 4 and layout.axis == 0 else slope.ndim - 1
    if unit == layout.axis:
        return torch.ones_like(slope)
    units = Layout(layout.shape, (unit,), layout.examples, layout.axis, layout.last)
    above, below = (units.by_unit(tensor) for tensor in (slope, value))
    if above.shape[1] == 1:
        return torch.ones_like(slope)
    norms = torch.stack([above, below]).norm(dim=2, keepdim=True)
    ratio = torch.where((norms > 0).all(0), norms[0] / norms[1], 1.0).sqrt()
    return units.back(ratio.expand_as(above))


def _softmax(node: Node, cotangent: torch.Tensor) -> Factors:
    r""":math:`M = (I - p 1^T) \operatorname{diag}(d) (I - 1 p^T)` with :math:`d = p (c - \langle c, p \rangle)`."""
    p, axis = node._saved_result.detach(), _signed(node._saved_dim)
    d = p * (cotangent - (cotangent * p).sum(axis, keepdim=True))
    root, sign = d.abs().sqrt(), d.sign()

    def pair(signs: Signs) -> Pair:
        one = root * signs(0, root.shape)
        left, right = (v - p * v.sum(axis, keepdim=True) for v in (one, sign * one))
        return left, right

    return pair


def _log_softmax(node: Node, cotangent: torch.Tensor) -> Factors:
    r""":math:`M = -\langle c, 1 \rangle (\operatorname{diag}(p) - p p^T)`."""
    axis = _signed(node._saved_dim)
    p, total = node._saved_result.detach().exp(), cotangent.sum(axis, keepdim=True)
    root, size, sign = p.sqrt(), total.abs().sqrt(), -total.sign()

    def pair(signs: Signs) -> Pair:
        one = root * signs(0, root.shape)
        one = size * (one - p * one.sum(axis, keepdim=True))
        return one, sign * one

    return pair


def _layer_norm(node: Node, cotangent: torch.Tensor) -> Factors:
    x, weight = node._saved_input.detach(), node._saved_weight
    count = len(node._saved_normalized_shape)
    gained = cotangent if weight is None else cotangent * weight.detach()
    rows = x.shape[: x.ndim - count]
    normalized = (x - node._saved_result1) * node._saved_result2
    return _norm(
        normalized.reshape(*rows, -1), gained.reshape(*rows, -1), node._saved_result2.reshape(*rows, 1), x.shape
    )


def _group_norm(node: Node, cotangent: torch.Tensor) -> Factors:
    x, weight = node._saved_input.detach(), node._saved_weight
    channels = (1, -1) + (1,) * (x.ndim - 2)
    gained = cotangent if weight is None else cotangent * weight.detach().reshape(channels)
    inverse = node._saved_result2[..., None]  # (examples, groups, 1)
    rows = inverse.shape[:2]
    normalized = (x.reshape(*rows, -1) - node._saved_result1[..., None]) * inverse
    return _norm(normalized, gained.reshape(*rows, -1), inverse, x.shape)


def _norm(y: torch.Tensor, c: torch.Tensor, inverse: torch.Tensor, shape: torch.Size) -> Factors:
    r"""Rows :math:`y = (x - \bar x) / \rho`, with :math:`c` centred: :math:`M = (-\langle c, y \rangle P + (u y^T + y u^T) / 2) / (d \rho^2)`.

    P takes the mean off, and :math:`u = 3 \langle c, y \rangle y / d - 2 c`.
    """
    d = y.shape[-1]
    y, c, inverse = y.detach(), c - c.mean(-1, keepdim=True), inverse.detach()
    along = (c * y).sum(-1, keepdim=True)
    u = 3 * along / d * y - 2 * c
    size, sign, whole = along.abs().sqrt(), -along.sign(), inverse / d**0.5
    norms = y.norm(dim=-1, keepdim=True), u.norm(dim=-1, keepdim=True)
    scale = torch.where((norms[0] > 0) & (norms[1] > 0), norms[1] / norms[0], 1.0).sqrt()
    y, u = scale * y, u / scale

    def pair(signs: Signs) -> Pair:
        entries = signs(0, shape).reshape(y.shape)
        centred = size * (entries - entries.mean(-1, keepdim=True))
        row = signs(1, inverse.shape)
        left, right = whole * (centred + row * y), whole * (sign * centred + row * u)
        return left.reshape(shape), right.reshape(shape)

    return pair


_RULES: dict[str, Callable[[Node, torch.Tensor], Factors]] = {
    "SoftmaxBackward0": _softmax,
    "SafeSoftmaxBackward0": _softmax,
    "LogSoftmaxBackward0": _log_softmax,
    "NativeLayerNormBackward0": _layer_norm,
    "NativeGroupNormBackward0": _group_norm,
}


def _signed(axis: int) -> int:
    """An axis of the graph, which counts negative ones from 2**64."""
    return axis - 2**64 if axis >= 2**63 else axis
