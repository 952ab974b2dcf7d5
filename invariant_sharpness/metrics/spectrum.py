"""The whole spectrum of the Hessian, in which Dinh et al. (2017) make as many eigenvalues large as they like."""

from __future__ import annotations

from invariant_sharpness.estimators.spectra.lanczos import eigenpairs
from invariant_sharpness.estimators.spectra.lanczos_quadrature import spectral_density
from invariant_sharpness.estimators.spectra.spectrum import SpectralDensity
from invariant_sharpness.protocol import CurvatureOracle


def hessian_spectrum(
    oracle: CurvatureOracle, *, known: int = 10, probes: int = 8, steps: int = 40, seed: int = 0
) -> SpectralDensity:
    r"""Distribution of all eigenvalues of the Hessian: the largest one by one, and the others by stochastic Lanczos quadrature.

    **Theorem** (Dinh et al. 2017). Let a chain of K layers have a Hessian with r positive eigenvalues, and let layer k have
    :math:`n_k` parameters. For every M there is a rescaling of the layers by :math:`\alpha_k = 1 / \beta` for :math:`k < K` and :math:`\alpha_K = \beta^{K - 1}`, which leaves
    the function alone, after which at least :math:`r - n_K` eigenvalues are larger than M: those of the other layers are multiplied by :math:`\beta^2`.
    What stays is the inertia, the numbers of positive, negative and zero eigenvalues (Sylvester). On ``ish.Scaled(oracle, s)``
    with an equivariant scale the whole spectrum stays.

    Cost: products for ``known`` eigenpairs, and ``probes * steps`` more; ``steps`` vectors in memory for each probe, or for one at a time.
    Sources: Dinh, Pascanu, Bengio and Bengio (2017); Ghorbani, Krishnan and Xiao (2019).

    Parameters
    ----------
    known
        How many of the largest eigenvalues are computed one by one; fewer, if the network has fewer parameters.
    probes, steps
        Of the quadrature.

    Raises
    ------
    ValueError
        If the eigenpairs do not converge, or the vectors do not fit into the memory limit.
    """
    size = sum(group.size for group in oracle.groups)
    pairs = (
        eigenpairs(oracle, largest=min(known, size - 1), smallest=0, seed=seed) if min(known, size - 1) > 0 else None
    )
    return spectral_density(oracle, probes=probes, steps=steps, seed=seed, known=pairs)
