"""Means over the data: sums of unnormalized terms and of weights, piece by piece, divided once."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from invariant_sharpness.adapters.data import positive_weight
from invariant_sharpness.errors import DataError
from invariant_sharpness_torch.precision import held
from invariant_sharpness_torch.products import Tensors


def mean_of(terms: Iterable[tuple[Tensors, float]]) -> Tensors:
    """The sum of all terms over the sum of their weights; every term is a list of equally many tensors.

    Raises
    ------
    DataError
        If there is no term, or the weights add up to zero.
    """
    total: Tensors = []
    weight = 0.0
    for term, term_weight in terms:
        total = added(total, term) if total else [held(part.detach()) for part in term]
        weight += term_weight
    if not total:
        msg = "the data yielded no batch on this pass"
        raise DataError(msg)
    return [part / positive_weight(weight) for part in total]


def added(total: Tensors, term: Tensors) -> Tensors:
    """The sum, in single precision at least."""
    return [a + held(b.detach()) for a, b in zip(total, term, strict=True)]


def zeros_like(sources: Iterable[torch.Tensor]) -> Tensors:
    """Where a sum begins."""
    return [torch.zeros_like(held(source.detach())) for source in sources]
