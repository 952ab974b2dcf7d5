"""From an oracle to numbers with errors: traces, diagonals and spectra of the Hessian from products with it.

Every estimator takes an oracle and keyword arguments of the same names: ``num_matvecs`` is a number of Hessian-vector products,
``probes`` one of random vectors, ``draws`` one of samples, ``max_iterations`` a bound, and ``seed`` says which random numbers.
"""

from __future__ import annotations

from invariant_sharpness.estimators.densities import SpectralCurve, SpectralDensity
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal
from invariant_sharpness.estimators.hessian_diagonals import hessian_diagonal
from invariant_sharpness.estimators.hutchinson import hutch_plus_plus_trace, hutchinson_trace
from invariant_sharpness.estimators.lanczos import Eigenpair, Eigenpairs, eigenpairs
from invariant_sharpness.estimators.lanczos_quadrature import schatten_norm, spectral_density
from invariant_sharpness.estimators.leave_one_out_diagonal import xdiag
from invariant_sharpness.estimators.leave_one_out_trace import xtrace
from invariant_sharpness.estimators.lipschitz import hessian_lipschitz_of_diagonal, hessian_lipschitz_of_operator
from invariant_sharpness.estimators.target_error import hutchinson_trace_within
from invariant_sharpness.estimators.warm_starts import WarmStart

__all__ = [
    "Eigenpair",
    "Eigenpairs",
    "GroupDiagonal",
    "HessianDiagonal",
    "SpectralCurve",
    "SpectralDensity",
    "WarmStart",
    "eigenpairs",
    "hessian_diagonal",
    "hessian_lipschitz_of_diagonal",
    "hessian_lipschitz_of_operator",
    "hutch_plus_plus_trace",
    "hutchinson_trace",
    "hutchinson_trace_within",
    "schatten_norm",
    "spectral_density",
    "xdiag",
    "xtrace",
]
