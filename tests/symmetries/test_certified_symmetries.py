"""Every ready-made symmetry and every rescaling of the library goes through ``certify``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.symmetries import UnitRescaling, chain_permutations, chain_rescalings
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

SIZES = (4, 5, 6, 3)
METRIC = {
    "row_column": "normalized_sharpness",
    "layer": "matrix_normalized_sharpness",
    "permutation": "matrix_normalized_sharpness",
    "output_shift": "normalized_sharpness",
    "output_scale": "fisher_rao_norm",
}
"""A metric that is invariant to the kind, where there is one; else any."""


def oracle(loss: str = "cross_entropy") -> NetworkOracle:
    random = np.random.default_rng(0)
    weights = tuple(random.normal(size=(outputs, inputs)) for inputs, outputs in pairwise(SIZES))
    network = ReluNetwork(weights, tuple(random.normal(size=outputs) for outputs in SIZES[1:]))
    return NetworkOracle(network, random.normal(size=(12, 4)), np.arange(12) % 3, loss)


def hidden() -> UnitRescaling:
    return UnitRescaling(("layers.0.weight", "layers.0.bias"), ("layers.1.weight",))


SYMMETRIES: dict[str, Callable[[], Any]] = {
    "UnitRescaling without an oracle": hidden,
    "UnitRescaling on an oracle": lambda: hidden().on(oracle()),
    "chain_rescalings": lambda: chain_rescalings(oracle().groups),
    "find_symmetries": lambda: ish.find_symmetries(oracle()),
    "by_layer": lambda: ish.find_symmetries(oracle()).by_layer(),
    "random": lambda: ish.find_symmetries(oracle()).random(1),
    "random_factors": lambda: ish.find_symmetries(oracle()).random_factors(1),
    "random by layer": lambda: ish.find_symmetries(oracle()).by_layer().random(1),
    "UnitPermutation": lambda: chain_permutations(oracle()),
    "OutputShift": lambda: ish.OutputShift(oracle(), "layers.2.bias"),
    "OutputScale": lambda: ish.OutputScale(oracle("normalized_cross_entropy"), ("layers.2.weight", "layers.2.bias")),
    "several": lambda: [hidden(), *chain_permutations(oracle())],
}


@pytest.mark.parametrize("name", SYMMETRIES)
def test_certify_takes_it_and_the_loss_stays(name: str) -> None:
    symmetries = SYMMETRIES[name]()
    kinds = {one.kind for one in (symmetries if isinstance(symmetries, list) else [symmetries])}
    on = oracle("normalized_cross_entropy") if kinds == {"output_scale"} else oracle()
    certificate = ish.certify(on, sorted({METRIC[kind] for kind in kinds}), symmetries=symmetries)
    assert {finding.kind for finding in certificate} == kinds, certificate
    broken = [finding for finding in certificate if not finding.is_symmetry]
    assert not broken, f"the loss moved: {broken}"
    assert not certificate.failed, certificate


def test_normalized_sharpness_holds_under_the_papers_own_rescaling_and_the_trace_moves() -> None:
    certificate = ish.certify(oracle(), ["normalized_sharpness", "hessian_trace"], symmetries=hidden())
    verdicts = {(finding.metric, finding.verdict) for finding in certificate}
    assert verdicts == {("normalized_sharpness", "holds"), ("hessian_trace", "moves")}, certificate


def test_powers_of_two_leave_the_loss_as_it_is_bit_by_bit() -> None:
    on = oracle()
    rescaled = hidden().on(on).transformations(0)["powers of two"].apply(on.parameters)
    distance = (rescaled - on.parameters).norm()
    assert distance > 0.1, f"the parameters moved by {distance}"
    assert on.loss(rescaled) == on.loss(on.parameters)


def test_rescaling_without_an_oracle_says_how_to_give_it_one() -> None:
    with pytest.raises(ValueError, match=r"take rescaling.on\(oracle\)"):
        hidden().transformations(0)


def test_object_that_is_no_symmetry_is_refused_by_its_type() -> None:
    wrong: Any = ["query.weight"]
    with pytest.raises(
        TypeError, match="str is no symmetry: give an object with an attribute kind and a method transf"
    ):
        ish.certify(oracle(), "hessian_trace", symmetries=wrong)


def test_symmetry_of_version_0_1_is_taken_with_a_warning() -> None:
    class Flip:
        kind = "diagonal"

        def moves(self, _seed: int) -> dict[str, Any]:
            return {"as given": hidden().on(oracle()).transformations(0)["powers of two"]}

    old: Any = Flip()
    with pytest.warns(DeprecationWarning, match=r"Flip.moves\(seed\) is now transformations\(seed\)"):
        certificate = ish.certify(oracle(), "hessian_trace", symmetries=old)
    assert [finding.verdict for finding in certificate] == ["moves"], certificate
