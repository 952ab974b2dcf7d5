"""Methods are pure functions: they change nothing, and equal arguments give equal results, however a call ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from invariant_sharpness.estimators.affine_groups import MOST_OUTPUTS
from invariant_sharpness.parameters.vector import Array, ParameterVector
from invariant_sharpness.protocol import (
    BlockProductOracle,
    CurvatureOracle,
    ExampleGradientOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    HessianOperatorOracle,
    JacobianOracle,
    NodeCurvatureOracle,
    OutputFormOracle,
    ResidualDiagonalOracle,
    ResidualProductOracle,
    SampledGaussNewtonOracle,
    capability,
)
from invariant_sharpness.testing.points import nearby_point, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, Figures

_EXAMPLES = 8

Evaluation = Callable[[ParameterVector, ParameterVector], Any]
"""A method of an oracle, as a function of a point and a direction."""


def check_purity(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that no method changes its arguments, or the parameters of the model. Cost: one call of each method."""
    point, direction = nearby_point(oracle, seed), scaled_signs(oracle, seed, 0)
    for method, evaluate in _evaluations(oracle).items():
        before = [_on_host(oracle, vector) for vector in (point, direction, oracle.parameters)]
        evaluate(point, direction)
        after = [_on_host(oracle, vector) for vector in (point, direction, oracle.parameters)]
        names = ("its first argument", "its second argument", "parameters")
        for what, old, new in zip(names, before, after, strict=True):
            if any(not np.array_equal(a, b) for a, b in zip(old, new, strict=True)):
                msg = f"{method} changed {what}: work on copies, and put the model back in a finally clause"
                raise CheckFailedError(msg)
    return {}


