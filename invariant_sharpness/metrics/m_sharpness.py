"""Measures of minibatches of a given size (m-sharpness), and the rise after the one step of sharpness-aware minimization (Foret et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import fsum

import numpy as np

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.minibatches import disjoint_parts, jackknife
from invariant_sharpness.estimators.perturbations import Perturbations, require_positive
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.declared import Metric
from invariant_sharpness.protocol import CurvatureOracle, SubsetOracle, require
from invariant_sharpness.results.estimate import Bracket, Estimate
from invariant_sharpness.runtime.progress import track


@metric(
    symbol=r"S_1^{\rho}",
    equation=r"L\Bigl(\theta + \rho \frac{g}{\lVert g \rVert}\Bigr) - L(\theta)",
    summary="Loss increase after one step of given length along the gradient.",
    needs="a gradient, and two losses",
    cost="one gradient and two losses, 2 gradients",
    invariances={"permutation", "output_shift"},
    pitfalls=(
        "It is what sharpness-aware minimization penalizes, not the largest increase in the ball: that is ``worst_case_sharpness`` times 1 + loss. Near a "
        "minimum the gradient is mostly noise of the data, and says little of the curvature. The radius has the units of the parameters."
    ),
    reference="Foret, Kleiner, Mobahi and Neyshabur (2021)",
)
def one_step_sharpness(oracle: CurvatureOracle, *, radius: float = 0.05) -> Estimate:
    r"""Measure the increase of the loss after one step along the gradient, :math:`L(\theta + \rho\, g / \lVert g \rVert) - L(\theta)`.

    To second order it is :math:`\rho \lVert g \rVert + \tfrac12 \rho^2 g^T H g / g^T g`. The *one-step* form of the
    sharpness of Foret et al., which tables of sharpness-aware minimization report; the *maximized* form is :func:`worst_case_sharpness` times :math:`1 + L`. They average it
    over minibatches: ``ish.over_minibatches(ish.one_step_sharpness, size=m)``.

    Not invariant; on ``Scaled(oracle, s)`` with an equivariant scale it is.
    Cost: one gradient and two losses. Memory: two vectors.
    Source: Foret, Kleiner, Mobahi and Neyshabur (2021).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    radius
        :math:`\rho`, the Euclidean length of the step, in the units of the parameters.

    Returns
    -------
    Estimate
        The increase; zero where the gradient is zero.

    Raises
    ------
    ArgumentError
        If the radius is not positive and finite.
    NonFiniteError
        If the loss is not finite after the step.

    Examples
    --------
    The loss is half of the squared parameter. From 2 to 2.5 it rises from 2 to 3.125:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.eye(1), np.array([[2.0]]))
    >>> ish.one_step_sharpness(oracle, radius=0.5).value
    1.125
    """
    require_positive("radius", radius)
    gradient = oracle.gradient(oracle.parameters)
    length = gradient.norm()
    if length == 0:
        note = "the gradient is zero: there is no step along it"
        return Estimate("one_step_sharpness", 0.0, "no step", notes=(note,))
    around = Perturbations.equal(oracle, radius)
    increase = around.increase(gradient / length)
    return Estimate("one_step_sharpness", increase, "one step along the gradient", notes=around.notes(increase))


def over_minibatches(
    metric: Metric[...] | Callable[..., Estimate], *, size: int, minibatches: int | None = None
) -> Metric[...]:
    r"""Make the metric that averages another one over minibatches of a given size: :math:`E_b[S(L_b)]`, m-sharpness.

    Each minibatch has its own loss :math:`L_b` and is measured by itself. They are disjoint, of equal size, and cut at random; what is left over is in none
    of them. With all data in one minibatch it is the metric itself. By a metric that is convex in the loss, such as a maximum, smaller minibatches
    are sharper.

    The standard error is that of the mean over the minibatches, from their scatter, in which the noise of each value is contained.

    Invariances: those of the metric, since a change that leaves every output alone leaves every minibatch alone.
    Cost: that of the metric for each minibatch. Memory: that of the metric.
    Source: Foret, Kleiner, Mobahi and Neyshabur (2021); Andriushchenko and Flammarion (2022).

    Parameters
    ----------
    metric
        A metric, such as ``ish.one_step_sharpness`` or ``ish.worst_case_sharpness.with_options(radius=0.1)``, or another callable
        ``oracle -> Estimate``.
    size
        m, the number of examples of a minibatch.
    minibatches
        How many of them. Default: as many as the data have.

    Returns
    -------
    Metric
        The metric, of the name ``NAME over minibatches of SIZE``. It takes the option ``seed``, of the cut and of the metric.

    Raises
    ------
    ArgumentError
        If the size or the number of minibatches is not positive; when measured, if the data have fewer examples.

    Examples
    --------
    With one weight w = 2, an input of 1 and squared errors from 1, 1 and 3, a step of 1 away from the target raises each loss from 1 to 4:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[2.0]]),))
    >>> oracle = ish.oracle(network, (np.ones((3, 1)), np.array([[1.0], [1.0], [3.0]])), loss="mse")
    >>> one_step = ish.one_step_sharpness.with_options(radius=1.0, name="one_step")
    >>> print(ish.over_minibatches(one_step, size=1)(oracle))
    one_step over minibatches of 1 = 3 (± 0; 3 minibatches of 1, each by one step along the gradient)
    """
    if size < 1 or (minibatches is not None and minibatches < 1):
        msg = f"size={size} and minibatches={minibatches}, but there is at least one minibatch of at least one example"
        raise ArgumentError(msg)
    inner = metric if isinstance(metric, Metric) else None
    name = inner.name if inner else getattr(metric, "__name__", type(metric).__name__)
    return Metric(
        name=f"{name} over minibatches of {size}",
        function=partial(_measured, measure=metric, size=size, minibatches=minibatches),
        symbol=rf"E_b[{inner.symbol}]" if inner else "",
        equation=rf"E_b\Bigl[{inner.equation}\Bigr]" if inner else "",
        summary=f"Mean over minibatches of {size} examples. {inner.summary if inner else ''}".rstrip(),
        needs=f"parts of the data; {inner.needs}" if inner else "parts of the data",
        cost=f"for each minibatch {inner.cost}" if inner else "that of the metric for each minibatch",
        invariances=inner.invariances if inner else frozenset(),
        pitfalls=inner.pitfalls if inner else "",
        reference=inner.reference if inner else "",
        up_to_error=inner.up_to_error if inner else frozenset(),
        default=False,
        version=inner.version if inner else 1,
        is_declared=inner is not None and inner.is_declared,
    )


def _measured(
    oracle: CurvatureOracle,
    *,
    measure: Metric[...] | Callable[..., Estimate],
    size: int,
    minibatches: int | None,
    seed: int = 0,
) -> Estimate:
    able = require(oracle, SubsetOracle, metric="over_minibatches")
    count = able.examples // size if minibatches is None else minibatches
    if count < 1 or count * size > able.examples:
        msg = f"{max(count, 1)} minibatches of size={size} need {max(count, 1) * size} examples, but there are only {able.examples}"
        raise ArgumentError(msg)
    parts = [oracle] if size == able.examples else disjoint_parts(able, size, count, seed)
    options = {"seed": seed} if isinstance(measure, Metric) and "seed" in measure.options else {}
    estimates = [measure(part, **options) for part in track(parts, "minibatches", count)]
    return _mean(estimates, size)


def _mean(estimates: Sequence[Estimate], size: int) -> Estimate:
    """Average the estimates; alone, one has no error but its own."""
    count, first = len(estimates), estimates[0]
    values = np.array([estimate.value for estimate in estimates])
    sides = [estimate.bracket or Bracket(estimate.value, estimate.value) for estimate in estimates]
    bracketed = any(estimate.bracket is not None for estimate in estimates)
    scatter = jackknife(lambda kept: float(values[kept].mean()), count) if count > 1 else first.standard_error
    notes = {note: None for estimate in estimates for note in estimate.notes}
    return Estimate(
        name=f"{first.name} over minibatches of {size}",
        value=fsum(values) / count,
        method=f"{count} minibatches of {size}, each by {first.method}",
        standard_error=scatter,
        degrees_of_freedom=count - 1 if count > 1 else first.degrees_of_freedom,
        certificate=max((e.certificate for e in estimates if e.certificate is not None), default=None),
        converged=all(estimate.converged for estimate in estimates),
        bracket=Bracket(fsum(s.lower for s in sides) / count, fsum(s.upper for s in sides) / count)
        if bracketed
        else None,
        notes=tuple(notes),
    )
