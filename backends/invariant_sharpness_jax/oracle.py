"""A JAX function and its data as a curvature oracle."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import jax

from invariant_sharpness.adapters.dataset_oracle import DatasetOracle
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness_jax.engine import JaxEngine
from invariant_sharpness_jax.processes import JaxProcesses
from invariant_sharpness_jax.trees import require_alive


class JaxOracle(DatasetOracle):
    """The mean loss of a function of a tree of parameters, with its derivatives, forward over reverse.

    Every derivative is compiled when it is first asked for, once for each shape of a batch. Arrays keep their sharding.
    Every pass over the data starts from a fixed random state: a loader that shuffles repeats its order.
    """

    engine: JaxEngine
    computing: JaxProcesses | None = None
    """The processes on whose devices the arrays lie, if they are several: all compute the same."""

    @property
    def parameters(self) -> ParameterVector:
        """The parameters that the oracle was built with, which it holds without a copy.

        Raises
        ------
        ModelError
            If one of them was donated to a compiled step. The oracle still measures at other ones, see :meth:`from_tree`.
        """
        require_alive(self.engine.parameters())
        return super().parameters

    def from_tree(self, tree: Any, /) -> ParameterVector:
        """Return the vector of other parameters in the user's own form, such as those of a later epoch.

        ``invariant_sharpness.Moved(oracle, oracle.from_tree(parameters))`` measures there without compiling again.

        Raises
        ------
        ModelError
            If the tree has another form, shapes or dtypes.
        NonFiniteError
            If a leaf has NaN or infinite entries; names it.
        """
        return ParameterVector(self.xp, self.engine.from_tree(tree))

    def to_tree(self, vector: ParameterVector, /) -> Any:
        """Return the parameters in the user's own form, as ``apply`` takes them: the other way from :meth:`from_tree`."""
        return self.engine.to_tree(dict(vector.arrays))

    @contextmanager
    def in_double_precision(self) -> Generator[JaxOracle]:
        """The oracle of the same function in double precision, which JAX has inside the ``with`` block."""
        with jax.enable_x64(True):  # noqa: FBT003
            yield self.with_engine(self.engine.in_double_precision())

    @property
    def apply(self) -> Callable[[Any, Any], Any]:
        """The user's function."""
        return self.engine.apply
