"""The largest curvature that an optimizer with a preconditioner sees (Cohen et al. 2022)."""

from __future__ import annotations

from typing import Any

from invariant_sharpness.adapters.optimizers import OptimizerState, optimizer_state
from invariant_sharpness.coordinates import Scaled
from invariant_sharpness.errors import ModelError
from invariant_sharpness.estimators.lanczos import eigenpairs
from invariant_sharpness.estimators.warm_starts import WarmStart
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate


@metric(
    symbol=r"\lambda_{\max}(P^{-1} H)",
    equation=r"\lambda_{\max}\bigl(P^{-1/2} H P^{-1/2}\bigr)",
    summary="Largest curvature in the units of an optimizer's steps.",
    needs="Hessian-vector products, and the state of an optimizer",
    cost="one product per Lanczos step, at most 1000",
    invariances={"permutation", "output_shift"},
    pitfalls=(
        "Without an optimizer it is the largest eigenvalue, that of gradient descent. The threshold is that of a quadratic loss and a preconditioner "
        "that does not change. Weight decay that is added to the gradient is no part of the oracle's loss: the largest eigenvalue with it is up to "
        "decay / P larger. Not invariant, since the preconditioner of Adam goes as the gradient, not as its square."
    ),
    reference="Cohen, Ghorbani, Krishnan, Agarwal, Medapati, Badura, Suo, Cardoze, Nado, Dahl and Gilmer (2022)",
)
def preconditioned_sharpness(
    oracle: CurvatureOracle,
    *,
    optimizer: Any = None,
    tolerance: float = 1e-6,
    seed: int = 0,
    start: WarmStart | None = None,
) -> Estimate:
    r"""Compute the largest eigenvalue of :math:`P^{-1/2} H P^{-1/2}`, with the preconditioner P of an optimizer.

    An optimizer :math:`\theta \leftarrow \theta - \eta P^{-1} m` is stable on a quadratic loss while this is below a threshold: 2 / learning rate of
    gradient descent and of RMSprop, :math:`(2 + 2 \beta) / \eta` with heavy-ball momentum, and
    :math:`(2 + 2 \beta_1) / ((1 - \beta_1)\, \eta)` of Adam, which is 38 / learning rate at :math:`\beta_1 = 0.9`. Full-batch training raises it to the threshold and
    keeps it there. A note has the threshold and how much of it the value is.

    Not invariant: P would have to go as the squares of the gradients. On ``Scaled(oracle, s)`` with an equivariant scale it is the value of the
    optimizer run in these coordinates, whose mean squares are multiplied by :math:`s^2`, and is invariant up to :math:`\epsilon`.

    Cost: one Hessian-vector product and one vector of memory per iteration of Lanczos' method.
    Source: Cohen et al. (2022), arXiv:2207.14484; Cohen et al. (2021) for momentum.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    optimizer
        An optimizer of ``torch.optim`` or Keras that trains the model, the state of one of Optax with ``inject_hyperparams``, or an
        :class:`~invariant_sharpness.OptimizerState`, such as :func:`~invariant_sharpness.optimizer_state` reads. Default: none, P = 1.
    tolerance
        Largest residual of the eigenvalue, relative to it.
    seed
        Seed of the start vector.
    start
        The eigenvector of an earlier call, near which this one begins and in whose place it leaves its own: in the course of a training fewer products reach
        the tolerance. By default a random vector.

    Returns
    -------
    Estimate
        The eigenvalue, with the relative residual of its eigenpair as ``relative_gap``.

    Raises
    ------
    ModelError
        If the optimizer is of an unknown kind, trains other parameters, or has not taken a step.

    Examples
    --------
    With mean squares of 4 and 1 the preconditioner is diag(2, 1), and the Hessian diag(6, 2) has the eigenvalues 3 and 2:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([6.0, 2.0]), np.array([[1.0, 1.0]]))
    >>> state = ish.OptimizerState("RMSprop", {"weight": 0.5}, {"weight": np.array([[4.0, 1.0]])})
    >>> found = ish.preconditioned_sharpness(oracle, optimizer=state)
    >>> round(found.value, 9), found.notes
    (3.0, ('threshold 4, of which the value is 0.75',))
    """
    state = None if optimizer is None else _state(oracle, optimizer)
    seen = oracle if state is None else Scaled(oracle, state.scale(oracle))
    pairs = eigenpairs(seen, largest=1, smallest=0, tolerance=tolerance, seed=seed, start=start)
    value, residual = pairs.largest[0].value, pairs.largest[0].residual
    return Estimate(
        name="preconditioned_sharpness",
        value=value,
        method=f"{'no preconditioner' if state is None else state.name}, Lanczos, {pairs.products} products",
        certificate=residual / abs(value) if value else 0.0,
        converged=pairs.converged,
        notes=() if state is None else _notes(state, value),
    )


def _state(oracle: CurvatureOracle, optimizer: Any) -> OptimizerState:
    state = optimizer if isinstance(optimizer, OptimizerState) else optimizer_state(oracle, optimizer)
    missing = [group.name for group in oracle.groups if group.name not in state.learning_rates]
    if missing:
        msg = (
            f"{state.name} does not train {', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}, which the oracle measures: take those "
            f"that it trains alone, by invariant_sharpness.Restricted(oracle, names)"
        )
        raise ModelError(msg)
    return state


def _notes(state: OptimizerState, value: float) -> tuple[str, ...]:
    threshold = f"threshold {state.threshold:.6g}, of which the value is {value / state.threshold:.3g}"
    if not state.coupled_decay:
        return (threshold,)
    decay = f"the optimizer adds {state.coupled_decay:.3g} times the parameters to the gradient, which is not in the loss that is measured"
    return threshold, decay
