"""Cross-entropy of language models, whose labels are their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses.cross_entropy import CrossEntropy

Array = Any


@dataclass(frozen=True, slots=True)
class NextTokenCrossEntropy(CrossEntropy):
    r"""Cross-entropy of the outputs at each position with the label of the next one: :math:`\ell_{nt} = \ln \sum_k e^{z_{ntk}} - z_{nt y}`, :math:`y = y_{n, t + 1}`.

    This is the loss of causal language models with ``labels = input_ids``, as they compute it themselves: outputs of shape
    ``(n, T, K)``, labels of shape ``(n, T)``, and a mean over all positions that have a next label. Labels of padding have to be
    ``ignore_index``, as data collators make them: an attention mask does not exclude a position from the loss.

    Parameters
    ----------
    class_weights, ignore_index, label_smoothing, divisor
        As in :class:`CrossEntropy`.

    Examples
    --------
    The label of the first position is predicted by none, and the last position predicts none.

    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> from invariant_sharpness.losses import PositionLoss
    >>> loss, outputs, labels = PositionLoss(NextTokenCrossEntropy()), np.zeros((1, 3, 2)), np.array([[0, 1, 1]])
    >>> loss.row_weights(xp, outputs, labels).tolist()
    [1.0, 1.0, 0.0]
    """

    name = "next_token_cross_entropy"

    def of_next_position(self, xp: Any, labels: Array) -> Array:
        """Return labels of shape ``(n, T)`` of the positions that predict them; the last predicts none, and is ignored."""
        labels = xp.astype(labels, xp.int32)
        return xp.concat([labels[:, 1:], xp.zeros_like(labels[:, :1]) + self.ignore_index], axis=1)

    def check_positions(self, outputs: Array, labels: Array) -> None:
        """Raise unless there are outputs, and a label, for each of at least two positions."""
        if len(outputs.shape) == 3 and tuple(outputs.shape[:2]) == tuple(labels.shape) and outputs.shape[1] > 1:
            return
        msg = (
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(labels.shape)}, but {self.name} needs outputs of shape (n, T, K) "
            f'and labels of shape (n, T), with T of at least 2: take "cross_entropy" for labels that are not shifted'
        )
        raise LossError(msg)
