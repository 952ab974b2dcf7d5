"""A monitor measures when it shall, keeps what it finds on the disk, and is no trouble for the training."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, inf, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ArgumentError, ArgumentTypeError, CheckpointError, DataError, UnknownNameError
from invariant_sharpness.evaluation.monitoring import Entry, Monitor, schedules
from invariant_sharpness.evaluation.monitoring.schedules import Schedule
from invariant_sharpness_numpy import ReluNetwork, quadratic
from zoo.estimator_problems import digits_oracle
from zoo.watched_runs import CURVATURE, at, watched, wrong


def test_entries_are_what_measure_gives() -> None:
    monitor = watched(3, ["hessian_trace", CURVATURE], every=1, seed=5, probes=8)
    for step, entry in enumerate(monitor):
        oracle = at(1.0, 1.0 / (step + 1))
        report = ish.measure(oracle, ["hessian_trace", CURVATURE], seed=5, probes=8)
        assert entry.estimates["hessian_trace"] == report["hessian_trace"]
        assert entry.estimates[CURVATURE].value == pytest.approx(report[CURVATURE].value, rel=1e-6)
        assert entry.probe_loss == report.loss
        assert entry.signature == report.signature
        assert (entry.step, entry.logged) == (step, {"train_loss": step})
        assert entry.learning_rate == pytest.approx(0.1 * (step + 1))


@pytest.mark.parametrize(
    ("every", "seen", "due"),
    [
        (10, range(25), [0, 10, 20]),
        (10, range(1, 25), [1, 10, 20]),
        (10, range(3, 50, 7), [3, 10, 24, 31, 45]),
        ("log", range(101), [0, *sorted({ceil(10 ** (k / 10)) for k in range(20)}), 100]),
        (lambda step: step in {2, 3}, range(9), [2, 3]),
    ],
)
def test_schedules(every: Any, seen: range, due: list[int]) -> None:
    schedule = Schedule(every)
    assert [step for step in seen if schedule.is_due(step)] == due


class Clock:
    """A time that passes only where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(schedules.time, "perf_counter", made.perf_counter)
    return made


def test_the_interval_is_chosen_so_that_the_budget_holds(clock: Clock) -> None:
    """Measurements of two seconds within 5 % of steps of one second: one in forty steps, since each has to be earned before."""

    def slow(oracle: ish.CurvatureOracle) -> float:
        del oracle
        clock.now += 2.0
        return 1.0

    monitor = Monitor(slow, at_most=0.05)
    for step in range(1000):
        if monitor.step(at(1.0, 1.0), step=step) is not None and step:
            assert monitor.share <= 0.05
        clock.now += 1.0
    assert [entry.step for entry in monitor] == [0, *range(80, 1000, 40)]
    assert monitor.share == pytest.approx(2 * len(monitor) / 1000)


def test_what_is_due_waits_for_the_budget(clock: Clock) -> None:
    def slow(oracle: ish.CurvatureOracle) -> float:
        del oracle
        clock.now += 2.0
        return 1.0

    monitor = Monitor(slow, at_most=0.1, every=30)
    for step in range(100):
        monitor.step(at(1.0, 1.0), step=step)
        clock.now += 1.0
    assert [entry.step for entry in monitor] == [0, 40, 60, 90]


def test_steps_are_counted_where_they_have_no_number() -> None:
    monitor = Monitor(CURVATURE, every=2)
    made = [monitor.step(at(1.0, 1.0)) for _ in range(5)]
    assert [None if entry is None else entry.step for entry in made] == [0, None, 2, None, 4]


def test_a_monitor_that_is_never_called() -> None:
    monitor = Monitor(CURVATURE)
    assert (len(monitor), monitor.share, monitor.signature, monitor.metrics) == (0, 0.0, "", ())
    assert monitor, "as in: if monitor: monitor.step(...)"
    assert "0 entries" in str(monitor)
    assert list(monitor.to_frame().columns[:2]) == ["step", "run"]
    with pytest.raises(ArgumentError, match=r"call monitor\.step"):
        monitor.plot()


