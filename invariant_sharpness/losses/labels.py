"""Class labels and class probabilities: checked once, then used as rows of masses, one for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from array_api_compat import device

from invariant_sharpness.errors import DataError, LossError

Array = Any


@dataclass(frozen=True, slots=True)
class ClassTargets:
    r"""From the targets of a batch to masses :math:`q_{nc}`, with which a loss takes class c into account, and weights of rows.

    Of a label y, :math:`q_c = (1 - \epsilon) [c = y] + \epsilon w_c / (K w_y)`, in a row of weight :math:`w_y`; of class
    probabilities t, :math:`q_c = w_c ((1 - \epsilon) t_c + \epsilon / K)`, in a row of weight 1.

    Parameters
    ----------
    class_weights
        One weight :math:`w_c` per class; None for ones.
    ignore_index
        Rows with this label do not count, whether it is a class or not.
    label_smoothing
        :math:`\epsilon`, from 0 to 1.
    divisor
        What the sum of the losses is divided by: the weights of the labels, or the number of rows, ignored ones included. In the
        latter case the weight of a label is part of its masses.
    """

    class_weights: tuple[float, ...] | None = None
    ignore_index: int = -100
    label_smoothing: float = 0.0
    divisor: Literal["weights", "rows"] = "weights"

    def check(self, xp: Any, outputs: Array, targets: Array) -> None:
        """Raise unless targets are labels, or rows of class probabilities."""
        if not 0 <= self.label_smoothing <= 1:
            msg = f"label_smoothing={self.label_smoothing}, but it is a probability, from 0 to 1"
            raise LossError(msg)
        if are_probabilities(outputs, targets):
            _check_probabilities(xp, targets)
            return
        check_labels(xp, outputs, targets, self.ignore_index)
        self._check_smoothing(xp, outputs, targets)

    def weights(self, xp: Any, outputs: Array, targets: Array) -> Array:
        """Return the weight of each row in the divisor."""
        weights = self._by_class(xp, outputs)
        if self.divisor == "rows" or are_probabilities(outputs, targets):
            return xp.ones_like(outputs[:, 0])
        return self._counts(xp, outputs, targets) * self._of_label(xp, outputs, targets, weights)

    def have_one_class(self, outputs: Array, targets: Array) -> bool:
        """Whether all of a row's mass is that of its label: nothing is smoothed, and targets are no class probabilities."""
        return self.label_smoothing == 0 and not are_probabilities(outputs, targets)

    def of_labels(self, xp: Any, outputs: Array, labels: Array) -> tuple[Array, Array]:
        """Return the output of each row's label, and the label's mass: zero for a row that is ignored. Shapes ``(n,)``."""
        counts = self._counts(xp, outputs, labels)
        own = xp.take_along_axis(outputs, self._classes(xp, labels)[:, None], axis=1)[:, 0]
        if self.divisor == "weights":
            return own, counts
        return own, counts * self._of_label(xp, outputs, labels, self._by_class(xp, outputs))

    def _of_label(self, xp: Any, outputs: Array, labels: Array, weights: Array) -> Array:
        """The class weights of the labels."""
        return weights if self.class_weights is None else xp.take(weights, self._classes(xp, labels), axis=0)

    def _classes(self, xp: Any, labels: Array) -> Array:
        """The labels as indices; the first class in the place of one that is ignored."""
        widened = _widened(xp, labels)
        kept = xp.where(widened != self.ignore_index, widened, xp.zeros_like(widened))
        return xp.astype(kept, xp.arange(1).dtype)

    def masses(self, xp: Any, outputs: Array, targets: Array) -> Array:
        """Return the masses of all classes, of shape ``(n, K)``; zeros for a row that is ignored."""
        smoothing, weights = self.label_smoothing, self._by_class(xp, outputs)
        if are_probabilities(outputs, targets):
            smooth = xp.astype(targets, outputs.dtype) * (1 - smoothing) + smoothing / outputs.shape[1]
            return smooth * weights
        hot = self._counted(xp, outputs, targets)
        if self.divisor == "weights" and smoothing == 0:
            return hot
        # The masses of a row of weight one, and what is divided by to keep them in a row of the label's weight.
        counts = self._counts(xp, outputs, targets)[:, None]
        masses = (hot * (1 - smoothing) + counts * (smoothing / outputs.shape[1])) * weights
        if self.divisor == "rows" or self.class_weights is None:
            return masses
        own = xp.sum(hot * weights, axis=1, keepdims=True)
        return masses / xp.where(own > 0, own, xp.ones_like(own))

    def _counted(self, xp: Any, outputs: Array, labels: Array) -> Array:
        return one_hot(xp, outputs, labels) * self._counts(xp, outputs, labels)[:, None]

    def _counts(self, xp: Any, outputs: Array, labels: Array) -> Array:
        return xp.astype(_widened(xp, labels) != self.ignore_index, outputs.dtype)

    def _by_class(self, xp: Any, outputs: Array) -> Array:
        """The class weights, as a row of one number or of K."""
        given = (1.0,) if self.class_weights is None else self.class_weights
        if self.class_weights is not None and len(given) != outputs.shape[1]:
            msg = f"{len(given)} class weights were given for {outputs.shape[1]} outputs: give one for each"
            raise DataError(msg)
        if not all(0 <= weight < float("inf") for weight in given):
            msg = f"class weights are {given}, but a weight is finite and not negative"
            raise DataError(msg)
        return xp.asarray(given, dtype=outputs.dtype, device=device(outputs))

    def _check_smoothing(self, xp: Any, outputs: Array, labels: Array) -> None:
        """A row whose label has weight zero adds its smoothed part to the sum, and nothing to what is divided by."""
        if self.label_smoothing == 0 or self.class_weights is None or self.divisor == "rows":
            return
        counts, weights = self._counts(xp, outputs, labels), self.weights(xp, outputs, labels)
        if bool(xp.any((counts > 0) & (weights == 0))):
            msg = (
                "the class weight of a label is zero, and label_smoothing gives its rows a loss nevertheless, which no weight "
                'divides: exclude the label by ignore_index=, or take reduction="sum"'
            )
            raise LossError(msg)


