r"""Changes :math:`\delta(\theta)` of the weights, as compression makes them: rounded to few bits, or with the smallest set to zero.

Each returns :math:`\delta`, so that the changed network is at :math:`\theta + \delta`. Weights change, biases and gains stay. They are public as
``invariant_sharpness.changes``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.parameters.matrices import HostArray, in_layout, rows_first
from invariant_sharpness.parameters.patterns import matching_names
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle

__all__ = ["pruning", "rounding"]

Per = Literal["tensor", "row"]
"""What has a unit of its own: a weight, or each of its output units."""


def rounding(
    oracle: CurvatureOracle, *, bits: int, per: Per = "row", parameters: str | Iterable[str] | None = None
) -> ParameterVector:
    r"""Return the change by rounding weights to b bits, :math:`Q(W) - W` with :math:`Q(w) = \Delta \operatorname{round}(w / \Delta)`.

    The step :math:`\Delta = \max |w| / (2^{b - 1} - 1)` is that of symmetric quantization, of the whole weight or of each output unit.

    Parameters
    ----------
    oracle
        The oracle whose parameters are rounded.
    bits
        b, at least 2.
    per
        ``"row"``: a step for each output unit; ``"tensor"``: one for each weight.
    parameters
        Names or patterns of the groups that are rounded. Default: all weights.

    Returns
    -------
    ParameterVector
        The change, zero elsewhere. Cost: no gradient.

    Raises
    ------
    ArgumentError
        If there are fewer than two bits, or ``per`` is not known.
    ModelError
        If a pattern matches no group.

    Notes
    -----
    Equivariant under one factor for each weight, and with ``per="row"`` for each output unit. Under factors of input units it is another change.

    Examples
    --------
    Two bits have the values -1, 0 and 1 times the largest magnitude:

    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> rounding(quadratic(np.eye(3), [[4.0, 1.0, -3.0]]), bits=2)["weight"].tolist()
    [[0.0, -1.0, -1.0]]
    """
    if bits < 2:
        msg = f"bits={bits}, but a sign and one more bit are needed: take at least 2"
        raise ArgumentError(msg)

    def rounded(rows: HostArray) -> HostArray:
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
        steps = np.where(largest > 0, largest, 1.0) / (2 ** (bits - 1) - 1)
        return steps * np.round(rows / steps)

    return _change(oracle, rounded, per, parameters)


def pruning(
    oracle: CurvatureOracle, *, fraction: float, per: Per = "tensor", parameters: str | Iterable[str] | None = None
) -> ParameterVector:
    """Return the change by setting the smallest magnitudes of weights to zero.

    Parameters
    ----------
    oracle
        The oracle whose parameters are pruned.
    fraction
        Fraction of the entries that are set to zero, rounded down to a whole number of them.
    per
        ``"tensor"``: the smallest of each weight; ``"row"``: those of each output unit.
    parameters
        Names or patterns of the groups that are pruned. Default: all weights.

    Returns
    -------
    ParameterVector
        The change, zero elsewhere. Cost: no gradient.

    Raises
    ------
    ArgumentError
        If the fraction is not between 0 and 1, or ``per`` is not known.
    ModelError
        If a pattern matches no group.

    Notes
    -----
    Equivariant under one factor for each weight, and with ``per="row"`` for each output unit.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> pruning(quadratic(np.eye(4), [[4.0, 1.0, -3.0, -2.0]]), fraction=0.5)["weight"].tolist()
    [[0.0, -1.0, 0.0, 2.0]]
    """
    if not 0 <= fraction <= 1:
        msg = f"fraction={fraction!r}, but a fraction is a number from 0 to 1"
        raise ArgumentError(msg)

    def pruned(rows: HostArray) -> HostArray:
        smallest = np.argsort(np.abs(rows), axis=1, kind="stable")[:, : int(fraction * rows.shape[1])]
        kept = rows.copy()
        np.put_along_axis(kept, smallest, 0.0, axis=1)
        return kept

    return _change(oracle, pruned, per, parameters)


def _change(
    oracle: CurvatureOracle,
    replaced: Callable[[HostArray], HostArray],
    per: Per,
    parameters: str | Iterable[str] | None,
) -> ParameterVector:
    """Replace the rows of each chosen group, which is one row in all where ``per`` says so; subtract what was there."""
    if per not in ("tensor", "row"):
        msg = f'per={per!r} is not known: take "tensor" or "row"'
        raise ArgumentError(msg)
    names = [group.name for group in oracle.groups]
    weights = frozenset(group.name for group in oracle.groups if group.is_weight)
    chosen = weights if parameters is None else frozenset(matching_names(names, parameters))
    arrays = oracle.to_numpy(oracle.parameters)
    return oracle.from_numpy(
        {
            group.name: _replaced(group, arrays[group.name], replaced, per) - arrays[group.name]
            if group.name in chosen
            else np.zeros(group.shape)
            for group in oracle.groups
        }
    )


def _replaced(
    group: ParameterGroup, values: HostArray, replaced: Callable[[HostArray], HostArray], per: Per
) -> HostArray:
    if per == "row" and group.is_weight:
        return in_layout(group, replaced(rows_first(group, values)))
    return replaced(values.reshape(1, -1)).reshape(group.shape)
