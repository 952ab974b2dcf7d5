r"""The whole spectrum by stochastic Lanczos quadrature.

Random signs u have :math:`E[u^T f(H) u] = \operatorname{tr} f(H)` for any function f. A few steps of Lanczos' method from u give a Gauss rule
for the measure that u sees (see :mod:`~invariant_sharpness.estimators.gauss_rules`), whatever f is. All probes take a step together, so
that the data are read once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.bases import OrthonormalBasis
from invariant_sharpness.estimators.densities import SpectralDensity
from invariant_sharpness.estimators.gauss_rules import Projection
from invariant_sharpness.estimators.krylov import KrylovSpace
from invariant_sharpness.estimators.lanczos import Eigenpairs
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT, hessian_vector_products
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.loop import Loop, iterate
from invariant_sharpness.runtime.memory import reserve, vectors_within_limit

_BESIDES = 4
"""For each probe the direction that comes next, and what its product holds."""


@renamed(known="eigenpairs")
@checked_numbers
def spectral_density(
    oracle: CurvatureOracle,
    *,
    probes: int = 16,
    steps: int = 30,
    seed: int = 0,
    eigenpairs: Eigenpairs | None = None,
) -> SpectralDensity:
    r"""The distribution of all eigenvalues of the Hessian, by Lanczos quadrature.

    .. math:: \frac{1}{P} \sum_{i=1}^{P} f(\lambda_i) \approx \frac{1}{m} \sum_{j=1}^{m} \sum_{k} w_{jk} f(\theta_{jk})

    with the nodes and weights of m probes. Its moments of order less than ``2 * steps`` are unbiased.

    Invariances: those of the eigenvalues, which are orthogonal changes of the parameters; on a
    :class:`~invariant_sharpness.Scaled` oracle with an equivariant scale, rescalings too.

    Cost: ``probes * steps`` Hessian-vector products, in blocks of one step of as many probes as fit into the memory limit.
    Memory: ``steps`` vectors for each of these.
    Source: Lin, Saad and Yang (2016), Ubaru, Chen and Saad (2017), Ghorbani, Krishnan and Xiao (2019).

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    probes
        Number of random vectors; their sampling error is that of the result.
    steps
        Lanczos steps from each of them, the number of nodes.
    seed
        Seed of the random vectors.
    eigenpairs
        Eigenpairs from :func:`~invariant_sharpness.estimators.lanczos.eigenpairs`. These count without an error, and only the
        others are probed: with the few large eigenvalues of a network most of the error goes, and the skewness of the
        draws, for which intervals from few probes cover too little.

    Returns
    -------
    SpectralDensity
        Densities, moments, norms and traces of functions, each with its error.

    Raises
    ------
    ArgumentError
        If there are fewer than 2 probes, no steps, known pairs that have not converged or are all there are, or the
        vectors of one probe do not fit into the memory limit.

    Examples
    --------
    Two steps suffice for a matrix of two eigenvalues, whose mean is 2:

    >>> from invariant_sharpness_numpy import quadratic
    >>> density = spectral_density(quadratic([[3.0, 0.0], [0.0, 1.0]], [[1.0, 1.0]]), probes=4, steps=2)
    >>> [round(end, 6) for end in density.support], round(density.moment(1).value, 6)
    ([1.0, 3.0], 2.0)
    """
    random.require_probes(probes, 2)
    if steps < 1:
        msg = f"steps={steps}, but Lanczos' method takes at least 1"
        raise ArgumentError(msg)
    size, locked = sum(group.size for group in oracle.groups), _locked(oracle, eigenpairs)
    if len(locked) >= size:
        msg = f"all {size} eigenvalues are known: there is nothing to probe"
        raise ArgumentError(msg)
    together = max(1, (vectors_within_limit(oracle) - len(locked)) // (steps + _BESIDES))
    batches = [range(start, min(start + together, probes)) for start in range(0, probes, together)]
    pairs = () if eigenpairs is None else (*eigenpairs.largest, *eigenpairs.smallest)
    return SpectralDensity(
        projections=tuple(p for batch in batches for p in _projections(oracle, locked, batch, steps, seed)),
        known=np.array([pair.value for pair in pairs]),
        size=size,
    )


@renamed(known="eigenpairs")
@checked_numbers
def schatten_norm(
    oracle: CurvatureOracle,
    p: float,
    *,
    probes: int = 16,
    steps: int = 30,
    seed: int = 0,
    eigenpairs: Eigenpairs | None = None,
) -> Estimate:
    r"""The norm :math:`(\sum_i |\lambda_i|^p)^{1/p}` of the Hessian: nuclear for p = 1, Frobenius for p = 2.

    Cost and memory are those of :func:`spectral_density`, which serves for several p, and so are the invariances.
    Source: Ubaru, Chen and Saad (2017).

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    p
        The order of the norm, at least 1 and finite.
    probes
        Number of random vectors.
    steps
        Lanczos steps from each of them.
    seed
        Seed of the random vectors.
    eigenpairs
        Eigenpairs that count without an error.

    Returns
    -------
    Estimate
        The norm, with a standard error to first order and the bracket of the quadrature.

    Raises
    ------
    ArgumentError
        As :func:`spectral_density`, or if p is not from 1 to infinity.

    Examples
    --------
    The eigenvalues 3 and -1 have the nuclear norm 4:

    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic([[3.0, 0.0], [0.0, -1.0]], [[1.0, 1.0]])
    >>> round(schatten_norm(oracle, 1, probes=4, steps=2).value, 6)
    4.0
    """
    return spectral_density(oracle, probes=probes, steps=steps, seed=seed, eigenpairs=eigenpairs).schatten_norm(p)


def _locked(oracle: CurvatureOracle, known: Eigenpairs | None) -> OrthonormalBasis:
    basis = OrthonormalBasis(oracle)
    if known is not None:
        if not known.converged:
            msg = f"eigenpairs={known}: only eigenpairs that have converged can be taken out, so give eigenpairs more products"
            raise ArgumentError(msg)
        basis.vectors.extend(pair.vector for pair in (*known.largest, *known.smallest))
    return basis


def _projections(
    oracle: CurvatureOracle, locked: OrthonormalBasis, indices: range, steps: int, seed: int
) -> list[Projection]:
    """Lanczos' method from the probes with these indices, which advance together, outside of what is locked."""
    reserved = len(locked) + len(indices) * (steps + 1)
    settings = (indices, steps, seed, *locked.vectors)
    gradients = GRADIENTS_PER_PRODUCT * len(indices)
    with reserve(oracle, reserved, f"spectral_density(steps={steps})"):
        loop = Loop("Lanczos quadrature", oracle, settings, total=steps, gradients=gradients)
        starts = ([locked.split(random.signs(oracle, seed, index))[1]] for index in indices)
        start = _Probes([KrylovSpace(oracle, vectors) for vectors in starts], steps)
        spaces = iterate(lambda probes: _advanced(probes, locked), start, loop).spaces
    return [Projection(space.projected, space.coupling) for space in spaces]


