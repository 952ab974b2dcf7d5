"""A metric has a value where units are very large and very small, and still keeps its claims."""

from __future__ import annotations

from math import isfinite, log2

import numpy as np

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.protocol import machine_epsilon
from invariant_sharpness.results.agreement import same_draws
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.symmetries import Symmetries
from invariant_sharpness.testing.metric_checks.trial import Trial, nothing_to_see
from invariant_sharpness.testing.results import CheckFailedError, Figures
from invariant_sharpness.testing.specimens import RESCALINGS, Specimen

_LARGEST = 40
"""Second derivatives are then up to 2**160 times larger; a product of two more is still finite."""

_OF_THE_RANGE = 25


def check_extreme_scales(trial: Trial) -> Figures:
    """With units times 2**40 and 2**-40 in turn the value is finite, and stays if it is said to. Cost: three values for each network."""
    changes, found = [], 0
    for specimen in trial.specimens:
        before = trial.value(specimen.oracle)
        for kind in RESCALINGS:
            family = specimen.rescalings(kind)
            if not family:
                continue
            found += 1
            exponent = _exponent(specimen)
            after = _there(trial, specimen, family, exponent)
            where = f"on {specimen} with factors 2**{exponent} and 2**-{exponent} in turn, of the kind {kind!r}"
            if not isfinite(after.value):
                msg = (
                    f"{trial.name} is {after.value} {where}, where the loss is what it was: multiply scales and derivatives before "
                    f"either is squared, add logarithms instead of multiplying, and divide by nothing that can vanish"
                )
                raise CheckFailedError(msg)
            agreement = same_draws(before, after, machine_epsilon(specimen.oracle))
            if trial.claims(kind):
                changes.append(agreement.change)
                if not agreement.holds:
                    msg = (
                        f"before and after, the values of {trial.name} {where} are {agreement}: look for a constant that is added, such as an "
                        f"epsilon, and for sums of what is tiny and what is huge"
                    )
                    raise CheckFailedError(msg, {"change": agreement.change})
    if not found:
        raise nothing_to_see(*RESCALINGS)
    return {"moves": found, "largest_change": max(changes, default=0.0)}


def _there(trial: Trial, specimen: Specimen, family: Symmetries, exponent: int) -> Estimate:
    turns = np.where(np.arange(len(family)) % 2, -float(exponent), float(exponent))
    there = family.rescaling(turns).apply(specimen.oracle.parameters)
    return trial.value(Moved(specimen.oracle, there))


def _exponent(specimen: Specimen) -> int:
    """In single precision, 2**5: the range of its exponents is an eighth of that of double precision."""
    oracle = specimen.oracle
    ranges = [log2(float(oracle.xp.finfo(array.dtype).max)) for array in oracle.parameters.arrays.values()]
    return min(_LARGEST, int(min(ranges)) // _OF_THE_RANGE)
