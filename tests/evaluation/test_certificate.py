"""A certificate says of each claim whether it holds on the model at hand, with the figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from invariant_sharpness.evaluation.certificate import Certificate
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.results.records import Finding
from invariant_sharpness.symmetries import Transformation
from invariant_sharpness_numpy import FunctionOracle

Metric = Callable[[ish.CurvatureOracle], float]


@cache
def oracle(activation: type[nn.Module] = nn.ReLU) -> ish.CurvatureOracle:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, 3)).double()
    return ish.oracle(model, (torch.randn(12, 4).double(), torch.arange(12) % 3))


def weights(one: ish.CurvatureOracle) -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in one.to_numpy(one.parameters).items() if name.endswith("weight")}


def squared_weights(one: ish.CurvatureOracle) -> float:
    return sum(float(np.sum(w**2)) for w in weights(one).values())


def path_norm(one: ish.CurvatureOracle) -> float:
    """The sum over paths of the squares of their products: no rescaling of hidden units changes it."""
    first, second = weights(one).values()
    return float(np.sum(second**2 @ first**2))


def path_norm_with_epsilon(one: ish.CurvatureOracle) -> float:
    first, second = weights(one).values()
    return float(np.sum((second**2 + 1e-3) @ (first**2 + 1e-3)))


def verdicts(certificate: Certificate) -> dict[tuple[str, str], str]:
    return {(finding.metric, finding.kind): finding.verdict for finding in certificate.worst()}


def test_claim_that_holds_is_said_to_hold() -> None:
    certificate = ish.certify(oracle(), [path_norm], claims={"path_norm": {"row_column"}})
    assert verdicts(certificate) == {("path_norm", "row_column"): "holds", ("path_norm", "layer"): "holds"}
    assert not certificate.failed


def test_claim_that_an_epsilon_breaks_fails_by_name() -> None:
    certificate = ish.certify(oracle(), [path_norm_with_epsilon], claims={"path_norm_with_epsilon": {"row_column"}})
    failed = certificate.failed
    assert {finding.metric for finding in failed} == {"path_norm_with_epsilon"}, certificate
    assert "CLAIM FAILS" in str(certificate), str(certificate)


def test_factor_of_a_raw_metric_is_that_of_the_moved_weights() -> None:
    symmetries = ish.find_symmetries(oracle())
    certificate = ish.certify(oracle(), [squared_weights], symmetries=symmetries, seed=3)
    for finding in certificate:
        parameters = symmetries.transformations(3)[finding.move].apply(oracle().parameters)
        moved = sum(float((parameters[name] ** 2).sum()) for name in ("0.weight", "2.weight"))
        start = sum(float((oracle().parameters[name] ** 2).sum()) for name in ("0.weight", "2.weight"))
        assert finding.factor == pytest.approx(moved / start, rel=1e-12), finding
        assert finding.verdict == "moves", finding


def test_metric_that_stays_without_a_claim_is_told_so() -> None:
    certificate = ish.certify(oracle(), [path_norm])
    assert set(verdicts(certificate).values()) == {"stays"}, certificate


def test_claim_of_layers_is_not_held_against_single_units() -> None:
    certificate = ish.certify(oracle(), "matrix_normalized_sharpness")
    found = verdicts(certificate)
    assert found == {
        ("matrix_normalized_sharpness", "row_column"): "moves",
        ("matrix_normalized_sharpness", "layer"): "holds",
    }


class Doubled:
    """All parameters times two: no symmetry at all."""

    kind = "row_column"

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        return 2.0 * parameters

    def transformations(self, seed: int, /) -> Mapping[str, Transformation]:
        return {"doubled": self}


def test_move_that_changes_the_loss_is_no_symmetry() -> None:
    (finding,) = ish.certify(oracle(), "normalized_sharpness", symmetries=Doubled())
    before, after = (oracle().loss(factor * oracle().parameters) for factor in (1.0, 2.0))
    assert finding.verdict == "no symmetry", finding
    assert finding.loss_change == pytest.approx(abs(after - before) / before, rel=1e-12), finding


def test_metric_that_cannot_be_measured_says_why_and_leaves_the_others_alone() -> None:
    quadratic = FunctionOracle(
        {"w": np.arange(1.0, 4.0)},
        loss=lambda p: float(p["w"] @ p["w"]),
        gradient=lambda p: {"w": 2 * p["w"]},
        hessian_vector_product=lambda _p, v: {"w": 2 * v["w"]},
    )
    certificate = ish.certify(quadratic, ["fisher_rao_norm", "hessian_trace"], symmetries=Doubled())
    missing, measured = certificate
    assert missing.verdict == "not measured", missing
    assert "gradient_second_moment" in missing.reason, missing.reason
    assert measured.before == pytest.approx(6.0, rel=1e-3), measured


def test_value_that_has_not_converged_is_not_held_against_the_claim() -> None:
    def unfinished(one: ish.CurvatureOracle) -> ish.Estimate:
        return ish.Estimate("unfinished", squared_weights(one), "2 of 100 steps", converged=False)

    certificate = ish.certify(oracle(), [unfinished], claims={"unfinished": {"row_column"}})
    assert {finding.verdict for finding in certificate} == {"not measured"}, certificate
    assert "2 of 100 steps" in certificate[0].reason, certificate[0]


def test_estimates_of_one_name_take_that_of_their_callable() -> None:
    def scaled_trace(one: ish.CurvatureOracle) -> ish.Estimate:
        return ish.hessian_trace(ish.Scaled(one, abs(one.parameters)))

    certificate = ish.certify(oracle(), ["hessian_trace", scaled_trace], claims={"scaled_trace": {"diagonal"}})
    assert not certificate.failed, certificate


def test_smooth_network_has_nothing_to_certify_with_and_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="HeadMixing"):
        ish.certify(oracle(nn.Tanh))


@pytest.mark.parametrize(
    ("metrics", "claims", "message"),
    [
        (["hessian_trase"], None, "there is no metric 'hessian_trase'"),
        (["hessian_trace", "hessian_trace"], None, "two metrics have the same name"),
        (["hessian_trace"], {"other": {"layer"}}, "claims for other"),
    ],
)
def test_wrong_metrics_are_refused_by_name(
    metrics: list[str], claims: dict[str, set[str]] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ish.certify(oracle(), metrics, claims=claims)


def test_same_seed_gives_the_same_certificate() -> None:
    first, second = (ish.certify(oracle(), ["hessian_spectral_norm"], seed=5).to_json() for _ in range(2))
    assert first == second


def test_parameters_are_left_where_they_were() -> None:
    before = oracle().to_numpy(oracle().parameters)
    ish.certify(oracle(), [squared_weights])
    after = oracle().to_numpy(oracle().parameters)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_json_holds_every_finding_and_null_for_what_is_no_number() -> None:
    nothing = Finding("m", "layer", "a", True, float("nan"), float("nan"), 1e-6, 0.0, True, reason="no derivative")
    loaded = json.loads(Certificate((nothing,), "none", "Oracle", 0).to_json())
    assert loaded["findings"][0]["before"] is None
    assert loaded["findings"][0]["verdict"] == "not measured"


def test_frame_has_one_row_for_each_finding() -> None:
    certificate = ish.certify(oracle(), [path_norm, squared_weights])
    frame = certificate.to_frame()
    assert list(frame["metric"]) == [finding.metric for finding in certificate]


def test_picture_shows_the_change_of_each_metric() -> None:
    certificate = ish.certify(oracle(), [path_norm, squared_weights])
    axes = certificate.plot()
    drawn = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert drawn == [pytest.approx(max(finding.change, 1e-17)) for finding in certificate.worst()]
