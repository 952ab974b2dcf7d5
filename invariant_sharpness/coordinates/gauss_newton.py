"""The Gauss-Newton matrix in the place of the Hessian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from invariant_sharpness.coordinates.forwarding import Forwarding
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonOracle,
    LayerUnits,
    OutputForm,
    SubsetOracle,
    require,
)


class GaussNewton(Forwarding):
    r"""The same loss, with :math:`G = E_n[J_n^T \Lambda_n J_n]` as its second derivative.

    Every metric of the Hessian becomes one of G, which is a **different quantity** where the outputs are not affine in the
    parameters: :math:`H = G + E_n[\sum_k \partial \ell_n / \partial z_{nk} \nabla^2 z_{nk}]`. The two agree where the residuals vanish,
    as they nearly do for a network that fits its data. For cross-entropy G is the Fisher information matrix.

    G transforms under a rescaling as H does, so all invariances stay. Its diagonal is exact for every group, and never
    negative for a convex loss: where probes of the Hessian's diagonal drown in noise, as in transformers, normalized sharpness
    of G has no such bias.

    Parameters
    ----------
    base
        An oracle with Gauss-Newton products (:class:`invariant_sharpness.protocol.GaussNewtonOracle`).

    Raises
    ------
    MissingCapabilityError
        If it has none.

    Notes
    -----
    Cost: a product with G costs about two gradients. Source: Schraudolph (2002).

    Examples
    --------
    A linear model has affine outputs, so that its Gauss-Newton matrix is its Hessian: for half of 2 (w x)^2 with x = 3 it is 18.

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> linear = NetworkOracle(ReluNetwork([np.array([[1.0]])]), np.array([[3.0]]), np.array([[0.0]]), loss="mse")
    >>> ish.hessian_trace(GaussNewton(linear)).value, ish.hessian_trace(linear).value
    (18.0, 18.0)
    """

    def __init__(self, base: CurvatureOracle) -> None:
        self.base = base
        self._products = require(base, GaussNewtonOracle, metric="GaussNewton")

    @property
    def parameters(self) -> ParameterVector:
        return self.base.parameters

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self._products.gauss_newton_vector_product(parameters, vector)

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        return [self.hessian_vector_product(parameters, vector) for vector in vectors]

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        """Count the outputs as affine in every entry, which is what makes the Gauss-Newton matrix out of the Hessian.

        Nothing has to be tested, so no slope is computed: it counts as one.
        """
        slopes = parameters.map(self.xp.ones_like)
        return slopes, slopes.only([])

    def block_curvature(
        self,
        parameters: ParameterVector,
        direction: ParameterVector,
        /,
        names: frozenset[str],
        examples: int,
        seed: int,
    ) -> tuple[ParameterVector, ParameterVector]:
        slopes, zero = self.output_curvature(parameters, direction, seed)
        return slopes.only(names), zero

    def output_form(self, parameters: ParameterVector, /) -> OutputForm:
        """Count the outputs as affine in every group."""
        return OutputForm(by_definition=True)

    def layer_units(self, parameters: ParameterVector, /) -> Mapping[str, LayerUnits]:
        """Return nothing: there is no residual part beside the Gauss-Newton matrix."""
        return {}

    def residual_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /, names: frozenset[str]
    ) -> list[ParameterVector]:
        """Return zeros: there is no residual part beside the Gauss-Newton matrix."""
        return [vector.only([]) for vector in vectors]

    def node_counts(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        """Return nothing: there is no residual part beside the Gauss-Newton matrix."""
        return {}

    def subset(self, examples: Sequence[int], /) -> GaussNewton:
        return GaussNewton(self._able(SubsetOracle).subset(examples))


def is_gauss_newton(oracle: CurvatureOracle) -> bool:
    """Whether the second derivative of an oracle is the Gauss-Newton matrix, in whatever coordinates."""
    while not isinstance(oracle, GaussNewton):
        if not isinstance(oracle, Forwarding):
            return False
        oracle = oracle.base
    return True
