"""Names, metrics, configured metrics and functions go through one door, and get what they ask for."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.adapters.model_metrics import ModelMetric
from invariant_sharpness.evaluation import measuring
from invariant_sharpness.evaluation.door import as_metric
from invariant_sharpness_numpy import FunctionOracle, ReluNetwork


@pytest.fixture(scope="module")
def oracle() -> ish.CurvatureOracle:
    x = np.random.default_rng(0).normal(size=(12, 4))
    return ish.oracle(ReluNetwork.initialize((4, 5, 3), seed=0), (x, np.arange(12) % 3))


def without_jacobians() -> ish.CurvatureOracle:
    """An oracle of two groups that has its three functions and nothing else."""
    return FunctionOracle(
        {"v": np.arange(1.0, 4.0), "w": np.ones((8, 10))},
        loss=lambda p: float(p["v"] @ p["v"] + (p["w"] ** 4).sum()),
        gradient=lambda p: {"v": 2 * p["v"], "w": 4 * p["w"] ** 3},
        hessian_vector_product=lambda p, u: {"v": 2 * u["v"], "w": 12 * p["w"] ** 2 * u["w"]},
    )


@pytest.mark.parametrize("thing", ["hessian_frobenius_norm", ish.hessian_frobenius_norm], ids=["name", "function"])
def test_seed_reaches_a_metric_however_it_is_given(thing: str, oracle: ish.CurvatureOracle) -> None:
    values = [ish.measure(oracle, [thing], seed=seed, probes=4)["hessian_frobenius_norm"].value for seed in (3, 4)]
    alone = [ish.hessian_frobenius_norm(oracle, seed=seed, probes=4).value for seed in (3, 4)]
    assert values == alone
    assert values[0] != values[1], f"seeds 3 and 4 give one number, {values[0]}"


def test_claims_of_a_metric_are_known_however_it_is_given(oracle: ish.CurvatureOracle) -> None:
    by_name, by_function = (ish.measure(oracle, m) for m in (["normalized_sharpness"], [ish.normalized_sharpness]))
    assert by_name.claim("normalized_sharpness") == by_function.claim("normalized_sharpness") == "row/column rescaling"


def test_partial_of_a_metric_keeps_its_name_and_its_options(oracle: ish.CurvatureOracle) -> None:
    report = ish.measure(oracle, [partial(ish.hessian_frobenius_norm, probes=8, seed=5)], seed=3)
    expected = ish.hessian_frobenius_norm(oracle, probes=8, seed=5).value
    assert report["hessian_frobenius_norm"].value == expected


def test_two_settings_of_a_metric_stand_in_one_report(oracle: ish.CurvatureOracle) -> None:
    with_biases = ish.normalized_sharpness.with_options(biases="column", name="with_biases")
    report = ish.measure(oracle, [ish.normalized_sharpness, with_biases])
    assert report["with_biases"].value == ish.normalized_sharpness(oracle, biases="column").value
    assert report["normalized_sharpness"].value == ish.normalized_sharpness(oracle).value


def test_sampled_biases_have_the_same_curvature_in_a_report_as_alone() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)).double()
    one = ish.oracle(model, (torch.randn(10, 6).double(), torch.arange(10) % 3))
    with_biases = ish.normalized_sharpness.with_options(biases="column", name="with_biases")
    report = ish.measure(one, ["hessian_trace", with_biases], probes=16, seed=2)
    assert report["with_biases"].value == ish.normalized_sharpness(one, biases="column", probes=16, seed=2).value


def test_function_of_a_user_gets_what_it_has_keywords_for(oracle: ish.CurvatureOracle) -> None:
    given = {}

    def mine(_oracle: ish.CurvatureOracle, *, seed: int, probes: int, diagonal: ish.HessianDiagonal) -> float:
        given.update(seed=seed, probes=probes, diagonal=diagonal)
        return 1.0

    report = ish.measure(oracle, mine, seed=7, probes=16)
    assert report["mine"].value == 1.0
    assert report.claim("mine") == "unknown"
    assert (given["seed"], given["probes"]) == (7, 16)
    assert {group.name for group in oracle.groups if group.is_weight} <= given["diagonal"].groups.keys()


def test_metric_of_models_gets_what_it_has_keywords_for(oracle: ish.CurvatureOracle) -> None:
    def mine(_model: object, x: np.ndarray, _labels: np.ndarray, *, seed: int) -> float:
        return float(len(x) + seed)

    report = ish.measure(oracle, ModelMetric(mine, "numpy"), seed=7)
    assert report["mine"].value == 12 + 7


def test_objects_of_metrics_are_certified(oracle: ish.CurvatureOracle) -> None:
    certificate = ish.certify(oracle, [ish.METRICS["matrix_normalized_sharpness"], ish.normalized_sharpness])
    assert not certificate.failed, certificate
    assert {record.verdict for record in certificate if record.claimed} == {"holds"}, certificate


class Same:
    """The change that changes nothing."""

    kind = "layer"

    def apply(self, parameters: ish.ParameterVector, /) -> ish.ParameterVector:
        return parameters

    def transformations(self, seed: int, /) -> dict[str, Same]:
        return {"the same": self}


def test_metric_that_cannot_be_measured_leaves_the_diagonal_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        measuring,
        "hessian_diagonal",
        lambda *args, **options: calls.append(1) or ish.hessian_diagonal(*args, **options),
    )
    names = ["fisher_rao_norm", "hessian_trace", "matrix_normalized_sharpness", "parameter_normalized_sharpness"]
    certificate = ish.certify(without_jacobians(), names, symmetries=Same())
    assert [record.verdict == "not measured" for record in certificate] == [True, False, False, False], certificate
    assert len(calls) == 2, f"{len(calls)} diagonals before and after one change"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metrics": [3]}, TypeError, "3 is of type int, but a metric is a name such as 'hessian_trace', an object"),
        ({"metrics": 3}, TypeError, "3 is of type int, but a metric is a name"),
        (
            {"metrics": ["hessian_trase"]},
            ValueError,
            r"no metric 'hessian_trase' \(did you mean 'hessian_trace'\?\); the metrics are ",
        ),
        ({"seed": None}, ValueError, "seed=None, but a seed is an integer from 0 to"),
        ({"seed": 0.5}, ValueError, "seed=0.5, but a seed is an integer from 0 to"),
        ({"probes": 8.5}, ValueError, "probes=8.5, but a number of probes is an integer"),
        ({"metrics": [lambda _: "much"]}, TypeError, "returned a str, but a metric returns a number or an Estimate"),
    ],
)
def test_wrong_arguments_are_refused_in_words(
    arguments: dict[str, object], error: type[Exception], message: str, oracle: ish.CurvatureOracle
) -> None:
    with pytest.raises(error, match=message):
        ish.measure(oracle, **arguments)


def test_claims_replace_those_of_the_metric() -> None:
    assert as_metric("hessian_trace", {"layer"}).invariances == {"layer"}
    assert as_metric(ish.hessian_trace) is ish.hessian_trace


def test_signature_names_what_the_numbers_depend_on(oracle: ish.CurvatureOracle) -> None:
    with_biases = ish.normalized_sharpness.with_options(biases="column", name="with_biases")
    report = ish.measure(oracle, [ish.hessian_trace, with_biases], seed=7, probes=16)
    definitions = "hessian_trace v1 exact, normalized_sharpness(biases='column') v1 iterated; "
    assert report.signature == f"{definitions}{report.conditions}"
    assert "; seed 7; 16 probes; " in report.signature
    assert report.to_dict()["metrics"]["with_biases"]["version"] == 1
