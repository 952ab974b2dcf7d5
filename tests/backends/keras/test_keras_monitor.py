"""A watched ``fit`` of Keras ends in the same bits as one that nobody watches, and its logs have the values."""

from __future__ import annotations

import pytest

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.evaluation.monitoring import Monitor
from invariant_sharpness_keras import keras_callback
from zoo.keras_results import TOLERANCE, every_engine_deep, found, relative_error


@every_engine_deep
def test_a_watched_fit_ends_in_the_same_bits(engine: str) -> None:
    ends = found(engine, "ends_of_watched_fits")
    assert ends["bits"], "weights, statistics, the optimizer or a random state differ"
    assert ends["history"], "the history differs"
    assert not ends["another"], "a number that is drawn at the end of an epoch is not seen in the bits"
    assert ends["steps"] == [[1, 5, 10, 15], [1, 2]]
    assert not ends["errors"], f"{ends['errors']}"
    assert ends["threshold"] == pytest.approx(38 / 1e-2, rel=1e-6)


@every_engine_deep
def test_entries_of_a_fit_are_what_measure_gives_on_the_same_weights(engine: str) -> None:
    fit = found(engine, "entries_of_a_fit")
    for name, pair in {**fit["values"], "loss": fit["loss"]}.items():
        assert relative_error(pair) <= max(1e-6, TOLERANCE[engine]), f"{name} is {pair[0]}, by measure {pair[1]}"
    assert fit["logged"] == {
        "batch_loss": pytest.approx(fit["history"]["loss"]),
        "batch_accuracy": pytest.approx(fit["history"]["accuracy"]),
    }, "the last batch of an epoch has the running means"


@every_engine_deep
def test_steps_are_those_of_the_optimizer_over_several_fits(engine: str) -> None:
    assert found(engine, "entries_of_a_fit")["steps"] == [1, 8, 16, 24]


@every_engine_deep
def test_steps_count_batches_however_they_are_put_together(engine: str) -> None:
    networks = found(engine, "entries_of_several_networks")
    executed = networks["executed"]
    assert networks["accumulating"] == list(range(1, 17)), "with accumulated gradients"
    assert networks["together"] == list(range(executed, 17, executed)), f"with {executed} batches in one execution"


@every_engine_deep
def test_a_network_in_half_precision_is_refused_at_the_first_measurement(engine: str) -> None:
    message = found(engine, "entries_of_several_networks")["half"]
    assert "compute in bfloat16, which has too few digits for curvature" in message


@every_engine_deep
def test_learning_rates_of_every_kind_are_passed_on(engine: str) -> None:
    rates = found(engine, "learning_rates")
    for kind, expected in {
        "number": [0.1, 0.1, 0.1],
        "schedule": [0.05, 0.025, 0.0125],
        "variable": [0.1, 0.05, 0.025],
        "scaled": [0.1, 0.1, 0.1],
        "unknown": [0.1, 0.1, 0.1],
    }.items():
        assert rates[kind] == pytest.approx(expected, rel=1e-6), f"{kind}: {rates[kind]}"


@every_engine_deep
def test_callbacks_behind_find_the_last_values_in_the_logs(engine: str) -> None:
    logs = found(engine, "logs_of_a_fit")
    values = {int(step): value for step, value in logs["values"].items()}
    last = [values[max(step for step in values if step <= batch)] for batch in range(1, 17)]
    assert logs["batches"] == last
    assert logs["epochs"] == [last[7], last[15]]
    assert logs["file"] == pytest.approx(logs["epochs"], rel=1e-12)
    assert logs["tensorboard"] == pytest.approx(logs["epochs"], rel=1e-7)


@every_engine_deep
def test_programs_are_made_for_the_first_entries_alone(engine: str) -> None:
    """So neither time nor memory grows with the entries."""
    programs = found(engine, "programs_of_many_entries")
    made = programs["made"]
    assert len(made) == 24, f"entries: {len(made)}"
    assert max(made[2:]) <= made[1], f"programs that there are after each entry: {made}"
    assert not programs["warnings"], f"{programs['warnings']}"


def test_steps_of_another_kind_are_refused() -> None:
    with pytest.raises(ArgumentError, match="each='step'"):
        keras_callback(Monitor("hessian_trace"), each="step")  # type: ignore[arg-type]