def are_probabilities(outputs: Array, targets: Array) -> bool:
    """Whether targets are rows of numbers, one for each class, instead of labels."""
    rank = len(targets.shape)
    return rank > 1 and rank == len(outputs.shape) and tuple(outputs.shape[1:]) == tuple(targets.shape[1:])


def check_labels(xp: Any, outputs: Array, labels: Array, ignore_index: int | None) -> None:
    """Raise unless ``labels`` are integers from 0 to K - 1, one per row of ``outputs``."""
    if outputs.ndim != 2 or labels.ndim != 1 or outputs.shape[0] != labels.shape[0]:
        msg = (
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(labels.shape)}, but cross-entropy "
            f"needs one row of class scores and one class label per example: (n, K) and (n,)"
        )
        raise DataError(msg)
    if not xp.isdtype(labels.dtype, "integral"):
        msg = f"targets have dtype {labels.dtype}, but class labels are integers: convert them first"
        raise DataError(msg)
    labels = _widened(xp, labels)
    classes = outputs.shape[1]
    wrong = (labels < 0) | (labels >= classes)
    if ignore_index is not None:
        wrong = wrong & (labels != ignore_index)
    if bool(xp.any(wrong)):
        row = int(xp.argmax(xp.astype(wrong, xp.int32)))
        ignored = "" if ignore_index is None else f" (or ignore_index={ignore_index})"
        msg = (
            f"target {int(labels[row])} of example {row} in the batch is not a class: the model has "
            f"{classes} outputs, so labels go from 0 to {classes - 1}{ignored}"
        )
        raise DataError(msg)


def one_hot(xp: Any, outputs: Array, labels: Array) -> Array:
    """Make rows of zeros with a one at the label, in the dtype of ``outputs``; all zeros if ignored."""
    labels = _widened(xp, labels)
    classes = xp.arange(outputs.shape[1], device=device(outputs), dtype=labels.dtype)
    return xp.astype(classes[None, :] == labels[:, None], outputs.dtype)


def _check_probabilities(xp: Any, targets: Array) -> None:
    """Raise unless no probability is negative; rows may have any sum, as masses of several labels have."""
    if xp.isdtype(targets.dtype, ("integral", "real floating")) and not bool(xp.any(targets < 0)):
        return
    msg = (
        f"targets of the shape of the outputs are class probabilities, but these (dtype {targets.dtype}) are no numbers from 0: "
        f"give one class label for each row of outputs, or its one-hot row"
    )
    raise DataError(msg)


def _widened(xp: Any, labels: Array) -> Array:
    """Convert labels to a type that holds every class and ``ignore_index``: bytes, the labels of many data sets, do not."""
    return xp.astype(labels, xp.int32) if xp.iinfo(labels.dtype).bits < 32 else labels
