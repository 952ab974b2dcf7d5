"""What a framework supplies: sums over one batch, and nothing else.

:class:`invariant_sharpness.adapters.DatasetOracle` adds them up over the data, divides once, and looks at what comes out. The contract
of an engine:

1. Its methods are pure: equal arguments give equal bits on one device. After ``at`` ends, by return, error or Ctrl-C, the model,
   the user's arrays, all random states and the framework's global switches are what they were.
2. Sums are additive over any cut of a batch into examples; they are never means. Named groups on which nothing depends are zeros;
   groups that were not named are absent.
3. Only ``read``, ``row_losses``, ``to_numpy``, ``host_rows`` and ``inspected`` may wait for the device. Results carry no graph.
4. Numbers that are not finite are returned. What is the user's fault is an error of the library; ``KeyboardInterrupt`` passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.outputs import CotangentRows
from invariant_sharpness.errors import ArgumentError, NonFiniteError
from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup
from invariant_sharpness.prng import Draws

Array = Any
Arrays = dict[str, Array]
"""One array per group, in the parameter's own shape: the engine's own tensors, in accumulation dtype."""

Batch = TypeVar("Batch")
"""Some examples, as the engine computes with them."""

Taken = TypeVar("Taken", contravariant=True)
"""The same, where they are only taken."""

CotangentsOf = Callable[[tuple[int, ...]], npt.NDArray[np.float64]]
"""From the shape of the outputs of a batch to cotangents on the host."""


class Sums(NamedTuple):
    r"""Sums over the examples of one batch, in accumulation dtype: not divided, without a graph, not read by the host.

    Parameters
    ----------
    weight
        The sum of the weights :math:`w_r` of the loss's rows r: examples, or their positions. Shape ``()``.
    rows
        How many rows there are, told from shapes; ignored ones count, with weight 0.
    arrays
        One dictionary for each vector that was asked for.
    value
        :math:`\sum_r w_r \ell_r`, or what the method says. Shape ``()``; None if it is not computed.
    """

    weight: Array
    rows: int
    arrays: tuple[Arrays, ...] = ()
    value: Array | None = None


class Cotangents(NamedTuple):
    r"""Which cotangents are pulled back and squared: :math:`\sum_{nr} s_{nr} (J_n^T v_{nr})^2`.

    Parameters
    ----------
    kind
        ``"curvature"``: factors of the output Hessian, :math:`\sum_r s_{nr} v_{nr} v_{nr}^T = w_n \Lambda_n`.
        ``"gradient"``: :math:`s_n = w_n`, :math:`v_n = \nabla_z \ell_n`. ``"sampled"``: random combinations of the outputs with the
        second moment of ``"curvature"``, one for each draw.
    draws
        The draws of ``"sampled"``, and the number of the batch's first row in the data.
    """

    kind: Literal["curvature", "gradient", "sampled"]
    draws: Draws | None = None

    def sampled(self) -> Draws:
        """Return the draws, where the kind is neither of the other two.

        Raises
        ------
        ArgumentError
            If it is not ``"sampled"`` either, or there are no draws: nothing else may be squared in its place.
        """
        if self.kind != "sampled" or self.draws is None:
            msg = (
                f'cotangents of kind {self.kind!r} with draws={self.draws} are not known: take "curvature", "gradient", or '
                f'"sampled" with draws; an engine needs a branch of its own for another kind'
            )
            raise ArgumentError(msg)
        return self.draws


class Point(Protocol[Taken]):
    """A model with its loss at one parameter point; valid inside ``with engine.at(parameters) as point:`` alone."""

    def evaluate(self, batch: Taken, /) -> tuple[Array, Array]:
        """Return the outputs z of shape ``(n, ...)``, in accumulation dtype, and the targets."""
        ...

    def losses(self, batch: Taken, /) -> Sums:
        r"""Sum the losses: ``value`` is :math:`\sum_r w_r \ell_r`. No graph is made."""
        ...

    def row_losses(self, batch: Taken, /) -> npt.NDArray[Any]:
        """Return the loss of each row on the host, to name one that is not finite."""
        ...

    def gradient(self, batch: Taken, /) -> Sums:
        r"""Sum the gradients, :math:`\sum_r w_r \nabla \ell_r`; ``value`` is the sum of the losses."""
        ...

    def hessian_products(self, vectors: Sequence[Arrays], batch: Taken, /) -> Sums:
        r"""Multiply :math:`\sum_r w_r \nabla^2 \ell_r` with each vector; ``value`` is the sum of the losses."""
        ...

    def gauss_newton_product(self, vector: Arrays, batch: Taken, /) -> Sums:
        r"""Compute :math:`\sum_n w_n J_n^T \Lambda_n J_n v`; ``value`` may be None."""
        ...

    def squares(self, names: frozenset[str], cotangents: Cotangents, batch: Taken, /) -> Sums:
        r"""Compute :math:`\sum_{nr} s_{nr} (J_n^T v_{nr})^2` for the named groups alone."""
        ...

    def slopes(self, vector: Arrays, batch: Taken, /) -> Sums:
        r"""Sum the squared slopes: ``value`` is :math:`\sum_r w_r (u \cdot \nabla \ell_r)^2`."""
        ...

    def pushforward(self, vector: Arrays, batch: Taken, /) -> Array:
        """Return the derivatives J v of the outputs, of shape ``(n, ...)``."""
        ...

    def pullback(self, cotangents: CotangentRows, batch: Taken, /) -> Arrays:
        r"""Sum :math:`J_n^T c_n` over the examples of the batch for which there are cotangents, which it takes."""
        ...

    def output_curvature(self, direction: Arrays, cotangents: CotangentsOf, batch: Taken, /) -> tuple[Arrays, Arrays]:
        r"""Differentiate :math:`\phi = \sum_n c_n \cdot z_n`: its gradient, and :math:`(\nabla^2_{gg} \phi)\, u_g` for each group g of ``direction``.

        Groups that ``direction`` leaves out are fixed, and may be left out of the results.
        """
        ...


class Engine(Protocol[Batch]):
    """One model with one loss, in one framework; it lives as long as its oracle.

    The *accumulation dtype* of a group is float32, or the group's own if that is longer: vectors, sums, squares and losses have it.
    """

    @property
    def name(self) -> str:
        """The framework's name, as people write it."""
        ...

    @property
    def xp(self) -> Any:
        """Array API namespace of the oracle's vectors."""
        ...

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        """The parameters that are measured."""
        ...

    @property
    def eps(self) -> float:
        """Machine epsilon of the least precise parameter, frozen ones included."""
        ...

    @property
    def fixed_shapes(self) -> bool:
        """Whether each shape of a batch is compiled anew: then batches are never cut, but their results are."""
        ...

    @property
    def traced(self) -> bool:
        """Whether the program of the network is that of all examples of the same shapes, and not what some examples did."""
        ...

    @property
    def samples_outputs(self) -> bool:
        """Whether the loss is convex in the outputs, so that they can be sampled."""
        ...

    @property
    def reduction(self) -> Literal["mean", "sum"]:
        """Whether the loss of the data is the weighted mean of the rows' losses, or their weighted sum, which is not divided."""
        ...

    @property
    def loss_description(self) -> str:
        """The loss in words, with all that tells it from others; empty if it is not known."""
        ...

    @property
    def offers(self) -> frozenset[type]:
        """The capabilities that this model has on this engine."""
        ...

    def parameters(self) -> Arrays:
        """Return the parameters where the model is now."""
        ...

    def from_numpy(self, arrays: HostArrays, /) -> Arrays:
        """Place host values as the parameters are: device, sharding, dtype."""
        ...

    def to_numpy(self, arrays: Arrays, /) -> dict[str, npt.NDArray[np.float64]]:
        """Copy arrays of ``xp`` to the host; of sharded arrays the whole."""
        ...

    def native(self, arrays: Arrays, /) -> Arrays:
        """Turn arrays of ``xp`` into the engine's own tensors."""
        ...

    def portable(self, arrays: Arrays, /) -> Arrays:
        """Turn the engine's own tensors into arrays of ``xp``."""
        ...

    def batch(self, given: Any, /) -> Batch:
        """Put a batch of the user's on the device: inputs in the model's dtype, targets in float32 or longer."""
        ...

    def host_rows(self, batch: Batch, /) -> Sequence[npt.NDArray[Any]]:
        """Return the arrays of a batch on the host, with one row per example, for fingerprints."""
        ...

    def inspected(self, tree: Any, /) -> Any:
        """Return arrays of a batch, or outputs, in a form in which NaN and infinity can be looked for."""
        ...

    def check_loss(self, outputs: Array, targets: Array, /) -> None:
        """Raise an error that says what is wrong with these outputs or targets for the loss."""
        ...

    def random_state(self, seed: int, source: Any, /) -> AbstractContextManager[None]:
        """Fix all random states that the data set ``source`` may draw from; restore them afterwards."""
        ...

    def examples_at_once(self, batch: Batch, /) -> int:
        """Return how many examples of the batch are computed together within the memory limit; all, if shapes are fixed."""
        ...

    def at(self, parameters: Arrays, /) -> AbstractContextManager[Point[Batch]]:
        """Hold the model at a parameter point. Raises ModelError if it cannot be measured as it is now, such as in train mode."""
        ...

    def add(self, total: Arrays, part: Arrays, /) -> Arrays:
        """Add two dictionaries of sums."""
        ...

    def divide(self, total: Arrays, weight: float, /) -> Arrays:
        """Divide these arrays, together."""
        ...

    def finite(self, arrays: Arrays, /) -> Array:
        """Return whether each array is finite, as one array of booleans in their order."""
        ...

    def read(self, tree: Any, /) -> Any:
        """Transfer a nest of lists and tuples of arrays to the host at once: scalars as numbers, arrays in float64."""
        ...

    def infinite_derivative(self, name: str, /) -> NonFiniteError:
        """Return the error that names the parameter whose derivative is NaN or infinite."""
        ...
