"""The whole spectrum of the Hessian, in which Dinh et al. (2017) make as many eigenvalues large as they like."""

from __future__ import annotations

from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.densities import SpectralDensity
from invariant_sharpness.estimators.lanczos import eigenpairs
from invariant_sharpness.estimators.lanczos_quadrature import spectral_density
from invariant_sharpness.protocol import CurvatureOracle


@renamed(known="num_known")
def hessian_spectrum(
    oracle: CurvatureOracle, *, num_known: int = 10, probes: int = 8, steps: int = 40, seed: int = 0
) -> SpectralDensity:
    r"""Distribution of all eigenvalues of the Hessian: the largest one by one, and the others by stochastic Lanczos quadrature.

    **Theorem** (Dinh et al. 2017). Let a chain of K layers have a Hessian with r positive eigenvalues, and let layer k have
    :math:`n_k` parameters. For every M there is a rescaling of the layers by :math:`\alpha_k = 1 / \beta` for :math:`k < K` and :math:`\alpha_K = \beta^{K - 1}`, which leaves
    the function alone, after which at least :math:`r - n_K` eigenvalues are larger than M: those of the other layers are multiplied by :math:`\beta^2`.
    What stays is the inertia, the numbers of positive, negative and zero eigenvalues (Sylvester). On ``ish.Scaled(oracle, s)``
    with an equivariant scale the whole spectrum stays.

    Cost: products for ``num_known`` eigenpairs, and ``probes * steps`` more; ``steps`` vectors in memory for each probe, or for one at a time.
    Sources: Dinh, Pascanu, Bengio and Bengio (2017); Ghorbani, Krishnan and Xiao (2019).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    num_known
        Number of the largest eigenvalues that are computed one by one; fewer, if the network has fewer parameters.
    probes
        Number of start vectors of the quadrature.
    steps
        Number of Lanczos steps from each start vector, which is that of nodes of its Gauss rule.
    seed
        Seed of the start vectors.

    Returns
    -------
    SpectralDensity
        The known eigenvalues, and the Gauss rules of the others; its methods give density, moments and sums of functions.

    Raises
    ------
    ArgumentError
        If the eigenpairs do not converge, or the vectors do not fit into the memory limit.

    Examples
    --------
    The squared eigenvalues 1 and 4 of diag(1, 2) add up to 5:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> round(ish.hessian_spectrum(oracle).trace_of(lambda eigenvalues: eigenvalues**2).value, 9)
    5.0
    """
    size = sum(group.size for group in oracle.groups)
    largest = min(num_known, size - 1)
    pairs = eigenpairs(oracle, largest=largest, smallest=0, seed=seed) if largest > 0 else None
    return spectral_density(oracle, probes=probes, steps=steps, seed=seed, eigenpairs=pairs)