@dataclass(frozen=True, slots=True)
class _Probes:
    """The spaces of some probes, all of which have taken the same steps."""

    spaces: list[KrylovSpace]
    steps: int

    @property
    def done(self) -> int:
        return max(space.done for space in self.spaces)

    def save(self) -> Snapshot:
        """Write down all spaces; without their vectors if they are complete."""
        saved = [space.save() for space in self.spaces]
        complete = self.done == self.steps or not any(space.block for space in self.spaces)
        vectors = {f"{n} {name}": v for n, one in enumerate(saved) for name, v in one.vectors.items()}
        arrays = {f"{n} {name}": array for n, one in enumerate(saved) for name, array in one.arrays.items()}
        return Snapshot(arrays, {} if complete else vectors)

    def restored(self, saved: Snapshot) -> _Probes:
        return _Probes([space.restored(_part(saved, f"{n} ")) for n, space in enumerate(self.spaces)], self.steps)


def _part(joined: Snapshot, prefix: str) -> Snapshot:
    return Snapshot(
        {name.removeprefix(prefix): array for name, array in joined.arrays.items() if name.startswith(prefix)},
        {name.removeprefix(prefix): vector for name, vector in joined.vectors.items() if name.startswith(prefix)},
    )


def _advanced(probes: _Probes, locked: OrthonormalBasis) -> _Probes | None:
    """One step of all probes that find new directions; None if there are none."""
    growing = [space for space in probes.spaces if space.block]
    if not growing:
        return None
    pairs = hessian_vector_products(growing[0].oracle, [space.block[0] for space in growing])
    for space, (_, product) in zip(growing, pairs, strict=True):
        space.expand([locked.split(product)[1]])
    return probes
