"""A metric is one object: the public function itself, with its declaration."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
from doctest import DocTestFinder
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness_numpy import ReluNetwork, quadratic

CHOICES = [
    pytest.param(metric, option, choices, id=f"{name}-{option}")
    for name, metric in ish.METRICS.items()
    for option, choices in metric.choices.items()
]
WORDS_OF_THE_MODEL = {"layer"}
"""Options that are names in the model, which no list of choices can have."""


@pytest.fixture(scope="module")
def oracle() -> ish.CurvatureOracle:
    x = np.random.default_rng(0).normal(size=(12, 4))
    return ish.oracle(ReluNetwork.initialize((4, 5, 3), seed=0), (x, np.arange(12) % 3))


@pytest.mark.parametrize("name", ish.METRICS)
def test_public_function_is_the_metric(name: str) -> None:
    metric = ish.METRICS[name]
    assert getattr(ish, name) is metric
    assert (metric.name, metric.__name__) == (name, name)
    assert metric.version == 1


@pytest.mark.parametrize("name", ish.METRICS)
def test_help_shows_the_function(name: str) -> None:
    metric = ish.METRICS[name]
    text = pydoc.render_doc(metric, renderer=pydoc.plaintext)
    summary = inspect.getdoc(metric.function).splitlines()[0]
    assert f"{name}(oracle" in text, text[:300]
    assert summary in text, text[:600]
    assert inspect.signature(metric) == inspect.signature(metric.function)


def test_examples_of_metrics_are_found_by_doctest() -> None:
    module = import_module("invariant_sharpness.metrics.normalized")
    found = [test.name for test in DocTestFinder().find(module)]
    assert "invariant_sharpness.metrics.normalized.normalized_sharpness" in found, found


@pytest.mark.parametrize("name", ish.METRICS)
def test_copies_are_the_metric(name: str) -> None:
    metric = ish.METRICS[name]
    copies = (copy.copy(metric), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)))
    assert all(one is metric for one in copies), copies


def test_configured_metric_is_pickled_with_its_options(oracle: ish.CurvatureOracle) -> None:
    metric = ish.normalized_sharpness.with_options(biases="column", name="with_biases")
    read = pickle.loads(pickle.dumps(metric))
    assert (read.name, dict(read.settings)) == ("with_biases", {"biases": "column"})
    assert read(oracle).value == metric(oracle).value == ish.normalized_sharpness(oracle, biases="column").value


def test_configured_metric_has_the_options_in_its_name_and_its_definition() -> None:
    metric = ish.normalized_sharpness.with_options(biases="column", lam=2.0)
    assert metric.name == "normalized_sharpness(biases='column', lam=2.0)"
    assert metric.with_options(lam=1.0, name="short").definition == "normalized_sharpness(biases='column', lam=1.0) v1"


def test_options_of_a_call_go_before_those_of_the_metric(oracle: ish.CurvatureOracle) -> None:
    metric = ish.normalized_sharpness.with_options(biases="column", name="with_biases")
    assert metric(oracle, biases="exclude").value == ish.normalized_sharpness(oracle).value


def test_invariances_are_those_of_the_options() -> None:
    assert "linear" in ish.fisher_rao_norm.with_options(form="full").invariances
    assert "row_column" not in ish.pac_bayes_bound.with_options(scales="matrix").invariances
    assert "output_shift" not in ish.normalized_sharpness.with_options(biases="column").invariances
    assert ish.hessian_trace.with_options(probes=8, invariances={"layer"}).invariances == {"layer"}


def test_wrong_option_is_refused_at_once_with_those_there_are() -> None:
    with pytest.raises(TypeError, match=r"no option 'bias' \(did you mean 'biases'\?\); its options are biases, lam, "):
        ish.normalized_sharpness.with_options(bias="column")
    with pytest.raises(ValueError, match=r'biases=\'colum\' is not known: take "exclude", "column" or "parameterwise"'):
        ish.normalized_sharpness.with_options(biases="colum")


@pytest.mark.parametrize(("metric", "option", "choices"), CHOICES)
def test_misspelt_choice_is_refused(
    metric: ish.Metric[...], option: str, choices: tuple[Any, ...], oracle: ish.CurvatureOracle
) -> None:
    with pytest.raises(ValueError, match=f"{option}='misspelt' is not known: take ") as refused:
        metric(oracle, **{option: "misspelt"})
    assert all(str(choice) in str(refused.value) for choice in choices), refused.value


def test_every_option_that_is_a_word_has_choices() -> None:
    words = {
        (name, option.name)
        for name, metric in ish.METRICS.items()
        for option in inspect.signature(metric).parameters.values()
        if isinstance(option.default, str) or "str" in str(option.annotation).replace("frozenset[str]", "")
    }
    open_words = {(n, o) for n, o in words if o not in ish.METRICS[n].choices and o not in WORDS_OF_THE_MODEL}
    assert {option for _, option in open_words} <= {"heads"}, open_words


def test_metric_that_is_made_by_its_class_works_as_before() -> None:
    def doubled_trace(oracle: ish.CurvatureOracle, *, seed: int = 0) -> ish.Estimate:
        return ish.Estimate("doubled_trace", 2 * ish.hessian_trace(oracle, seed=seed).value, "exact")

    metric = ish.Metric(
        name="doubled_trace",
        function=doubled_trace,
        symbol="T",
        equation="2 tr H",
        summary="Twice the trace.",
        needs="the diagonal",
        cost="that of the trace",
        invariances=frozenset({"permutation"}),
        pitfalls="none",
        reference="none",
    )
    report = ish.measure(quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]])), [metric])
    assert report["doubled_trace"].value == 6.0
    assert report.invariances["doubled_trace"] == {"permutation"}
    assert {s.name for s in metric.unchanged_by} == {"permutation"}
    assert (metric.survives, metric.moves) == (metric.unchanged_by, metric.changed_by)


RENAMED = {
    "hessian_spectral_norm": {"steps": 100},
    "worst_case_sharpness": {"steps": 3},
    "worst_case_adaptive_sharpness": {"steps": 3},
    "keskar_sharpness": {"iterations": 2},
    "keskar_subspace_sharpness": {"iterations": 2},
    "normalized_sharpness": {"names": frozenset({"layers.0.weight"})},
    "head_normalized_sharpness": {"products": 7},
    "posterior_sharpness": {"steps": 2},
    "kl_regret": {"steps": 3},
    "congruent_contrastive_ratio": {"directions": 9},
    "pac_bayes_bound": {"examples": 50},
    "pac_bayes_terms": {"examples": 50},
}


@pytest.mark.parametrize("name", RENAMED)
def test_old_keyword_means_what_the_new_one_does(name: str, oracle: ish.CurvatureOracle) -> None:
    ((old, value),) = RENAMED[name].items()
    function = getattr(ish, name)
    with pytest.warns(DeprecationWarning, match=rf"{name}\({old}=\.\.\.\) is now {name}\(") as caught:
        before = function(oracle, **{old: value})
    new = str(caught[0].message).split("(")[2].split("=")[0]
    assert caught[0].filename == __file__, caught[0].filename
    assert function(oracle, **{new: value}) == before


def test_every_metric_that_is_public_is_in_the_collection() -> None:
    public = {found.name for found in (getattr(ish, name) for name in ish.__all__) if isinstance(found, ish.Metric)}
    assert public == set(ish.METRICS), f"not in both: {sorted(public ^ set(ish.METRICS))}"