def test_a_loss_that_is_nan_is_recorded_and_training_goes_on() -> None:
    monitor = Monitor([CURVATURE, "hessian_trace"], every=1)
    for weight in (nan, 1.0, inf, 1.0):
        monitor.step(quadratic(np.diag([weight, 4.0]), np.ones((1, 2))), train_loss=weight)
    assert [isfinite(entry.probe_loss) for entry in monitor] == [False, True, False, True]
    assert [len(entry.estimates) for entry in monitor] == [0, 2, 0, 2]
    assert set(monitor[0].errors) == {CURVATURE, "hessian_trace"}
    assert monitor[0].errors[CURVATURE].startswith("NonFiniteError: ")
    assert "NonFiniteError" in str(monitor)


def test_errors_are_entries_with_their_words() -> None:
    monitor = watched(2, [wrong, CURVATURE], every=1)
    assert [dict(entry.errors) for entry in monitor] == 2 * [{"wrong": "RuntimeError: out of memory"}]
    assert [entry.estimates[CURVATURE].value for entry in monitor] == pytest.approx([4.0, 4.0])
    frame = monitor.to_frame()
    assert frame.loc[frame.metric == "wrong", "error"].tolist() == 2 * ["RuntimeError: out of memory"]


def test_what_does_not_fit_is_raised_at_the_first_measurement_alone() -> None:
    network, narrow = ReluNetwork.initialize((4, 3), seed=0), ReluNetwork.initialize((5, 3), seed=0)
    data = np.ones((6, 4)), np.arange(6) % 3
    with pytest.raises(DataError):
        Monitor(CURVATURE, data).step(narrow)
    with pytest.raises(ArgumentError, match="no data to measure on"):
        Monitor(CURVATURE).step(network)
    monitor = Monitor("hessian_trace", data, every=1)
    monitor.step(network)
    monitor.step(narrow)
    monitor.step(network)
    assert [list(entry.errors) for entry in monitor] == [[], ["hessian_trace"], []]
    assert monitor[0].estimates == monitor[2].estimates


