"""The invariances that a metric may declare, and the named symmetries that follow from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from invariant_sharpness.errors import ArgumentError

Invariance = Literal[
    "layer",
    "row",
    "row_column",
    "diagonal",
    "head",
    "linear",
    "permutation",
    "unit_split",
    "output_scale",
    "output_shift",
]
"""An invariance that a metric may declare: changes of the parameters that leave the loss as it is, and the metric too.

``layer``
    One factor per layer, with product 1 (Dinh et al. 2017).
``row``
    One factor per row of a weight, where a normalization or another row takes it back; its bias may have the factor or not.
``row_column``
    One factor per hidden unit: into its row and bias, out of its column (Tsuzuku et al. 2019, (15)-(16)).
``diagonal``
    Any factor per parameter.
``head``
    Any invertible matrix on the dimensions of an attention head.
``linear``
    Any linear map of the parameters.
``permutation``
    Hidden units in another order.
``unit_split``
    A hidden unit twice, each with half of what goes out of it (Tsuzuku et al. 2019, (26)-(30)).
``output_scale``
    All outputs times one factor, under a loss that does not see it.
``output_shift``
    The same number added to all outputs, under a loss that does not see it.
"""

COVERED_BY: Mapping[str, frozenset[Invariance]] = {
    "layer": frozenset({"layer", "row_column", "diagonal", "linear"}),
    "row": frozenset({"row", "diagonal", "linear"}),
    "row_column": frozenset({"row_column", "diagonal", "linear"}),
    "diagonal": frozenset({"diagonal", "linear"}),
    "head": frozenset({"head", "linear"}),
    "linear": frozenset({"linear"}),
    "permutation": frozenset({"permutation", "linear"}),
    "unit_split": frozenset({"unit_split"}),
    "output_scale": frozenset({"output_scale"}),
    "output_shift": frozenset({"output_shift"}),
}
"""Each invariance, and those from which it follows."""


def covers(invariances: Collection[str], kind: str) -> bool:
    """Whether a metric that declares these invariances declares that changes of this kind leave it as it is.

    Parameters
    ----------
    invariances
        The declared invariances.
    kind
        The invariance in question, such as the ``kind`` of a symmetry.

    Returns
    -------
    bool
        Whether it is among them, or follows from one of them.

    Raises
    ------
    ArgumentError
        If there is no such kind.

    Examples
    --------
    >>> covers({"diagonal"}, "layer"), covers({"layer"}, "diagonal")
    (True, False)
    """
    if kind not in COVERED_BY:
        msg = f"there is no symmetry of the kind {kind!r}; the kinds are {', '.join(COVERED_BY)}"
        raise ArgumentError(msg)
    return not COVERED_BY[kind].isdisjoint(invariances)


@dataclass(frozen=True, slots=True)
class NamedSymmetry:
    """A change of a network that its loss does not see.

    Parameters
    ----------
    name
        The name in the names of tests.
    heading
        The heading in tables.
    change
        What is done to the network.
    covered_by
        The invariances from each of which it follows that a metric stays.

    Examples
    --------
    >>> SYMMETRIES[0].name, sorted(SYMMETRIES[0].covered_by)
    ('layers', ['diagonal', 'layer', 'linear', 'row_column'])
    """

    name: str
    heading: str
    change: str
    covered_by: frozenset[Invariance]


SYMMETRIES = (
    NamedSymmetry(
        "layers",
        "layers",
        "each layer times a factor, with product 1 (Dinh et al. 2017)",
        COVERED_BY["layer"],
    ),
    NamedSymmetry(
        "rows_and_columns",
        "rows and columns",
        "each hidden unit times a factor of its own, (15) and (16) of Tsuzuku et al. (2019)",
        COVERED_BY["row_column"],
    ),
    NamedSymmetry("permutation", "permutation", "hidden units in another order", COVERED_BY["permutation"]),
    NamedSymmetry(
        "unit_split",
        "unit split",
        "a hidden unit twice, each with half of what goes out of it, (26) to (30) of Tsuzuku et al. (2019)",
        COVERED_BY["unit_split"],
    ),
    NamedSymmetry(
        "batch_norm",
        "batch norm",
        "rows and biases before batch normalization in inference mode, with its statistics",
        COVERED_BY["row"] | COVERED_BY["row_column"],
    ),
    NamedSymmetry(
        "weight_norm",
        "weight norm",
        "rows of weights that are normalized, without their biases",
        COVERED_BY["row"],
    ),
    NamedSymmetry(
        "query_key",
        "query-key",
        "each dimension of an attention head: its row of the queries times a factor, that of the keys divided by it",
        COVERED_BY["row"] | COVERED_BY["row_column"] | COVERED_BY["head"],
    ),
    NamedSymmetry(
        "value_output",
        "value-output",
        "each dimension of an attention head: its row of the values times a factor, its column of the output divided by it",
        COVERED_BY["row_column"] | COVERED_BY["head"],
    ),
    NamedSymmetry(
        "general_linear",
        "GL(h)",
        "an invertible matrix between the values and the output of an attention head",
        COVERED_BY["head"],
    ),
    NamedSymmetry(
        "gated_units",
        "gated units",
        "rows of the linear branch of a SwiGLU, and the columns after it",
        COVERED_BY["row_column"],
    ),
    NamedSymmetry(
        "output_scale",
        "output scale",
        "all outputs times a factor, under the normalized cross-entropy",
        COVERED_BY["output_scale"],
    ),
    NamedSymmetry(
        "output_shift",
        "output shift",
        "the same number added to all outputs, under cross-entropy",
        COVERED_BY["output_shift"],
    ),
)
"""Every symmetry that the metrics are measured under."""
