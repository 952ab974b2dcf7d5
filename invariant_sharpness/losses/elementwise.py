"""Losses that are a sum, or a mean, of one convex function of each output and its target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar, Literal

from array_api_compat import device

from invariant_sharpness.errors import DataError

Array = Any


@dataclass(frozen=True)
class ElementwiseLoss(ABC):
    r"""A loss :math:`\ell = \tfrac1K \sum_k \phi(z_k, t_k)` of the K outputs of an example, or the sum, with :math:`\phi` convex in z.

    The output Hessian is diagonal, :math:`\Lambda = \tfrac1K \operatorname{diag}(\phi''(z_k, t_k))`. Outputs and targets have equal
    shapes ``(n, ...)``, of which all axes but the first are outputs of an example. A subclass has :math:`\phi` and its two derivatives.

    Parameters
    ----------
    reduction
        Over the outputs of an example: their mean, or the sum.

    Examples
    --------
    The mean over two outputs of :math:`z - t + e^{t - z}`.

    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> class Linex(ElementwiseLoss):
    ...     name = "linex"
    ...     def element_values(self, xp, z, t, /):
    ...         return z - t + xp.exp(t - z)
    ...     def element_slopes(self, xp, z, t, /):
    ...         return 1 - xp.exp(t - z)
    ...     def element_curvatures(self, xp, z, t, /):
    ...         return xp.exp(t - z)
    >>> Linex().hessian(xp, np.zeros((1, 2)), np.zeros((1, 2))).tolist()
    [[[0.5, 0.0], [0.0, 0.5]]]
    """

    reduction: Literal["mean", "sum"] = field(default="mean", repr=False, kw_only=True)
    name: ClassVar[str]

    @property
    def title(self) -> str:
        """The name in sentences."""
        return self.name.replace("_", " ")

    @abstractmethod
    def element_values(self, xp: Any, z: Array, t: Array, /) -> Array:
        r"""Compute :math:`\phi(z, t)`, in array API functions alone."""

    @abstractmethod
    def element_slopes(self, xp: Any, z: Array, t: Array, /) -> Array:
        r"""Compute :math:`\phi'(z, t)`."""

    @abstractmethod
    def element_curvatures(self, xp: Any, z: Array, t: Array, /) -> Array:
        r"""Compute :math:`\phi''(z, t) \ge 0`."""

    def check_elements(self, xp: Any, z: Array, t: Array, /) -> None:  # noqa: B027 - most losses take all numbers
        """Raise unless these targets are some that the loss is made for."""

    def check(self, xp: Any, outputs: Array, targets: Array, /) -> None:
        if tuple(outputs.shape) != tuple(targets.shape):
            msg = (
                f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}: "
                f"{self.title} needs equal shapes"
            )
            raise DataError(msg)
        self.check_elements(xp, outputs, targets)

    def weights(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return xp.ones_like(flat_rows(xp, outputs)[:, 0])

    def values(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        rows = flat_rows(xp, self.element_values(xp, outputs, _like(xp, targets, outputs)))
        return xp.mean(rows, axis=1) if self.reduction == "mean" else xp.sum(rows, axis=1)

    def gradient(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        rows = flat_rows(xp, self.element_slopes(xp, outputs, _like(xp, targets, outputs)))
        return rows * self._share(rows.shape[1])

    def hessian(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        factors, vectors = self.hessian_factors(xp, outputs, targets)
        return vectors * factors[:, None, :]

    def hessian_root_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array:
        return xp.sqrt(self._curvatures(xp, outputs, targets)) * vectors

    def hessian_factors(self, xp: Any, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        """Return the unit vectors, each with its own curvature."""
        curvatures = self._curvatures(xp, outputs, targets)
        identity = xp.eye(curvatures.shape[1], dtype=curvatures.dtype, device=device(curvatures))
        return curvatures, xp.ones_like(curvatures)[:, :, None] * identity

    def _curvatures(self, xp: Any, outputs: Array, targets: Array) -> Array:
        rows = flat_rows(xp, self.element_curvatures(xp, outputs, _like(xp, targets, outputs)))
        return rows * self._share(rows.shape[1])

    def _share(self, outputs: int) -> float:
        """What each of so many outputs counts."""
        return 1 / outputs if self.reduction == "mean" else 1.0


@dataclass(frozen=True)
class SquaredError(ElementwiseLoss):
    r"""Mean squared error over the outputs, :math:`\ell = \tfrac1K \sum_k (z_k - t_k)^2`.

    The factor is that of ``torch.nn.MSELoss`` and Keras' ``"mse"``, without one half:
    output Hessian :math:`\Lambda = \tfrac2K I`.

    Parameters
    ----------
    factor
        Multiplies the loss; ``optax.l2_loss`` has one half.
    reduction
        Over the outputs of an example: their mean, or the sum.

    Examples
    --------
    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> outputs, targets = np.array([[1.0, 3.0]]), np.array([[0.0, 0.0]])
    >>> SquaredError().values(xp, outputs, targets).tolist(), SquaredError().gradient(xp, outputs, targets).tolist()
    ([5.0], [[1.0, 3.0]])
    """

    factor: float = field(default=1.0, repr=False)
    name = "mse"

    @property
    def title(self) -> str:
        return "squared error"

    def element_values(self, xp: Any, z: Array, t: Array, /) -> Array:
        return (z - t) ** 2 * self.factor

    def element_slopes(self, xp: Any, z: Array, t: Array, /) -> Array:
        return (z - t) * (2 * self.factor)

    def element_curvatures(self, xp: Any, z: Array, t: Array, /) -> Array:
        return xp.ones_like(z) * (2 * self.factor)

    def hessian_root_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array:
        return vectors * (2 * self.factor * self._share(vectors.shape[1])) ** 0.5


@dataclass(frozen=True)
class AbsoluteError(ElementwiseLoss):
    r"""Mean absolute error over the outputs, :math:`\ell = \tfrac1K \sum_k |z_k - t_k|`, as ``torch.nn.L1Loss``; its output Hessian is zero.

    Parameters
    ----------
    reduction
        Over the outputs of an example: their mean, or the sum.

    Examples
    --------
    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> AbsoluteError().values(xp, np.array([[1.0, -3.0]]), np.array([[0.0, 0.0]])).tolist()
    [2.0]
    """

    name = "absolute_error"

    def element_values(self, xp: Any, z: Array, t: Array, /) -> Array:
        return xp.abs(z - t)

    def element_slopes(self, xp: Any, z: Array, t: Array, /) -> Array:
        return xp.sign(z - t)

    def element_curvatures(self, xp: Any, z: Array, t: Array, /) -> Array:
        return xp.zeros_like(z)


@dataclass(frozen=True)
class Huber(ElementwiseLoss):
    r"""Huber's loss: with :math:`r = z - t`, :math:`\phi = c\, r^2 / 2` for :math:`|r| < \delta`, and :math:`c\, \delta (|r| - \delta / 2)` beyond.

    ``torch.nn.HuberLoss`` has :math:`c = 1`, ``torch.nn.SmoothL1Loss`` has :math:`c = 1 / \delta`.

    Parameters
    ----------
    delta
        Where the loss becomes linear; positive.
    factor
        The factor c.
    reduction
        Over the outputs of an example: their mean, or the sum.

    Examples
    --------
    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> Huber(1.0).values(xp, np.array([[1.0], [3.0]]), np.array([[0.5], [0.0]])).tolist()
    [0.125, 2.5]
    """

    delta: float = 1.0
    factor: float = 1.0
    name = "huber"

    def element_values(self, xp: Any, z: Array, t: Array, /) -> Array:
        r = xp.abs(z - t)
        return xp.where(r < self.delta, r * r * 0.5, (r - 0.5 * self.delta) * self.delta) * self.factor

    def element_slopes(self, xp: Any, z: Array, t: Array, /) -> Array:
        r = z - t
        return xp.where(xp.abs(r) < self.delta, r, xp.sign(r) * self.delta) * self.factor

    def element_curvatures(self, xp: Any, z: Array, t: Array, /) -> Array:
        return xp.astype(xp.abs(z - t) < self.delta, z.dtype) * self.factor


def flat_rows(xp: Any, array: Array) -> Array:
    """Flatten everything but the examples, to shape ``(n, K)``."""
    return xp.reshape(array, (-1, prod(array.shape[1:])))


def _like(xp: Any, targets: Array, outputs: Array) -> Array:
    return xp.astype(targets, outputs.dtype, copy=False)
