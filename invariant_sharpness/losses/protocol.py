"""What a loss is: one number per row of outputs, with two derivatives in the outputs."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from invariant_sharpness.errors import LossError

Array = Any


@runtime_checkable
class OutputLoss(Protocol):
    """A loss of network outputs ``z`` of shape ``(n, K)``, row by row.

    ``values`` is written in array API functions alone, so that a framework can differentiate it;
    the derivatives are closed forms. The mean loss over the data is
    ``sum(weights * values) / sum(weights)``.
    """

    @property
    def name(self) -> str:
        """The name under which users ask for the loss."""
        ...

    def check(self, xp: Any, outputs: Array, targets: Array, /) -> None:
        """Raise an error that names what is wrong with these outputs or targets."""
        ...

    def weights(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        """Return the weight of each row in the mean, of shape ``(n,)``; zero for a row that is ignored."""
        ...

    def values(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        """Compute the loss of each row, of shape ``(n,)``."""
        ...

    def gradient(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        """Compute the gradient in the outputs, of shape ``(n, K)``."""
        ...

    def hessian(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        r"""Compute the Hessian in the outputs, :math:`\Lambda_n`, of shape ``(n, K, K)``."""
        ...

    def hessian_factors(self, xp: Any, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        r"""Return weights ``s`` of either sign, of shape ``(n, R)`` and vectors ``v`` of shape ``(n, K, R)``.

        They satisfy :math:`\Lambda_n = \sum_r s_{nr} v_{nr} v_{nr}^T`.
        """
        ...


@runtime_checkable
class ConvexLoss(OutputLoss, Protocol):
    """A loss whose output Hessian is positive semidefinite, with a square root that never has to be formed."""

    def hessian_root_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array:
        r"""Compute the products :math:`R_n u_n` with :math:`R_n R_n^T = \Lambda_n`, for one vector per row, of shape ``(n, K)``.

        For random signs u the products have the second moment :math:`E[(R_n u)(R_n u)^T] = \Lambda_n`. Memory: that of the outputs.
        """
        ...


@runtime_checkable
class CurvedLoss(OutputLoss, Protocol):
    """A loss whose output Hessian has a product in closed form, which takes no more memory than the outputs."""

    def hessian_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array:
        r"""Compute the products :math:`\Lambda_n u_n`, for one vector per row, of shape ``(n, K)``."""
        ...


def convex(loss: object) -> ConvexLoss:
    """Return the loss itself, if its output Hessian has a root.

    Parameters
    ----------
    loss
        Any loss.

    Returns
    -------
    ConvexLoss
        The same object.

    Raises
    ------
    LossError
        If its output Hessian has no known root.

    Examples
    --------
    >>> from invariant_sharpness.losses import SquaredError
    >>> convex(SquaredError())
    SquaredError()
    """
    if isinstance(loss, ConvexLoss):
        return loss
    name = getattr(loss, "name", type(loss).__name__)
    msg = (
        f"the output Hessian of {name} has no known square root, so its outputs cannot be sampled: take "
        f'"cross_entropy" or "mse", or probes of the Hessian'
    )
    raise LossError(msg)