def test_a_loop_that_replaces_its_model() -> None:
    data = np.random.default_rng(0).normal(size=(6, 4)), np.arange(6) % 3
    models = [ReluNetwork.initialize((4, 5, 3), seed=seed) for seed in range(3)]
    monitor = Monitor("hessian_trace", data, every=1)
    for model in models:
        monitor.step(model)
    alone = [ish.hessian_trace(ish.oracle(model, data)).value for model in models]
    assert [entry.estimates["hessian_trace"].value for entry in monitor] == alone


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"every": 0}, ArgumentError, "every=0"),
        ({"every": True}, ArgumentTypeError, "every=True"),
        ({"every": "often"}, ArgumentTypeError, "every='often'"),
        ({"at_most": 0}, ArgumentError, "at_most=0"),
        ({"at_most": "5 %"}, ArgumentError, "positive share"),
        ({"seed": -1}, ArgumentError, "seed"),
        ({"probes": 1}, ArgumentError, "probes"),
        ({"metrics": "hesian_trace"}, ArgumentError, "hessian_trace"),
        ({"metrics": ["hessian_trace", "hessian_trace"]}, ArgumentError, "same name"),
        ({"path": "/no/such/folder/run.jsonl"}, CheckpointError, "cannot be written"),
    ],
)
def test_settings_that_are_none(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Monitor(**{"metrics": CURVATURE, **settings})


def test_arguments_of_a_step_that_are_none() -> None:
    monitor = Monitor(CURVATURE)
    with pytest.raises(ArgumentTypeError, match=r"step=1\.5"):
        monitor.step(at(1.0, 1.0), step=1.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"value=\.\.\."):
        monitor.step(at(1.0, 1.0), value=3)
    assert len(monitor) == 0


def test_a_frame_has_a_row_for_each_value() -> None:
    monitor = watched(2, ["hessian_trace", CURVATURE], every=1)
    frame = monitor.to_frame()
    wide = frame[frame.level == "metric"].pivot(index="step", columns="metric", values="value")
    assert wide[CURVATURE].tolist() == pytest.approx([4.0, 4.0])
    assert wide["hessian_trace"].tolist() == pytest.approx([5.0, 5.0])
    assert frame.train_loss.tolist() == [row["train_loss"] for row in monitor.rows()]
    assert frame.probe_loss.dtype == frame.value.dtype == float


def line(axes: Any, label: str) -> npt.NDArray[np.float64]:
    (found,) = [one for one in axes.lines if one.get_label() == label]
    return np.asarray(found.get_ydata(), dtype=float)


def test_the_picture_has_the_threshold_of_each_metric() -> None:
    pytest.importorskip("matplotlib")
    monitor = Monitor([CURVATURE, "preconditioned_sharpness", "hessian_trace"], every=1)
    for step in range(3):
        adam = ish.OptimizerState("Adam", {"weight": 0.1 * (step + 1)}, momentum=0.9, form="average")
        monitor.step(at(1.0, 1.0), step=step, optimizer=adam)
    rates = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(line(monitor.plot(), "2 / learning rate"), 2 / rates)
    preconditioned = monitor.plot(metric="preconditioned_sharpness")
    np.testing.assert_allclose(line(preconditioned, "threshold of the optimizer"), 38 / rates)
    assert len(monitor.plot(metric="hessian_trace").lines) == 1
    assert monitor.plot().figure.get_supxlabel()
    with pytest.raises(UnknownNameError, match="hessian_trace"):
        monitor.plot(metric="hessian_tracer")


def test_missing_values_are_gaps_of_the_picture() -> None:
    pytest.importorskip("matplotlib")
    fails: Iterator[bool] = iter([False, True, False])

    def sometimes(oracle: ish.CurvatureOracle) -> float:
        return wrong(oracle) if next(fails) else 2.0

    drawn = watched(3, sometimes, every=1).plot().lines[0]
    np.testing.assert_array_equal(np.asarray(drawn.get_ydata(), dtype=float), [2.0, nan, 2.0])


def test_pages_have_a_picture_of_each_metric(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    monitor = watched(2, ["hessian_trace", CURVATURE, wrong], every=1)
    monitor.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img ") == 3
    assert "RuntimeError: out of memory" in page
    assert monitor.signature in page.replace("\n", " ")


def test_a_step_that_is_due_stays_so_until_it_is_measured() -> None:
    monitor = Monitor(CURVATURE, every=10)
    monitor.step(at(1.0, 1.0), step=0)
    asked = [monitor.is_due(step) for step in (3, 10, 11, 12)]
    assert asked == [False, True, True, True]
    assert monitor.step(at(1.0, 1.0), step=13) is not None
    assert not monitor.is_due(14)


def test_entries_begin_near_the_last_eigenvector(tmp_path: Path) -> None:
    """Fewer products, the same values; and so does a monitor that goes on with a file, from its second entry on."""
    cold = ish.hessian_spectral_norm.with_options(start=None, name="cold")
    oracle = digits_oracle()
    expected = float(np.linalg.eigvalsh(oracle.hessian)[-1])
    values, products = [], []
    for _ in range(2):
        monitor = Monitor([CURVATURE, cold], every=1, path=tmp_path / "run.jsonl")
        for _ in range(3):
            monitor.step(oracle)
    for entry in monitor:
        found = [entry.estimates[name] for name in (CURVATURE, "cold")]
        values += [estimate.value for estimate in found]
        products.append([int(estimate.method.split()[1]) for estimate in found])
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    near = [warm < alone for warm, alone in products]
    assert near == 2 * [False, True, True], f"products near the last eigenvector and from random vectors: {products}"


def test_two_monitors_do_not_meet() -> None:
    first, second = Monitor("hessian_trace", every=1), Monitor(CURVATURE, every=2)
    for step in range(4):
        oracle = at(1.0, 1.0)
        first.step(oracle, step=step)
        second.step(oracle, step=step)
    assert [entry.step for entry in first] == [0, 1, 2, 3]
    assert [entry.step for entry in second] == [0, 2]
    assert isinstance(first[0], Entry)
