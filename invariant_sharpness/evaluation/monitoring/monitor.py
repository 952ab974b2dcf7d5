"""Sharpness while a network is trained: a plain object that any loop calls, and that changes nothing in it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

from invariant_sharpness.adapters.registry import OracleOptions
from invariant_sharpness.arguments import require_seed
from invariant_sharpness.errors import ArgumentError, CheckpointError, NonFiniteError
from invariant_sharpness.evaluation.door import AnyMetric, as_metrics, require_different_names
from invariant_sharpness.evaluation.monitoring.entries import Entry
from invariant_sharpness.evaluation.monitoring.found import Found, Measuring
from invariant_sharpness.evaluation.monitoring.history import History
from invariant_sharpness.evaluation.monitoring.lines import append_line, read_lines
from invariant_sharpness.evaluation.monitoring.logged import check_names, plain_value, step_number
from invariant_sharpness.evaluation.monitoring.schedules import Budget, Every, Schedule
from invariant_sharpness.evaluation.monitoring.watched import Watched
from invariant_sharpness.prng import require_probes

_EVERY = 100


class Monitor(History):
    r"""Measures a model every so many steps of its training, on data that stay the same, and keeps what it finds.

    .. math:: \bigl(t, \eta_t, L(\theta_t), \mu_1(\theta_t), \mu_2(\theta_t), \dots\bigr)

    is an entry: the step, the learning rate, the loss on the probe data and the metrics. It is a sequence of its entries.

    The training stays as it is, bit by bit: the model is put into evaluation mode for the time of a measurement, and afterwards weights, gradients, buffers, modes
    and random states are what they were. An error of a measurement, such as a loss that is NaN, is an entry with its words, and the training goes on; only what does
    not fit at the very first measurement, such as data of another shape, is raised.

    A metric with an option ``start``, such as :func:`hessian_spectral_norm`, begins near the eigenvector of the last entry
    (:class:`~invariant_sharpness.estimators.WarmStart`): fewer products reach the same tolerance, within which the value is that of :func:`measure`.

    Cost: that of :func:`measure` for each entry, or ``at_most`` a share of the time of training. Memory: that of the metrics, and one vector between entries for each
    that has such a start. Invariances: those of the metrics.

    Parameters
    ----------
    metrics
        As in :func:`measure`. A metric with an option ``optimizer``, such as :func:`preconditioned_sharpness`, gets that of :meth:`step`.
    data, loss
        The probe data and the loss, as in :func:`oracle`. No data are needed if :meth:`step` is given oracles.
    every
        A number of steps n: the first call is measured, and then each one that reaches or passes a multiple of n. ``"log"``: steps whose logarithms are evenly
        spaced, ten from each to that of ten times its number. A callable: ``step -> whether to measure``. Default: 100 steps, or with ``at_most`` all steps.
    at_most
        Share of the time of training, such as 0.05, that all measurements may take together: one that is due waits until it fits, if it takes as long as the
        last one did. The first one is measured in any case.
    path
        A file to which every entry is written, as a line of JSON, before the training goes on. If it has entries of the same metrics, the monitor goes on with it.
    seed, probes
        As in :func:`measure`: every entry probes along the same random vectors.
    **options
        Those of :func:`oracle`, such as ``forward=`` or ``parameters="encoder.*"``.

    Raises
    ------
    ArgumentError
        If ``every``, ``at_most``, ``seed`` or ``probes`` is none, or the file belongs to other metrics.
    CheckpointError
        If the file cannot be read or written.

    Examples
    --------
    Gradient descent on :math:`(w^2 + 4 v^2) / 2`, whose largest eigenvalue is 4; it is stable, since that is less than 2 / 0.1:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> point = np.array([[1.0, 1.0]])
    >>> monitor = ish.Monitor(["hessian_spectral_norm"], every=10)
    >>> for step in range(25):
    ...     entry = monitor.step(quadratic(np.diag([1.0, 4.0]), point), step=step, learning_rate=0.1)
    ...     point = point - 0.1 * point * np.array([1.0, 4.0])
    >>> [(entry.step, round(entry.estimates["hessian_spectral_norm"].value, 6)) for entry in monitor]
    [(0, 4.0), (10, 4.0), (20, 4.0)]
    """

    def __init__(
        self,
        metrics: AnyMetric | Iterable[AnyMetric] | None = None,
        data: Any = None,
        loss: Any = "cross_entropy",
        *,
        every: Every | None = None,
        at_most: float | None = None,
        path: str | PathLike[str] | None = None,
        seed: int = 0,
        probes: int = 64,
        **options: Unpack[OracleOptions],
    ) -> None:
        chosen = as_metrics(metrics)
        require_different_names(chosen)
        require_seed(seed)
        require_probes(probes, 4)
        super().__init__([metric.definition for metric in chosen])
        self._measuring = Measuring(chosen, seed, probes)
        self._schedule = Schedule(every if every is not None else _EVERY if at_most is None else 1)
        self._budget = Budget(at_most)
        self._watched = Watched(data, loss, dict(options))
        self._calls, self._run, self._is_due = 0, 0, False
        self._path = None if path is None else Path(path)
        if self._path is not None:
            self._go_on(self._path)
        self._unwritten: list[Entry] = []

    def __bool__(self) -> bool:
        """A monitor without entries is one, too: ``if monitor:`` asks whether there is any."""
        return True

    @property
    def share(self) -> float:
        """The time that measurements took so far, relative to the time of training without them."""
        return self._budget.spent / trained if (trained := self._budget.trained) > 0 else 0.0

    def is_due(self, step: int) -> bool:
        """Whether :meth:`step` measures at the step of this number, for loops in which it costs something to have the model at hand.

        A step that is due stays so until one is measured.
        """
        self._is_due = self._schedule.is_due(step) or self._is_due
        return self._is_due and self._budget.affords_another()

    def step(
        self,
        model: Any,
        *,
        step: int | None = None,
        learning_rate: float | None = None,
        optimizer: Any = None,
        parameters: Any = None,
        **logged: Any,
    ) -> Entry | None:
        """Measure the model, if this step is due.

        Parameters
        ----------
        model
            The model as it is now, or an oracle. It may be another object than in the last call.
        step
            The number of the step; by default, that of the call.
        learning_rate
            For the threshold 2 / learning rate; by default, that of the optimizer.
        optimizer
            As in :func:`optimizer_state`, for its threshold and for metrics that need it.
        parameters
            In JAX, the tree of arrays that the function ``model`` takes.
        **logged
            What else belongs to the entry, such as ``train_loss=...``. Numbers of any framework.

        Returns
        -------
        Entry or None
            The entry; None if this step is not due.

        Raises
        ------
        ArgumentError
            If the step is no integer, or a name of ``logged`` is that of a column of its own.
        ModelError, DataError, LossError
            If model, data and loss do not fit together at the first measurement.
        """
        number = self._calls if step is None else step_number(step)
        self._calls += 1
        check_names(logged)
        if not self.is_due(number):
            return None
        self._is_due = False
        started = time.perf_counter()
        try:
            found = self._found(model, parameters, optimizer)
        finally:
            seconds = time.perf_counter() - started
            self._budget.spend(seconds)
        rate = found.learning_rate if learning_rate is None else float(learning_rate)
        log = {name: plain_value(value) for name, value in logged.items()}
        entry = Entry(
            number,
            self._run,
            found.loss,
            found.estimates,
            found.errors,
            rate,
            found.threshold,
            seconds,
            log,
            found.signature,
        )
        self._keep(entry)
        return entry

    def _found(self, model: Any, parameters: Any, optimizer: Any) -> Found:
        """What can be measured, and in words what cannot be."""
        had_built = self._watched.has_built
        try:
            with self._watched.oracle(model, parameters) as oracle:
                return self._measuring.found(oracle, optimizer)
        except Exception as error:
            if not (had_built or isinstance(error, NonFiniteError)):
                raise
            return self._measuring.nothing(error)

    def _go_on(self, path: Path) -> None:
        """Take in what the file has, and write that there is another start."""
        if path.exists():
            starts, self._entries = read_lines(path)
            if starts and starts[-1]["metrics"] != list(self._metrics):
                msg = (
                    f"{str(path)!r} has entries of {', '.join(starts[-1]['metrics'])}, and this monitor measures {', '.join(self._metrics)}: "
                    f"take another path"
                )
                raise ArgumentError(msg)
            self._run = len(starts)
        try:
            append_line(path, self._start(self._run))
        except OSError as error:
            msg = f"entries cannot be written to {str(path)!r}: {error.strerror or error}; give a file in a folder that is there"
            raise CheckpointError(msg) from error

    def _keep(self, entry: Entry) -> None:
        """Add the entry, and write it; where the disk fails, warn, and write it along with the next one."""
        self._entries.append(entry)
        if self._path is None:
            return
        self._unwritten.append(entry)
        try:
            while self._unwritten:
                append_line(self._path, self._unwritten[0].to_dict())
                del self._unwritten[0]
        except OSError as error:
            words = f"the entry of step {entry.step} is not in {str(self._path)!r}: {error.strerror or error}; it is tried again with the next entry"
            warnings.warn(words, RuntimeWarning, stacklevel=3)
