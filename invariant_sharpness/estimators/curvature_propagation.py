r"""The diagonal of the Hessian by curvature propagation: that of the Gauss-Newton matrix, and signs at the nonlinear operations of the network.

.. math:: \hat h = \operatorname{diag}(G) + E_n \sum_u (J_{nu}^T w^a_{nu}) \circ (J_{nu}^T w^b_{nu})
"""

from __future__ import annotations

from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.coordinates.gauss_newton import GaussNewton
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal
from invariant_sharpness.estimators.hessian_diagonals import hessian_diagonal
from invariant_sharpness.estimators.layer_draws import of_propagation, propagated_parts
from invariant_sharpness.estimators.parts_of_draws import Parts, added, equal_parts, most_parts
from invariant_sharpness.prng import require_probes
from invariant_sharpness.protocol import CurvatureOracle, NodeCurvatureOracle, require


@checked_numbers
def propagated_diagonal(oracle: CurvatureOracle, *, draws: int = 16, seed: int = 0) -> HessianDiagonal:
    r"""The diagonal :math:`h_i = \partial^2 L / \partial\theta_i^2` of groups above which all operations are known, by curvature propagation.

    .. math:: \hat h = \operatorname{diag}(G) + E_n \sum_u (J_{nu}^T w^a_{nu}) \circ (J_{nu}^T w^b_{nu})

    over the nonlinear operations u above a layer; see :doc:`smooth_networks`. Its error does not grow with the width of a layer or the number of its positions. For the
    diagonal of encoders and convolutions it is smaller than that of :func:`~invariant_sharpness.hessian_diagonal` at the same cost; for the value of (17) of encoders neither is better.

    Invariances: a draw transforms under a rescaling as h does, :math:`h_i \to h_i / d_i^2`.

    Cost: the Gauss-Newton diagonal, and for each draw about 0.9 gradients for each nonlinear operation. Memory: a copy of the groups for each of ten parts, or of four where the network has more than a million parameters.
    Source: Martens, Sutskever and Swersky (2012) for the idea.

    Parameters
    ----------
    oracle
        An oracle that propagates curvature: that of a PyTorch module.
    draws
        Number of draws at every operation, and of samples of the outputs where these are too many for the exact Gauss-Newton diagonal; at least 4.
    seed
        Seed of the signs.

    Returns
    -------
    HessianDiagonal
        The groups of layers that every example passes once, and below which nothing is unknown. ``hessian_diagonal(oracle, diagonal=...)`` adds all others, and every metric of the diagonal takes
        the result as ``diagonal=``.

    Raises
    ------
    MissingCapabilityError
        If the oracle propagates no curvature.
    ArgumentError
        If there are fewer than 4 draws.

    Examples
    --------
    The second derivative of :math:`(\tanh(w_1) w_2)^2` is 2 in the first weight at :math:`w = (0, 1)`, and 0 in the second:

    >>> import torch
    >>> import invariant_sharpness as ish
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1, False), torch.nn.Tanh(), torch.nn.Linear(1, 1, False))
    >>> _ = model.load_state_dict({"0.weight": torch.zeros(1, 1), "2.weight": torch.ones(1, 1)})
    >>> oracle = ish.oracle(model, (torch.ones(1, 1), torch.zeros(1, 1)), loss="mse")
    >>> {name: float(group.values[0, 0]) for name, group in propagated_diagonal(oracle).groups.items()}
    {'0.weight': 2.0, '2.weight': 0.0}
    """
    require_probes(draws, 4)
    able = require(oracle, NodeCurvatureOracle, metric="propagated_diagonal")
    counts, ranges = able.node_counts(oracle.parameters), equal_parts(range(draws), most_parts(oracle))
    names = frozenset(counts)
    if not names:
        return HessianDiagonal({}, draws)
    gauss_newton = _gauss_newton(oracle, names, draws, seed)
    parts = propagated_parts(oracle, counts, ranges, seed)
    sums = {g.name: added(gauss_newton[g.name], parts[g.name]) for g in oracle.groups if g.name in names}
    return HessianDiagonal({name: of_propagation(both) for name, both in sums.items()}, draws)


def _gauss_newton(oracle: CurvatureOracle, names: frozenset[str], draws: int, seed: int) -> dict[str, Parts]:
    """Return the Gauss-Newton diagonals: the exact ones, of shape (1, *shape), or means of samples of the outputs, of shape (parts, *shape)."""
    found = hessian_diagonal(GaussNewton(oracle), parameters=names, probes=draws, seed=seed)
    return {name: group.values[None] if group.parts is None else group.parts for name, group in found.groups.items()}
