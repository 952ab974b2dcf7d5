"""From a function and data, as users have them, to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from invariant_sharpness.adapters.alone import Evaluate, check_half
from invariant_sharpness.adapters.building import checked_data
from invariant_sharpness.adapters.engine import Engine
from invariant_sharpness.adapters.true_derivatives import check_derivatives
from invariant_sharpness.adapters.whole_batches import Examples, batches_of
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_jax.application import Application
from invariant_sharpness_jax.engine import JaxEngine
from invariant_sharpness_jax.groups import parameter_groups
from invariant_sharpness_jax.losses import resolve_loss
from invariant_sharpness_jax.oracle import JaxOracle
from invariant_sharpness_jax.processes import computing_together
from invariant_sharpness_jax.roles import uses
from invariant_sharpness_jax.trees import checked_arrays, named_leaves

_ADVICE = (
    "apply has to take (parameters, inputs), where inputs are a whole batch (jax.vmap makes a batch out of examples)"
)


def build_oracle(
    apply: Callable[[Any, Any], Any],
    data: Any,
    loss: Any = "cross_entropy",
    *,
    parameters: Any,
    batch_size: int = 256,
    microbatch: int | None = None,
    max_examples: int | None = None,
    dtype: str | None = None,
    groups: Sequence[ParameterGroup] = (),
    examples: Examples = "rows",
) -> JaxOracle:
    """Return the oracle of a function; read the data once (what is not in memory three times) and check everything.

    Parameters
    ----------
    apply
        ``(parameters, inputs) -> outputs``, pure, in inference mode: one row of outputs per example, which
        does not depend on the other examples.
    data
        ``(x, y)`` arrays, one batch, a list of batches, or an object that yields the same batches whenever it is
        iterated over. A batch is ``(inputs, targets)``, or a dictionary with ``"labels"``, of which ``apply``
        gets the rest.
    loss
        A name, a loss of Optax or of :mod:`invariant_sharpness.losses`, or a callable
        ``(outputs, targets) -> one loss per example``.
    parameters
        A tree of arrays of floating-point numbers; all of them are measured. Unused ones have zero curvature.
    batch_size
        For ``(x, y)`` only. Memory grows with it; the value does not depend on it.
    microbatch
        Cut the batches of a loader, or of whatever kind, into pieces of at most so many examples, which count as batches
        in messages. Memory falls with it; the value does not depend on it.
    max_examples
        Measure on so many first examples, and read no batch beyond them. Data may have no end then, and of an iterator they are held in memory.
    dtype
        ``"float32"`` or ``"float64"``: measure a copy of the parameters in this precision.
    groups
        Descriptions that replace those told from names and shapes.
    examples
        ``"batches"``: a batch is one example, which is never cut. The loss returns one number for it; what is measured is the mean
        over the batches.

    Raises
    ------
    ModelError, DataError, LossError, NonFiniteError
        Each names the parameter, batch or example that is wrong, and what to do.
    """
    named, structure = named_leaves(parameters)
    arrays = checked_arrays(named, dtype)
    own = apply.groups if isinstance(apply, Application) else ()
    described = parameter_groups(arrays, (*own, *groups))
    engine = JaxEngine(apply, structure, arrays, described, resolve_loss(loss), examples)

    def check_first(_: Engine[Any], evaluate: Evaluate, batch: Any, outputs: Any) -> None:
        check_half(engine, evaluate, batch, outputs)
        if engine.may_deceive(batch):
            check_derivatives(engine, batch)

    computing = computing_together(
        engine, arrays.values(), batches_of(data, batch_size, microbatch, examples, max_examples)
    )
    dataset, outputs = checked_data(
        engine,
        data,
        batch_size=batch_size,
        microbatch=microbatch,
        max_examples=max_examples,
        examples=examples,
        advice=_ADVICE,
        check_first=check_first,
    )
    told = {group.name for group in (*own, *groups)}
    untold = frozenset(group.name for group in described if len(group.shape) > 2) - told
    if untold:
        engine.groups = parameter_groups(arrays, (*own, *uses(engine, untold, dataset), *groups))
    oracle = JaxOracle(engine, dataset, outputs)
    oracle.computing = computing
    return oracle
