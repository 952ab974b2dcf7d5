r"""The spectrum by stochastic Lanczos quadrature, from random signs u: :math:`E[u^T f(H) u] = \operatorname{tr} f(H)`."""

from __future__ import annotations

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.estimators.bases import OrthonormalBasis
from invariant_sharpness.estimators.densities import SpectralDensity
from invariant_sharpness.estimators.gauss_rules import Projection
from invariant_sharpness.estimators.krylov import KrylovSpace
from invariant_sharpness.estimators.lanczos import Eigenpairs
from invariant_sharpness.estimators.products import hessian_vector_products
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.runtime.checkpoints import State, keep, loop_name, resumed
from invariant_sharpness.runtime.memory import room_for_vectors, vectors_within_limit
from invariant_sharpness.runtime.progress import track

_BESIDES = 4
"""For each probe the direction that comes next, and what its product holds."""


def spectral_density(
    oracle: CurvatureOracle,
    *,
    probes: int = 16,
    steps: int = 30,
    seed: int = 0,
    known: Eigenpairs | None = None,
) -> SpectralDensity:
    """The distribution of all eigenvalues of the Hessian, by Lanczos quadrature.

    Cost: ``probes * steps`` Hessian-vector products, in blocks of one step of as many probes as fit into the memory limit.
    Memory: ``steps`` vectors for each of these.
    Source: Lin, Saad and Yang (2016), Ubaru, Chen and Saad (2017), Ghorbani, Krishnan and Xiao (2019).

    Parameters
    ----------
    known
        From :func:`~invariant_sharpness.estimators.lanczos.eigenpairs`. These count without an error, and only the others
        are probed: with the few large eigenvalues of a network most of the error goes, and the skewness of the draws, for
        which intervals from few probes cover too little.

    Raises
    ------
    ValueError
        If there are fewer than 2 probes, no steps, known pairs that have not converged or are all there are, or the
        vectors of one probe do not fit into the memory limit.
    """
    random.require_probes(probes, 2)
    if steps < 1:
        msg = f"steps={steps}, but Lanczos' method takes at least 1"
        raise ValueError(msg)
    size, locked = sum(group.size for group in oracle.groups), _locked(oracle, known)
    if len(locked) >= size:
        msg = f"all {size} eigenvalues are known: there is nothing to probe"
        raise ValueError(msg)
    together = max(1, (vectors_within_limit(oracle) - len(locked)) // (steps + _BESIDES))
    batches = [range(start, min(start + together, probes)) for start in range(0, probes, together)]
    pairs = () if known is None else (*known.largest, *known.smallest)
    return SpectralDensity(
        projections=tuple(p for batch in batches for p in _projections(oracle, locked, batch, steps, seed)),
        known=np.array([pair.value for pair in pairs]),
        size=size,
    )


def schatten_norm(
    oracle: CurvatureOracle,
    p: float,
    *,
    probes: int = 16,
    steps: int = 30,
    seed: int = 0,
    known: Eigenpairs | None = None,
) -> Estimate:
    r"""The norm :math:`(\sum_i |\lambda_i|^p)^{1/p}` of the Hessian: nuclear for p = 1, Frobenius for p = 2.

    Parameters, cost and memory are those of :func:`spectral_density`, which serves for several p.

    Raises
    ------
    ValueError
        As :func:`spectral_density`, or if p is not from 1 to infinity.
    """
    return spectral_density(oracle, probes=probes, steps=steps, seed=seed, known=known).schatten_norm(p)


def _locked(oracle: CurvatureOracle, known: Eigenpairs | None) -> OrthonormalBasis:
    basis = OrthonormalBasis(oracle)
    if known is not None:
        if not known.converged:
            msg = (
                f"known {known}: only eigenpairs that have converged can be taken out, so give eigenpairs more products"
            )
            raise ValueError(msg)
        basis.vectors.extend(pair.vector for pair in (*known.largest, *known.smallest))
    return basis


def _projections(
    oracle: CurvatureOracle, locked: OrthonormalBasis, indices: range, steps: int, seed: int
) -> list[Projection]:
    """Lanczos' method from the probes with these indices, which advance together, outside of what is locked."""
    held = len(locked) + len(indices) * (steps + 1)
    loop = loop_name("Lanczos quadrature", oracle, oracle.parameters, indices, steps, seed, *locked.vectors)
    with room_for_vectors(oracle, held, f"spectral_density(steps={steps})"):
        spaces = _resumed_spaces(oracle, loop, len(indices)) or [
            KrylovSpace(oracle, [locked.split(random.signs(oracle, seed, index))[1]]) for index in indices
        ]
        for _ in track(range(max(map(len, spaces)), steps), "Lanczos quadrature", steps):
            growing = [space for space in spaces if space.block]
            directions = [space.block[0] for space in growing]
            pairs = hessian_vector_products(oracle, directions, len(directions), "a step of all probes")
            for space, (_, product) in zip(growing, pairs, strict=True):
                space.expand([locked.split(product)[1]])
            keep(loop, lambda: _joined(spaces))
    keep(loop, lambda: State(_joined(spaces).arrays))
    return [Projection(space.projected, space.coupling) for space in spaces]


def _joined(spaces: list[KrylovSpace]) -> State:
    """The states of all probes as one, so that all have taken the same steps."""
    states = [space.state() for space in spaces]
    return State(
        {f"{probe} {name}": array for probe, state in enumerate(states) for name, array in state.arrays.items()},
        {f"{probe} {name}": vector for probe, state in enumerate(states) for name, vector in state.vectors.items()},
    )


def _resumed_spaces(oracle: CurvatureOracle, loop: str, probes: int) -> list[KrylovSpace]:
    """The spaces of all probes as they were left, without their vectors if they were complete; none if there are none."""
    joined = resumed(loop)
    if joined is None:
        return []
    return [KrylovSpace.from_state(oracle, _part(joined, f"{probe} ")) for probe in range(probes)]


def _part(joined: State, prefix: str) -> State:
    return State(
        {name.removeprefix(prefix): array for name, array in joined.arrays.items() if name.startswith(prefix)},
        {name.removeprefix(prefix): vector for name, vector in joined.vectors.items() if name.startswith(prefix)},
    )
