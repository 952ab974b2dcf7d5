"""The demonstration shows what it claims, with the numbers that it measured."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.adapters.registry import DemonstrationBackend, backend
from invariant_sharpness.cli.demonstration import Demonstration, demonstrate, demonstration_text
from invariant_sharpness.cli.demonstration.results import DEMONSTRATED, SIZES, invariant_metrics
from invariant_sharpness.cli.demonstration.running import load_digits, rescaled
from invariant_sharpness.errors import MissingDependencyError
from invariant_sharpness.results.export import strict_json
from invariant_sharpness_numpy import ReluNetwork
from zoo.command_line import invoke

INVARIANT = ("parameter_normalized_sharpness", "normalized_sharpness", "fisher_rao_norm")
RAW = ("hessian_trace", "hessian_spectral_norm", "matrix_normalized_sharpness")


@pytest.fixture(scope="module")
def demonstration() -> Demonstration:
    numpy_backend = backend("numpy")
    assert isinstance(numpy_backend, DemonstrationBackend)
    return demonstrate(numpy_backend, seed=0)


def test_digits_are_split_as_promised() -> None:
    digits = load_digits(0)
    assert digits.training_inputs.shape == (1347, 64)
    assert digits.test_inputs.shape == (450, 64)
    assert (digits.training_inputs.min(), digits.training_inputs.max()) == (0.0, 1.0)
    assert sorted(np.unique(digits.training_labels)) == list(range(10))


def test_split_depends_on_the_seed_alone() -> None:
    first, again, other = load_digits(0), load_digits(0), load_digits(1)
    assert np.array_equal(first.training_inputs, again.training_inputs)
    assert not np.array_equal(first.training_inputs, other.training_inputs)


def test_no_example_is_in_both_parts() -> None:
    from sklearn.datasets import load_digits as all_digits

    digits = load_digits(5)
    both = np.vstack([digits.training_inputs, digits.test_inputs])
    expected = all_digits().data / 16.0
    assert np.array_equal(both[np.lexsort(both.T)], expected[np.lexsort(expected.T)])


def test_rescaling_moves_every_hidden_unit_and_keeps_the_outputs() -> None:
    network = ReluNetwork.initialize(SIZES, seed=0)
    x = np.random.default_rng(0).normal(size=(20, SIZES[0]))
    oracle = ish.oracle(network, (x, np.arange(20) % 10))
    moved = oracle.to_numpy(rescaled(oracle, 0))
    weights = [moved[group.name] for group in oracle.groups if group.is_weight]
    biases = [moved[group.name] for group in oracle.groups if not group.is_weight]
    factors = weights[0][:, 0] / network.weights[0][:, 0]
    assert factors.min() < 1e-3, factors
    assert factors.max() > 1e3, factors
    assert np.all((factors >= 1e-4) & (factors <= 1e4)), factors
    before, after = network(x), ReluNetwork(tuple(weights), tuple(biases))(x)
    assert np.allclose(before, after, rtol=1e-11, atol=1e-11), np.abs(before - after).max()


def test_both_networks_fit_and_only_one_learned(demonstration: Demonstration) -> None:
    learned, memorized = demonstration.networks
    assert learned.training_accuracy > 0.99, learned.training_accuracy
    assert memorized.training_accuracy > 0.99, memorized.training_accuracy
    assert learned.test_accuracy > 0.9, learned.test_accuracy
    assert memorized.test_accuracy < 0.2, memorized.test_accuracy


def test_function_is_unchanged(demonstration: Demonstration) -> None:
    for network in demonstration.networks:
        assert network.loss_change < 1e-9, f"{network.name}: {network.loss_change}"


def test_invariant_metrics_are_those_that_declare_it() -> None:
    assert invariant_metrics(DEMONSTRATED) == list(INVARIANT)


@pytest.mark.parametrize("metric", INVARIANT)
def test_normalized_metrics_stay(demonstration: Demonstration, metric: str) -> None:
    for network in demonstration.networks:
        assert abs(network.factors[metric] - 1) < 5e-7, f"{metric} moved by {network.factors[metric]}"


@pytest.mark.parametrize("metric", RAW)
def test_raw_metrics_explode(demonstration: Demonstration, metric: str) -> None:
    for network in demonstration.networks:
        assert abs(network.factors[metric]) > 1e3, f"{metric} moved by {network.factors[metric]} only"


def test_every_iteration_converged(demonstration: Demonstration) -> None:
    found = {name: e for n in demonstration.networks for r in (n.before, n.after) for name, e in r.items()}
    assert all(estimate.converged for estimate in found.values()), found


def test_text_has_a_row_per_metric_with_its_factors(demonstration: Demonstration) -> None:
    lines = demonstration_text(demonstration).splitlines()
    for metric in INVARIANT:
        row = next(line for line in lines if line.startswith(f"{metric} "))
        assert row.count("1.000000") == 2, row
    for metric in RAW:
        row = next(line for line in lines if line.startswith(f"{metric} "))
        assert f"{demonstration.learned.factors[metric]:.3g}" in row, row


def test_text_shows_each_number_once_and_what_was_certified(demonstration: Demonstration) -> None:
    text = demonstration_text(demonstration)
    rows = [line for line in text.splitlines() if line.startswith(INVARIANT)]
    assert len(rows) == len(INVARIANT), f"more than one table has the metrics: {rows}"
    claims = [record for record in demonstration.certificate.worst() if record.claimed]
    assert f"{len(claims)} of the {len(claims)} invariances that the metrics declare hold" in " ".join(text.split()), (
        text
    )


def test_text_says_what_was_measured(demonstration: Demonstration) -> None:
    text = " ".join(demonstration_text(demonstration).split())
    assert "normalized_cross_entropy" in text
    assert f"{demonstration.learned.test_accuracy:.1%} in test" in text
    expected = (
        f"random labels is {demonstration.sharpness_ratio:.3g} times as sharp as the one that learned true labels"
    )
    assert f"By normalized_sharpness, the network that learned {expected}" in text, text


def test_text_says_it_when_an_iteration_did_not_converge(demonstration: Demonstration) -> None:
    name = "hessian_spectral_norm"
    report = demonstration.learned.after
    estimates = report.estimates | {name: replace(report[name], converged=False, certificate=0.25)}
    learned = replace(demonstration.learned, after=replace(report, estimates=estimates))
    text = " ".join(demonstration_text(replace(demonstration, learned=learned)).split())
    assert f"{report[name].value:.4g} (!)" in text, text
    assert f"(!) true labels, {name} after the rescaling: the iteration has not converged" in text, text


def test_text_says_it_when_the_function_changed(demonstration: Demonstration) -> None:
    after = replace(demonstration.learned.after, loss=demonstration.learned.before.loss * (1 + 1e-6))
    text = " ".join(
        demonstration_text(replace(demonstration, learned=replace(demonstration.learned, after=after))).split()
    )
    assert "a relative change of 1.0e-06: MORE THAN ROUNDING" in text, text


def test_dictionary_survives_strict_json(demonstration: Demonstration) -> None:
    read = json.loads(strict_json(demonstration.to_dict()))
    assert read == demonstration.to_dict()
    assert [network["name"] for network in read["networks"]] == ["true labels", "random labels"]


def test_picture_has_both_parts(demonstration: Demonstration) -> None:
    upper, lower = demonstration.plot().axes
    assert [label.get_text() for label in upper.get_yticklabels()] == list(DEMONSTRATED)
    assert len(lower.get_yticklabels()) == len(SIZES) - 1


def test_missing_scikit_learn_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match=r"needs scikit-learn.*invariant-sharpness\[demo\]"):
        load_digits(0)


def test_command_writes_picture_and_numbers_and_says_where(
    demonstration: Demonstration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invariant_sharpness.cli.demonstration.command.demonstrate", lambda *_, **__: demonstration)
    folder = tmp_path / "new" / "folder"
    result = invoke("demo", "--output", folder, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((folder / "demo.json").read_text())
    assert (folder / "sharpness.png").read_bytes().startswith(b"\x89PNG")
