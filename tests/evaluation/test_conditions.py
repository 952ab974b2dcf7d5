"""Two numbers can be compared if their signatures say so: loss, data, precision, and how each was obtained."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.evaluation.conditions import Conditions
from invariant_sharpness.losses import BinaryCrossEntropy, CrossEntropy, described
from invariant_sharpness.results.estimate import Bracket
from invariant_sharpness_numpy import ReluNetwork, quadratic

X, Y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3


def conditions(oracle: ish.CurvatureOracle) -> Conditions:
    return Conditions.of(oracle, seed=0, probes=64)


def numpy_oracle(x: Any = X, y: Any = Y, **options: Any) -> ish.CurvatureOracle:
    return ish.oracle(ReluNetwork.initialize((4, 5, 3), seed=0), (x, y), **options)


def torch_oracle(dtype: str, x: Any = X, **options: Any) -> ish.CurvatureOracle:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return ish.oracle(torch.nn.Linear(4, 3).to(getattr(torch, dtype)), (x, torch.tensor(Y)), **options)


def test_the_line_names_all_of_it() -> None:
    words = str(conditions(numpy_oracle()))
    found = conditions(numpy_oracle()).data[:8]
    assert words == (
        f"cross_entropy; 12 examples; data {found}; float64; seed 0; 64 probes; NetworkOracle; invariant-sharpness {version('invariant-sharpness')}"
    )


def test_an_oracle_of_functions_tells_what_it_can() -> None:
    words = str(conditions(quadratic(np.eye(1), [[1.0]])))
    assert words.startswith("float64; seed 0; 64 probes; FunctionOracle; "), words


def test_coordinates_are_named_from_the_outermost_one() -> None:
    oracle = numpy_oracle()
    inner = ish.Restricted(oracle, "*.weight")
    assert conditions(ish.GaussNewton(inner)).coordinates == ("GaussNewton", "Restricted")
    assert "; GaussNewton of Restricted of NetworkOracle; " in str(conditions(ish.GaussNewton(inner)))
    assert conditions(ish.GaussNewton(inner)).data == conditions(oracle).data


def test_the_data_are_known_again_in_any_order_batches_precision_and_framework() -> None:
    order = np.random.default_rng(1).permutation(12)
    same = [
        conditions(oracle).data
        for oracle in (
            numpy_oracle(),
            numpy_oracle(X[order], Y[order]),
            numpy_oracle(batch_size=5),
            torch_oracle("float32"),
            torch_oracle("float64"),
            torch_oracle("float64", X.astype(np.float32)),
        )
    ]
    assert len(set(same)) == 1, same


def test_other_data_are_told_apart() -> None:
    other_x, other_y = X.copy(), Y.copy()
    other_x[3, 2] += 1e-3
    other_y[0] = 2
    found = [conditions(numpy_oracle(*data)).data for data in ((X, Y), (other_x, Y), (X, other_y), (X[:11], Y[:11]))]
    assert len(set(found)) == 4, found


def test_data_that_are_changed_in_place_are_others() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(X)
    oracle = torch_oracle("float64", x)
    before = conditions(oracle).data
    x[0, 0] += 1.0
    assert conditions(oracle).data != before


def test_a_loader_is_read_once_and_has_the_fingerprint_of_its_arrays() -> None:
    torch = pytest.importorskip("torch")
    passes = []

    class Loader:
        def __iter__(self) -> Any:
            passes.append(1)
            yield from zip(torch.tensor(X).split(5), torch.tensor(Y).split(5), strict=True)

    oracle = ish.oracle(torch.nn.Linear(4, 3).double(), Loader())
    oracle.examples  # type: ignore[attr-defined]  # noqa: B018 - counted once, in a pass of its own
    before = len(passes)
    assert {conditions(oracle).data for _ in range(3)} == {conditions(numpy_oracle()).data}
    assert len(passes) == before + 1


@pytest.mark.parametrize(
    ("dtype", "words"),
    [("float64", "float64"), ("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")],
)
def test_precision_is_that_of_the_model(dtype: str, words: str) -> None:
    assert conditions(torch_oracle(dtype)).precision == words


def test_losses_are_told_apart_by_their_options() -> None:
    weights = tuple(float(i) for i in range(100))
    losses = [
        CrossEntropy(),
        CrossEntropy(label_smoothing=0.1),
        CrossEntropy(class_weights=(1.0, 2.0, 3.0)),
        CrossEntropy(class_weights=weights),
        CrossEntropy(class_weights=(*weights[:-1], 0.0)),
        BinaryCrossEntropy(),
        BinaryCrossEntropy(pos_weight=np.array([1.0, 2.0])),
    ]
    words = [described(loss) for loss in losses]
    assert len(set(words)) == len(words), words
    assert words[:3] == [
        "cross_entropy",
        "cross_entropy(label_smoothing=0.1)",
        "cross_entropy(class_weights=(1.0, 2.0, 3.0))",
    ]
    assert max(map(len, words)) < 70, words


def test_losses_of_torch_are_those_of_the_core() -> None:
    torch = pytest.importorskip("torch")
    smooth = torch.nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum")
    found = [conditions(torch_oracle("float64", loss=loss)).loss for loss in (torch.nn.CrossEntropyLoss(), smooth)]
    assert found == ["cross_entropy", "cross_entropy(label_smoothing=0.1, divisor='rows', summed over the data)"]


def test_a_loss_of_ones_own_has_its_name() -> None:
    def margin(outputs: Any, targets: Any) -> Any:
        return outputs.square().sum(1) - outputs.gather(1, targets[:, None])[:, 0]

    assert conditions(torch_oracle("float64", loss=margin)).loss == "margin"


@pytest.mark.parametrize(
    ("estimate", "kind"),
    [
        (ish.Estimate("one", 1.0, "exact"), "exact"),
        (ish.Estimate("one", 1.0, "Lanczos", certificate=1e-8), "iterated"),
        (ish.Estimate("one", 1.0, "probes", standard_error=0.1, certificate=1e-8), "sampled"),
        (ish.Estimate("one", 1.0, "ascent", bracket=Bracket(1.0, np.inf), certificate=0.1), "lower bound"),
    ],
)
def test_kind_says_where_the_error_comes_from(estimate: ish.Estimate, kind: str) -> None:
    assert estimate.kind == kind


def test_json_has_signature_and_conditions() -> None:
    report = ish.measure(numpy_oracle(), ["hessian_trace"], seed=3, probes=8)
    read = json.loads(report.to_json())
    assert read["signature"] == f"hessian_trace v1 exact; {report.conditions}"
    expected = {"loss": "cross_entropy", "examples": 12, "outputs": 3, "precision": "float64", "seed": 3, "probes": 8}
    assert expected.items() <= read["conditions"].items()


def test_a_printed_report_ends_with_its_conditions() -> None:
    report = ish.measure(numpy_oracle(), ["hessian_trace"])
    printed = str(report).partition("┘")[2]
    assert " ".join(printed.split()) == str(report.conditions)
