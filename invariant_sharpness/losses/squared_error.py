"""Mean squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import device

from invariant_sharpness.errors import DataError

Array = Any


@dataclass(frozen=True, slots=True)
class SquaredError:
    r"""Mean squared error over the outputs, :math:`\ell = \tfrac1K \sum_k (z_k - t_k)^2`.

    The factor is that of ``torch.nn.MSELoss`` and Keras' ``"mse"``, without one half:
    output Hessian :math:`\Lambda = \tfrac2K I`.

    Examples
    --------
    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> outputs, targets = np.array([[1.0, 3.0]]), np.array([[0.0, 0.0]])
    >>> SquaredError().values(xp, outputs, targets).tolist(), SquaredError().gradient(xp, outputs, targets).tolist()
    ([5.0], [[1.0, 3.0]])
    """

    name = "mse"

    def check(self, xp: Any, outputs: Array, targets: Array, /) -> None:
        if tuple(outputs.shape) != tuple(targets.shape):
            msg = (
                f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}: "
                f"squared error needs equal shapes"
            )
            raise DataError(msg)

    def weights(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return xp.ones_like(outputs[:, 0])

    def values(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return xp.mean((outputs - targets) ** 2, axis=1)

    def gradient(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        return (outputs - targets) * (2 / outputs.shape[1])

    def hessian(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        factors, vectors = self.hessian_factors(xp, outputs, targets)
        return vectors * factors[:, None, :]

    def hessian_root_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array:
        return vectors * (2 / outputs.shape[1]) ** 0.5

    def hessian_factors(self, xp: Any, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        """Return the unit vectors, each with weight ``2 / K``."""
        identity = xp.eye(outputs.shape[1], dtype=outputs.dtype, device=device(outputs))
        return xp.ones_like(outputs) * (2 / outputs.shape[1]), xp.ones_like(outputs)[:, :, None] * identity
