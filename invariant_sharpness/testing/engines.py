"""What an engine promises beyond right derivatives: sums that add up, pure methods, results without a graph, one read for each pass."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from invariant_sharpness.adapters.data import batch_size
from invariant_sharpness.adapters.engine import Arrays, Engine, Point, Sums
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.groups import HostArrays
from invariant_sharpness.testing.differences import relative_error, tolerance_of_rounding
from invariant_sharpness.testing.engine_methods import START, Case, Method, Start, case_of, oracle_of_batches
from invariant_sharpness.testing.results import (
    CheckFailedError,
    CheckResult,
    CheckSkippedError,
    Figures,
    OnFail,
    caught,
    results_of,
)


def check_engine(engine: Engine[Any], batch: Any, *, seed: int = 0, on_fail: OnFail = "raise") -> list[CheckResult]:
    r"""Check that an engine keeps the contract of :class:`invariant_sharpness.adapters.Engine`, for whatever it offers.

    Sums over a batch are those over its parts, :math:`S(B_1 \cup B_2) = S(B_1) + S(B_2)`; equal arguments give equal bits, and leave
    the parameters as they were; results have the groups that were asked for, and no graph; a pass over several batches reads
    once. Whether the derivatives are right is the matter of :func:`check_oracle`.

    Parameters
    ----------
    engine
        The model with its loss.
    batch
        At least two examples, in a form that users give to this engine.
    seed
        The seed of the point and the random directions.
    on_fail
        ``"raise"``: stop at the first failure. ``"return"``: run everything.

    Returns
    -------
    list of CheckResult
        One for each of ``check_sums``, ``check_cut``, ``check_purity`` and ``check_reads``. Cost: about eight gradients, products and
        passes for squares each.

    Raises
    ------
    CheckFailedError
        With ``on_fail="raise"``, at the first check that fails; names the check and the method.
    ArgumentError
        If ``on_fail`` is neither ``"raise"`` nor ``"return"``, or there are fewer than two examples.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness.testing import check_engine
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> x, y = np.eye(3), np.array([0, 1, 1])
    >>> oracle = NetworkOracle(ReluNetwork((np.array([[1.0, -1.0, 2.0], [0.5, 1.0, 3.0]]),)), x, y)
    >>> [result.status for result in check_engine(oracle.engine, (x, y))]
    ['passed', 'passed', 'passed', 'passed']
    """
    if batch_size(batch) < 2:
        msg = "check_engine cuts the batch: give it at least two examples"
        raise ArgumentError(msg)
    case = case_of(engine, batch, seed)
    checks = {
        "check_sums": _check_sums,
        "check_cut": _check_cut,
        "check_purity": _check_purity,
        "check_reads": _check_reads,
    }
    return results_of({name: caught(partial(check, case), "the engine") for name, check in checks.items()}, on_fail)


def _check_sums(case: Case) -> Figures:
    """Results hold the groups that were asked for, in their shapes, and no graph."""
    shapes = {group.name: group.shape for group in case.engine.groups}
    with case.at(case.point) as point:
        for name, (groups, method) in case.methods().items():
            sums = method(point, case.engine.batch(case.given), START)
            for arrays in sums.arrays:
                _check_groups(name, {key: tuple(array.shape) for key, array in arrays.items()}, shapes, groups)
            tensors = (sums.weight, sums.value, *(array for arrays in sums.arrays for array in arrays.values()))
            if any(getattr(tensor, "requires_grad", False) for tensor in tensors):
                msg = f"what {name} returns is still attached to a graph, which keeps the activations of every batch: detach it"
                raise CheckFailedError(msg)
    return {}


def _check_groups(
    name: str, found: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]], groups: frozenset[str]
) -> None:
    expected = {key: shape for key, shape in shapes.items() if key in groups}
    if found != expected:
        msg = f"{name} returns arrays of {dict(found)} instead of {expected}: named groups, zero where nothing depends on them"
        raise CheckFailedError(msg)


def _check_cut(case: Case) -> Figures:
    """Sums over a batch are the sums of those over its parts."""
    engine, errors = case.engine, {}
    with case.at(case.point) as point:
        for name, (_, method) in case.methods().items():
            whole = _on_host(engine, method(point, engine.batch(case.given), START))
            parts = [_on_host(engine, sums) for sums in _in_turn(case, point, method)]
            errors[name] = max(_error(sum(part[key] for part in parts), whole, key, engine.eps) for key in whole)
            if not errors[name] <= tolerance_of_rounding(engine.eps):
                msg = (
                    f"{name} of a batch differs by {errors[name]:.2g} from the sum over its parts. Return sums, not means, and an "
                    f"example must not depend on its batch; random signs belong to the number of a row in the data"
                )
                raise CheckFailedError(msg, {"error": errors[name]})
    return {"error": max(errors.values())}


def _in_turn(case: Case, point: Point[Any], method: Method) -> Iterator[Sums]:
    start = START
    for part in case.parts:
        sums = method(point, case.engine.batch(part), start)
        yield sums
        start = Start(start.example + batch_size(part), start.row + sums.rows)


def _error(found: Any, whole: HostArrays, key: str, eps: float) -> float:
    size = float(np.linalg.norm(whole[key]))
    return relative_error(float(np.linalg.norm(found - whole[key])), size, size, eps)


def _check_purity(case: Case) -> Figures:
    """Equal arguments give equal bits, also after other arguments, and the parameters are what they were."""
    for name, (_, method) in case.methods().items():
        first, _, second = (_evaluated(case, method, place) for place in (case.point, case.other, case.point))
        changed = [key for key in first if not np.array_equal(first[key], second[key])]
        if changed:
            msg = f"{name} gave two results for the same arguments ({changed[0]}): what is random, or remembers?"
            raise CheckFailedError(msg)
        after = case.engine.to_numpy(case.engine.parameters())
        if any(not np.array_equal(after[key], case.before[key]) for key in case.before):
            msg = f"{name} left the model at other parameters: put them back when `at` ends, in a finally clause"
            raise CheckFailedError(msg)
    return {}


def _evaluated(case: Case, method: Method, place: Arrays) -> dict[str, Any]:
    with case.at(place) as point:
        return _on_host(case.engine, method(point, case.engine.batch(case.given), START))


def _check_reads(case: Case) -> Figures:
    """A pass over several batches transfers its numbers once."""
    oracle = oracle_of_batches(case.engine, case.parts)
    p = oracle.parameters
    passes: dict[str, Callable[[], Any]] = {
        "loss": lambda: oracle.loss(p),
        "gradient": lambda: oracle.gradient(p),
        "hessian_vector_products": lambda: oracle.hessian_vector_products(p, [p, p]),
    }
    for name, run in passes.items():
        with _counted_reads(case.engine) as reads:
            run()
        if len(reads) != 1:
            msg = f"{name} over {len(case.parts)} batches read {len(reads)} times instead of once: methods of a point wait for nothing"
            raise CheckFailedError(msg, {"reads": len(reads)})
    return {"reads": 1}


@contextmanager
def _counted_reads(engine: Any) -> Generator[list[int]]:
    """The engine counts calls of its ``read``, its own ones too; not those that a read makes for the branches of its tree."""
    read, reads, inside = engine.read, [], False

    def counting(tree: Any) -> Any:
        nonlocal inside
        outermost, inside = not inside, True
        if outermost:
            reads.append(1)
        try:
            return read(tree)
        finally:
            inside = not outermost

    try:
        engine.read = counting
    except AttributeError as error:
        msg = "the engine has no attributes to be set, so its reads cannot be counted"
        raise CheckSkippedError(msg) from error
    try:
        yield reads
    finally:
        del engine.read


def _on_host(engine: Engine[Any], sums: Sums) -> dict[str, Any]:
    """All numbers of sums, by name."""
    scalars = {"weight": sums.weight, "value": sums.value}
    found: dict[str, Any] = {key: np.asarray(engine.read([one])[0]) for key, one in scalars.items() if one is not None}
    for number, arrays in enumerate(sums.arrays):
        found |= {f"array {number} of {key}": a for key, a in engine.to_numpy(engine.portable(arrays)).items()}
    return found
