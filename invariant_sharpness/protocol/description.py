"""What an oracle tells of its loss and its data, so that two numbers can be known to be comparable."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from invariant_sharpness.protocol.curvature_oracle import CurvatureOracle


class Description(NamedTuple):
    """The loss and the data that an oracle is made of.

    Parameters
    ----------
    loss
        The loss in words: its name, and its options where they are not the usual ones.
    data
        A fingerprint of the set of examples, in hexadecimal digits. It depends neither on their order nor on batches, processes or the precision
        of the model.
    examples
        The number of examples.
    outputs
        The largest number of outputs that an example has.
    """

    loss: str
    data: str
    examples: int
    outputs: int


@runtime_checkable
class DescribedOracle(CurvatureOracle, Protocol):
    """An oracle that describes its loss and its data."""

    def description(self) -> Description:
        """Describe loss and data. Cost: one pass over the data, without the model."""
        ...