def check_determinism(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that each method gives the same result again, bit by bit, also after it was asked about another point.

    Cost: three calls of each method.
    """
    point, other = nearby_point(oracle, seed), nearby_point(oracle, seed + 1)
    direction = scaled_signs(oracle, seed, 0)
    for method, evaluate in _evaluations(oracle).items():
        first = _on_host(oracle, evaluate(point, direction))
        evaluate(other, direction)
        second = _on_host(oracle, evaluate(point, direction))
        pairs = list(zip(first, second, strict=True))
        if any(not np.array_equal(a, b) for a, b in pairs):
            difference = max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in pairs)
            msg = (
                f"{method} gave two results for the same arguments, which differ by up to {difference:.2g}. Turn off what is "
                f"random (dropout, augmentation, sampling) and what remembers (running statistics); on a GPU, ask the "
                f"framework for deterministic kernels"
            )
            raise CheckFailedError(msg, {"difference": difference})
    return {}


def check_model_untouched(make_snapshot: Callable[[], Any], oracle: CurvatureOracle, *, seed: int = 0) -> Figures:
    """Check that no method of the oracle leaves a trace in the user's model, however it ends.

    Every method is run to its end; on parameters that are NaN; and with vectors that raise ``KeyboardInterrupt``
    when their first, their second, ... array is read, which happens before, during and after the evaluation of the model.

    Parameters
    ----------
    make_snapshot
        A function that returns copies of all that can be seen of the model (parameters, buffers, flags, gradients, random
        states), as something that ``==`` compares: bytes, or a dictionary of bytes and numbers. Not arrays, which compare
        entry by entry.
    oracle
        The oracle of this model.
    seed
        Seed of the point and the direction, an integer from 0; another one is another test.

    Returns
    -------
    mapping
        The number of ``endings`` that were tried. Cost: a few calls of each method per group.

    Raises
    ------
    CheckFailedError
        If the snapshot changes; names the method and how it ended.

    Examples
    --------
    An oracle of one group has three methods of two arguments: each ends well, on NaN, and at the first and the second access to
    each argument.

    >>> from invariant_sharpness.testing import check_model_untouched
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic([[2.0]], [[1.0]])
    >>> check_model_untouched(lambda: oracle.parameters["weight"].tobytes(), oracle)
    {'endings': 18}
    """
    before = make_snapshot()
    endings = 0
    for method, evaluate in _evaluations(oracle).items():
        for ending, run in _endings(oracle, evaluate, seed):
            run()
            endings += 1
            after = make_snapshot()
            if after != before:
                msg = (
                    f"{method} left the model changed after {ending}{_where(before, after)}: put parameters, buffers, flags, "
                    f"gradients and random states back in a finally clause"
                )
                raise CheckFailedError(msg)
    return {"endings": endings}


def _evaluations(oracle: CurvatureOracle) -> dict[str, Evaluation]:
    """Return the methods of the oracle by name, those of its optional capabilities included."""
    found: dict[str, Evaluation] = {
        "loss": lambda p, _: oracle.loss(p),
        "gradient": lambda p, _: oracle.gradient(p),
        "hessian_vector_product": oracle.hessian_vector_product,
    }
    if (blocks := capability(oracle, BlockProductOracle)) is not None:
        found["hessian_vector_products"] = lambda p, u: tuple(blocks.hessian_vector_products(p, [u, p]))
    if (linearizing := capability(oracle, HessianOperatorOracle)) is not None:
        found["hessian_operator"] = lambda p, u: linearizing.hessian_operator(p)([u])[0]
    found |= _gauss_newton_evaluations(oracle) | _example_evaluations(oracle)
    return found


def _gauss_newton_evaluations(oracle: CurvatureOracle) -> dict[str, Evaluation]:
    found: dict[str, Evaluation] = {}
    names = frozenset(group.name for group in oracle.groups)
    if (knowing := capability(oracle, GaussNewtonDiagonalOracle)) is not None:
        found["output_curvature"] = lambda p, u: knowing.output_curvature(p, u, 0)
        if knowing.outputs_per_example <= MOST_OUTPUTS:
            found["gauss_newton_diagonal"] = lambda p, _: knowing.gauss_newton_diagonal(p, names)
    if (reading := capability(oracle, OutputFormOracle)) is not None:
        found["output_form"] = lambda p, _: float(len(reading.output_form(p).curved))
    if (multiplying := capability(oracle, GaussNewtonOracle)) is not None:
        found["gauss_newton_vector_product"] = multiplying.gauss_newton_vector_product
    if (holding := capability(oracle, ResidualProductOracle)) is not None:
        found["residual_vector_products"] = lambda p, u: holding.residual_vector_products(p, [u], names)[0]
    sampling = capability(oracle, SampledGaussNewtonOracle)
    if sampling is not None and sampling.samples_outputs:
        found["sampled_gauss_newton_diagonal"] = lambda p, _: sampling.sampled_gauss_newton_diagonal(
            p, names, range(2), 0
        )
    if (telling := capability(oracle, ResidualDiagonalOracle)) is not None:
        found["sampled_residual_diagonal"] = lambda p, _: _drawn_at_layers(telling, p)
    if (propagating := capability(oracle, NodeCurvatureOracle)) is not None:
        found["propagated_residual_diagonal"] = lambda p, _: _drawn_at_nodes(propagating, p)
    return found


def _drawn_at_nodes(oracle: NodeCurvatureOracle, point: ParameterVector) -> Any:
    names = frozenset(name for name, count in oracle.node_counts(point).items() if count)
    return oracle.propagated_residual_diagonal(point, names, range(1), 0) if names else ()


def _drawn_at_layers(oracle: ResidualDiagonalOracle, point: ParameterVector) -> Any:
    units = oracle.layer_units(point)
    return oracle.sampled_residual_diagonal(point, units, range(2), 0) if units else ()


def _example_evaluations(oracle: CurvatureOracle) -> dict[str, Evaluation]:
    found: dict[str, Evaluation] = {}
    if (shown := capability(oracle, JacobianOracle)) is not None:
        found["outputs"] = lambda p, _: shown.outputs(p, _EXAMPLES)
        found["jacobian_vector_product"] = lambda p, u: shown.jacobian_vector_product(p, u, _EXAMPLES)
        found["vector_jacobian_product"] = lambda p, u: shown.vector_jacobian_product(p, shown.outputs(u, _EXAMPLES))
    if (apart := capability(oracle, ExampleGradientOracle)) is not None:
        found["gradient_second_moment"] = lambda p, _: apart.gradient_second_moment(p)
        found["directional_second_moment"] = apart.directional_second_moment
    return found


def _on_host(oracle: CurvatureOracle, value: Any) -> list[np.ndarray[Any, Any]]:
    """Return a number, a vector or a tuple of them as arrays that can be compared."""
    if isinstance(value, ParameterVector):
        return [np.array(array) for array in oracle.to_numpy(value).values()]
    if isinstance(value, tuple):
        return [array for part in value for array in _on_host(oracle, part)]
    return [np.asarray(value)]


def _endings(oracle: CurvatureOracle, evaluate: Evaluation, seed: int) -> Iterator[tuple[str, Callable[[], object]]]:
    point, direction = nearby_point(oracle, seed), scaled_signs(oracle, seed, 0)
    missing = oracle.from_numpy({group.name: np.full(group.shape, np.nan) for group in oracle.groups})
    yield "success", partial(evaluate, point, direction)
    yield "parameters that are NaN", partial(_survived, evaluate, missing, direction)
    for count in range(len(oracle.groups) + 1):
        at = f"an interrupt at access {count + 1} to the"
        yield f"{at} parameters", partial(_survived, evaluate, _interrupting(point, count), direction)
        yield f"{at} vector", partial(_survived, evaluate, point, _interrupting(direction, count))


def _survived(evaluate: Evaluation, point: ParameterVector, direction: ParameterVector) -> None:
    """Call the method; how it ends is its own affair."""
    with suppress(Exception, KeyboardInterrupt):
        evaluate(point, direction)


def _interrupting(vector: ParameterVector, after: int) -> ParameterVector:
    return ParameterVector(vector.xp, _InterruptingArrays(vector.arrays, after))


class _InterruptingArrays(Mapping[str, Array]):
    """Arrays by name, which can be read only so many times before they raise ``KeyboardInterrupt``."""

    def __init__(self, arrays: Mapping[str, Array], accesses: int) -> None:
        self._arrays = arrays
        self._accesses = accesses

    def __getitem__(self, name: str) -> Array:
        if self._accesses == 0:
            raise KeyboardInterrupt
        self._accesses -= 1
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _where(before: Any, after: Any) -> str:
    """Name what differs, in words."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return ""
    changed = [str(key) for key in before if key not in after or before[key] != after[key]]
    return f" ({', '.join(changed[:3])})"
