"""A loss as engines need it: losses of rows, and the cotangents whose squares make curvature. Written once for all frameworks.

An engine supplies the array namespace, and for a user's own function two derivatives in the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from array_api_compat import device

from invariant_sharpness.adapters.alone import check_own_losses, check_own_rows
from invariant_sharpness.adapters.engine import Cotangents
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import ElementwiseLoss, Factors, FunctionLoss, PositionLoss, convex
from invariant_sharpness.losses.positions import Term
from invariant_sharpness.prng import output_signs

Array = Any
InOutputs = Callable[[Callable[[Array, Array], Array], Array, Array], Array]
"""From a loss function, outputs and targets to a derivative of each example's loss in its outputs."""

LossesAt = Callable[[Callable[[Array, Any], Array], Array, Any, npt.NDArray[np.intp]], npt.NDArray[Any]]
"""From a loss function, outputs, targets and numbers of examples to the losses of these examples alone, on the host."""


def _itself(outputs: Array) -> Array:
    return outputs


class LossTerms(Protocol):
    """A loss of outputs whose first axis counts examples."""

    @property
    def name(self) -> str:
        """The loss's name, for messages."""
        ...

    @property
    def description(self) -> str:
        """The loss's name and options, for reports."""
        ...

    @property
    def reduction(self) -> Literal["mean", "sum"]:
        """Whether the sum of the weighted losses over the data is divided by that of the weights, or by one."""
        ...

    def check(self, outputs: Array, targets: Array, /) -> None:
        """Raise an error that says what is wrong with these outputs or targets."""
        ...

    def values(self, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        """Return losses and their weights in the mean, one per row. Shapes ``(m,)``."""
        ...

    @property
    def samples_outputs(self) -> bool:
        """Whether there are random cotangents."""
        ...

    def gradient_factors(self, outputs: Array, targets: Array, /) -> Factors:
        """Return factors of the second moment of the gradients."""
        ...

    def curvature_factors(self, outputs: Array, targets: Array, /) -> Factors:
        """Return factors of the Gauss-Newton diagonal."""
        ...

    def sampled_cotangents(self, outputs: Array, targets: Array, signs: Array, /) -> Array:
        """Return random cotangents in the shape of the outputs, from signs of shape ``(m, K)`` for the m rows of K outputs."""
        ...

    def row_shape(self, outputs: Array, targets: Array, /) -> tuple[int, int]:
        """Return the number m of rows that the loss sees, and the number K of outputs in a row."""
        ...

    def terms(self, factors: Factors, outputs: Array, /) -> Iterator[Term]:
        """Yield one term ``(s, v)`` for each position and factor: ``s`` of shape ``(n,)``, ``v`` of the shape of the outputs."""
        ...


@dataclass(frozen=True, slots=True)
class RowTerms:
    """The terms of a loss of the core.

    Parameters
    ----------
    positions
        The loss, taken at every position of an example.
    xp
        Array namespace of outputs and targets.
    constant
        Cuts outputs out of the graph, since the weights of rows are no functions of the parameters.
    otherwise
        What to do where the classes are on another axis, for messages.
    """

    positions: PositionLoss
    xp: Any
    constant: Callable[[Array], Array] = _itself
    otherwise: str = "move the classes to the last axis"

    @property
    def name(self) -> str:
        return self.positions.name

    @property
    def description(self) -> str:
        return self.positions.description

    @property
    def reduction(self) -> Literal["mean", "sum"]:
        return self.positions.reduction

    @property
    def samples_outputs(self) -> bool:
        return self.positions.samples_outputs

    def check(self, outputs: Array, targets: Array, /) -> None:
        check_one_target(self.name, targets)
        self.positions.check_rows(self.xp, outputs, targets, otherwise=self.otherwise)
        check_own_rows(self.positions.row_loss, self.xp, *self.positions.rows(self.xp, outputs, targets))

    def values(self, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        weights = self.positions.row_weights(self.xp, self.constant(outputs), targets)
        return self.positions.row_values(self.xp, outputs, targets), weights

    def gradient_factors(self, outputs: Array, targets: Array, /) -> Factors:
        return self.positions.gradient_rows(self.xp, outputs, targets)

    def curvature_factors(self, outputs: Array, targets: Array, /) -> Factors:
        return self.positions.curvature_rows(self.xp, outputs, targets)

    def sampled_cotangents(self, outputs: Array, targets: Array, signs: Array, /) -> Array:
        return self.positions.sampled_cotangents(self.xp, outputs, targets, signs)

    def curvature_product(self, outputs: Array, targets: Array, vectors: Array, /) -> Array | None:
        """Return the weighted output Hessian times vectors in the shape of the outputs, where it has a closed form."""
        return self.positions.curvature_product(self.xp, outputs, targets, vectors)

    def row_shape(self, outputs: Array, targets: Array, /) -> tuple[int, int]:
        if isinstance(self.positions.row_loss, ElementwiseLoss):
            return outputs.shape[0], prod(outputs.shape[1:])
        width = outputs.shape[self.positions.class_axis]
        return prod(outputs.shape) // width, width

    def terms(self, factors: Factors, outputs: Array, /) -> Iterator[Term]:
        return self.positions.terms(self.xp, factors, outputs)


@dataclass(frozen=True, slots=True)
class FunctionTerms:
    """The terms of a user's function ``(outputs, targets) -> one loss per example``.

    Parameters
    ----------
    loss
        The function.
    xp
        Array namespace of outputs and targets.
    row_gradient
        Computes the gradient of each example's loss in its outputs, in their shape.
    row_hessian
        Computes the Hessian of each example's loss in its K flattened outputs, of shape ``(n, K, K)``.
    array
        The type of array that the function has to return.
    losses_at
        Computes the losses of some examples, in float64 where the function can. None: it is not tested that they are their own.
    """

    loss: FunctionLoss
    xp: Any
    row_gradient: InOutputs
    row_hessian: InOutputs
    array: type[Any]
    losses_at: LossesAt | None = None

    @property
    def name(self) -> str:
        return self.loss.name

    @property
    def description(self) -> str:
        return self.loss.description

    @property
    def reduction(self) -> Literal["mean", "sum"]:
        return self.loss.reduction

    @property
    def samples_outputs(self) -> bool:
        return False

    def check(self, outputs: Array, targets: Array, /) -> None:
        function, examples = self.loss.function, outputs.shape[0]
        self.loss.check_losses(function(outputs, targets), self.array, examples)
        if (losses_at := self.losses_at) is not None:
            scale = float(self.xp.max(self.xp.abs(outputs)))
            check_own_losses(self.name, lambda rows: losses_at(function, outputs, targets, rows), examples, scale)

    def values(self, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        losses = self.loss.function(outputs, targets)
        return losses, self.xp.ones_like(losses)

    def gradient_factors(self, outputs: Array, targets: Array, /) -> Factors:
        gradient = self.row_gradient(self.loss.function, outputs, targets)
        return Factors(self._ones(outputs)[:, None, None], self.xp.reshape(gradient, (outputs.shape[0], 1, -1, 1)))

    def curvature_factors(self, outputs: Array, targets: Array, /) -> Factors:
        """Return the eigenvectors of the output Hessian of each example."""
        eigenvalues, eigenvectors = self.xp.linalg.eigh(self.row_hessian(self.loss.function, outputs, targets))
        return Factors(eigenvalues[:, None], eigenvectors[:, None])

    def sampled_cotangents(self, outputs: Array, targets: Array, signs: Array, /) -> Array:
        convex(self)  # says that it has no root
        raise AssertionError

    def row_shape(self, outputs: Array, targets: Array, /) -> tuple[int, int]:
        return outputs.shape[0], prod(outputs.shape[1:])

    def terms(self, factors: Factors, outputs: Array, /) -> Iterator[Term]:
        for term in range(factors.signs.shape[2]):
            yield factors.signs[:, 0, term], self.xp.reshape(factors.vectors[:, 0, :, term], outputs.shape)

    def _ones(self, outputs: Array) -> Array:
        return self.xp.ones(outputs.shape[0], dtype=outputs.dtype, device=device(outputs))


def check_one_target(name: str, targets: Any) -> None:
    """Raise LossError if a loss that takes one array of targets is given several."""
    if not hasattr(targets, "shape"):
        msg = (
            f"loss {name!r} takes one array of targets, but a batch has a {type(targets).__name__} of {len(targets)}: pass a "
            f"callable (outputs, targets) -> one loss per example, which gets the targets as the data have them"
        )
        raise LossError(msg)


def parameters_in_loss(name: str, parameters: Sequence[str]) -> LossError:
    """Return the error that names the parameters that a loss depends on beside the outputs."""
    listed = ", ".join(map(repr, parameters[:3])) + (f" and {len(parameters) - 3} more" if len(parameters) > 3 else "")
    msg = (
        f"loss {name!r} depends on {listed} beside the outputs, as a penalty on the weights does; what is measured differentiates "
        f"a loss in the outputs alone. Let the model return the penalty as one more output of every example, and add that "
        f"output in the loss"
    )
    return LossError(msg)


def cotangent_terms(
    loss: LossTerms, cotangents: Cotangents, outputs: Array, targets: Array, to_array: Callable[[Any], Array]
) -> Iterator[Term]:
    """Yield the terms whose squares are summed, one after the other; outputs are constants here.

    Parameters
    ----------
    loss, outputs, targets
        The loss, and what it is taken of.
    cotangents
        Which terms.
    to_array
        Puts random signs from the host where the outputs are, in their dtype.
    """
    if cotangents.kind == "gradient":
        yield from loss.terms(loss.gradient_factors(outputs, targets), outputs)
    elif cotangents.kind == "curvature":
        yield from loss.terms(loss.curvature_factors(outputs, targets), outputs)
    else:
        numbers, seed, start = cotangents.sampled()
        ones = to_array(np.ones(outputs.shape[0]))
        for number in numbers:
            signs = to_array(output_signs(seed, number, start, *loss.row_shape(outputs, targets)))
            yield ones, loss.sampled_cotangents(outputs, targets, signs)
