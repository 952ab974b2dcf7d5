"""The mistakes that an oracle can make, each with the check that is meant for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from invariant_sharpness import ParameterVector
from zoo.mutants import Mutant, base, with_part


def skewed(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    """``H + K`` with K antisymmetric and a hundredth as large."""
    first, second = oracle.groups[0].name, oracle.groups[2].name
    product = oracle.hessian_vector_product(p, v)
    return with_part(product, first, lambda a: a + 0.01 * float(np.sum(v[second])))


def symmetric_but_wrong(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    """One diagonal block is 1 % too large."""
    name = oracle.groups[0].name
    return oracle.hessian_vector_product(p, v) + 0.01 * oracle.hessian_vector_product(p, v.only([name])).only([name])


def without_bias(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    kept = [group.name for group in oracle.groups][:-1]
    return oracle.hessian_vector_product(p, v.only(kept)).only(kept)


def finite_difference(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    step = 1e-4
    return (oracle.gradient(p + step * v) - oracle.gradient(p - step * v)) / (2 * step)


def careless(oracle: Any, p: ParameterVector) -> ParameterVector:
    p[oracle.groups[0].name][...] *= 1.5
    return oracle.gradient(p)


def in_place_on_direction(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    product = oracle.hessian_vector_product(p, v)
    v[oracle.groups[0].name][...] = 0.0
    return product


def noisy() -> Callable[..., float]:
    random = np.random.default_rng(0)
    return lambda oracle, p: oracle.loss(p) + 1e-12 * float(random.normal())


def remembering() -> Callable[..., ParameterVector]:
    """Equal calls in a row agree; a call for another point leaves a mark."""
    seen: dict[str, float] = {}

    def gradient(oracle: Any, p: ParameterVector) -> ParameterVector:
        mark = p.norm()
        drift = 0.0 if seen.get("last", mark) == mark else 1e-9
        seen["last"] = mark
        return oracle.gradient(p) * (1 + drift)

    return gradient


def wrong_diagonal(oracle: Any, p: ParameterVector, names: frozenset[str]) -> ParameterVector:
    return 1.01 * oracle.gauss_newton_diagonal(p, names)


def batch_moment(oracle: Any, p: ParameterVector, u: ParameterVector) -> float:
    return oracle.gradient(p).dot(u) ** 2


def first_draw(oracle: Any, p: ParameterVector, names: frozenset[str], seed: int) -> ParameterVector:
    """Every draw is the same one."""
    return oracle.sampled_gauss_newton_diagonal(p, names, range(1), seed)


def without_outputs() -> Any:
    oracle = Mutant(base())
    oracle.outputs_per_example = 0
    return oracle


MUTANTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "gradient 1 % too large": ("check_gradient", lambda: Mutant(base(), gradient=lambda o, p: 1.01 * o.gradient(p))),
    "gradient without a group": (
        "check_gradient",
        lambda: Mutant(base(), gradient=lambda o, p: o.gradient(p).only([g.name for g in o.groups][:-1])),
    ),
    "gradient always at the model's parameters": (
        "check_gradient",
        lambda: Mutant(base(), gradient=lambda o, _: o.gradient(o.parameters)),
    ),
    "asymmetric product": ("check_symmetry", lambda: Mutant(base(), hessian_vector_product=skewed)),
    "symmetric but wrong product": (
        "check_second_derivative",
        lambda: Mutant(base(), hessian_vector_product=symmetric_but_wrong),
    ),
    "product that forgets a group": (
        "check_second_derivative",
        lambda: Mutant(base(), hessian_vector_product=without_bias),
    ),
    "product always at the model's parameters": (
        "check_second_derivative",
        lambda: Mutant(base(), hessian_vector_product=lambda o, _, v: o.hessian_vector_product(o.parameters, v)),
    ),
    "product by differences": ("check_linearity", lambda: Mutant(base(), hessian_vector_product=finite_difference)),
    "diagonal 1 % too large": (
        "check_gauss_newton_diagonal",
        lambda: Mutant(base(), gauss_newton_diagonal=wrong_diagonal),
    ),
    "block in another order": (
        "check_block_products",
        lambda: Mutant(base(), hessian_vector_products=lambda o, p, v: o.hessian_vector_products(p, v)[::-1]),
    ),
    "curvature product 1 % too large": (
        "check_gauss_newton_product",
        lambda: Mutant(base(), gauss_newton_vector_product=lambda o, p, v: 1.01 * o.gauss_newton_vector_product(p, v)),
    ),
    "curvature product that is not symmetric": (
        "check_gauss_newton_product",
        lambda: Mutant(base(), gauss_newton_vector_product=skewed),
    ),
    "Jacobian product without a group": (
        "check_jacobian",
        lambda: Mutant(
            base(),
            jacobian_vector_product=lambda o, p, v, n: o.jacobian_vector_product(
                p, v.only([g.name for g in o.groups][:-1]), n
            ),
        ),
    ),
    "transposed product that is a mean": (
        "check_jacobian",
        lambda: Mutant(base(), vector_jacobian_product=lambda o, p, c: o.vector_jacobian_product(p, c) / len(c)),
    ),
    "Jacobian product of other examples": (
        "check_jacobian",
        lambda: Mutant(
            base(), jacobian_vector_product=lambda o, p, v, n: o.jacobian_vector_product(p, v, n)[::-1].copy()
        ),
    ),
    "draws that are all the same": (
        "check_sampled_outputs",
        lambda: Mutant(base(), sampled_gauss_newton_diagonal=lambda o, p, n, _, seed: first_draw(o, p, n, seed)),
    ),
    "sampled diagonal 50 % too large": (
        "check_sampled_outputs",
        lambda: Mutant(
            base(),
            sampled_gauss_newton_diagonal=lambda o, *arguments: 1.5 * o.sampled_gauss_newton_diagonal(*arguments),
        ),
    ),
    "gradient that changes its argument": ("check_purity", lambda: Mutant(base(), gradient=careless)),
    "product that changes its argument": (
        "check_purity",
        lambda: Mutant(base(), hessian_vector_product=in_place_on_direction),
    ),
    "loss with noise": ("check_determinism", lambda: Mutant(base(), loss=noisy())),
    "gradient with a memory": ("check_determinism", lambda: Mutant(base(), gradient=remembering())),
    "directional moment of the mean": (
        "check_second_moments",
        lambda: Mutant(base(), directional_second_moment=batch_moment),
    ),
    "moments too small": (
        "check_second_moments",
        lambda: Mutant(
            base(),
            directional_second_moment=lambda o, p, u: 1e-6 * o.directional_second_moment(p, u),
            gradient_second_moment=lambda o, p: 1e-6 * o.gradient_second_moment(p),
        ),
    ),
    "loss that is no number": ("check_finite", lambda: Mutant(base(), loss=lambda _o, _p: float("nan"))),
    "no outputs": ("check_finite", without_outputs),
    "gradient in single precision": (
        "check_vectors",
        lambda: Mutant(base(), gradient=lambda o, p: o.gradient(p).map(lambda a: a.astype(np.float32))),
    ),
    "gradient in another order": (
        "check_vectors",
        lambda: Mutant(
            base(), gradient=lambda o, p: ParameterVector(o.xp, dict(reversed(o.gradient(p).arrays.items())))
        ),
    ),
    "host arrays that are views": ("check_round_trip", lambda: Mutant(base(), to_numpy=lambda _, v: dict(v.arrays))),
    "from_numpy that rounds": (
        "check_round_trip",
        lambda: Mutant(base(), from_numpy=lambda o, a: o.from_numpy({k: np.round(v, 3) for k, v in a.items()})),
    ),
}
