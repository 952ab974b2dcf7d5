"""Losses in words: two of them are one loss if they are the same in words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any, Literal

from invariant_sharpness.losses.protocol import OutputLoss

_LONGEST = 40


def described(loss: OutputLoss, *, reduction: Literal["mean", "sum"] = "mean") -> str:
    """Return the name of a loss, with its options where they are not the usual ones.

    Parameters
    ----------
    loss
        The loss of a row. Only options that are fields of a dataclass are known.
    reduction
        How the loss of the data is made of those of rows.

    Returns
    -------
    str
        In one line. Long lists of numbers, such as class weights, are shown as a digest.

    Examples
    --------
    >>> from invariant_sharpness.losses import CrossEntropy
    >>> described(CrossEntropy()), described(CrossEntropy(label_smoothing=0.1), reduction="sum")
    ('cross_entropy', 'cross_entropy(label_smoothing=0.1, summed over the data)')
    """
    options = [*_options(loss), *(["summed over the data"] if reduction == "sum" else [])]
    return f"{loss.name}({', '.join(options)})" if options else loss.name


def _options(loss: OutputLoss) -> Iterator[str]:
    options: tuple[Field[Any], ...] = fields(loss) if is_dataclass(loss) else ()
    for option in options:
        value = getattr(loss, option.name)
        plain = value.tolist() if hasattr(value, "tolist") else value
        if plain != option.default:
            yield f"{option.name}={_short(repr(plain))}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"#{hashlib.sha256(text.encode()).hexdigest()[:8]}"
