"""The loss as a function of some of the parameters alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from invariant_sharpness.coordinates.forwarding import Forwarding
from invariant_sharpness.parameters.patterns import matching_names
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    BlockCurvatureOracle,
    BlockProductOracle,
    CurvatureOracle,
    ExampleGradientOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    HessianOperator,
    HessianOperatorOracle,
    HostArrays,
    JacobianOracle,
    LayerUnits,
    NodeCurvatureOracle,
    OneByOneOracle,
    OutputForm,
    OutputFormOracle,
    ParameterGroup,
    ResidualDiagonalOracle,
    ResidualProductOracle,
    Rows,
    SampledGaussNewtonOracle,
    SubsetOracle,
)


class Restricted(Forwarding):
    r"""The loss as a function of some parameter groups, while all others stay where they are.

    With the groups B that are kept, the gradient is :math:`g_B`, the Hessian its diagonal block :math:`H_{BB}` and the Jacobian :math:`J_B`.
    So every metric of a restricted oracle is that of the block: the trace of one layer, the sharpness of an encoder, the largest
    eigenvalue of the last layer.

    A restricted oracle is an oracle, and it can do what the oracle beneath it can. Cost: that of the oracle beneath, whose products run over
    all parameters; what is drawn and stored is as small as the groups that are kept.

    Parameters
    ----------
    base
        The oracle of all parameters.
    names
        Which groups: a name or a pattern, or several of them. In a pattern ``*`` stands for any characters, ``?`` for one and ``[ab]``
        for one of these; a group that bears the very name is taken as it is.

    Raises
    ------
    ModelError
        If a name or a pattern matches no group; lists the names that there are.

    Notes
    -----
    Invariances: those of the metric, under rescalings whose units all lie within the groups that are kept. A rescaling of a unit that moves a
    parameter which is left out takes the oracle to another function of the groups.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import FunctionOracle
    >>> oracle = FunctionOracle(
    ...     {"encoder.weight": [[1.0]], "head.weight": [[2.0]]},
    ...     loss=lambda p: float((3 * p["encoder.weight"] ** 2 + p["encoder.weight"] * p["head.weight"]).sum()),
    ...     gradient=lambda p: {
    ...         "encoder.weight": 6 * p["encoder.weight"] + p["head.weight"], "head.weight": p["encoder.weight"]
    ...     },
    ...     hessian_vector_product=lambda p, v: {
    ...         "encoder.weight": 6 * v["encoder.weight"] + v["head.weight"], "head.weight": v["encoder.weight"]
    ...     },
    ... )
    >>> ish.hessian_trace(Restricted(oracle, "encoder.*")).value
    6.0
    """

    def __init__(self, base: CurvatureOracle, names: str | Iterable[str]) -> None:
        self.base = base
        self.names = matching_names([group.name for group in base.groups], names)
        self._parameters = self._kept(base.parameters)

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        return tuple(group for group in self.base.groups if group.name in self.names)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the groups that stay where they are."""
        left = (group.name for group in self.base.groups if group.name not in self.names)
        return (*super().left_out, *left)

    @property
    def parameters(self) -> ParameterVector:
        return self._parameters

    def loss(self, parameters: ParameterVector, /) -> float:
        return self.base.loss(self._point(parameters))

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        return self._kept(self.base.gradient(self._point(parameters)))

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        return self._kept(self.base.hessian_vector_product(self._point(parameters), self._extended(vector)))

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        base, extended = self._able(BlockProductOracle), self._all_extended(vectors)
        return [self._kept(product) for product in base.hessian_vector_products(self._point(parameters), extended)]

    def hessian_operator(self, parameters: ParameterVector, /) -> HessianOperator:
        multiply = self._able(HessianOperatorOracle).hessian_operator(self._point(parameters))

        def products(vectors: Sequence[ParameterVector]) -> list[ParameterVector]:
            return [self._kept(product) for product in multiply(self._all_extended(vectors))]

        return products

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        zeros = {group.name: np.zeros(group.shape) for group in self.base.groups if group.name not in self.names}
        return self._kept(self.base.from_numpy({**zeros, **arrays}))

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        base = self._able(GaussNewtonDiagonalOracle)
        return self._kept(base.gauss_newton_diagonal(self._point(parameters), names))

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        base = self._able(GaussNewtonDiagonalOracle)
        first, second = base.output_curvature(self._point(parameters), self._extended(direction), seed)
        return self._kept(first), self._kept(second)

    def block_curvature(
        self,
        parameters: ParameterVector,
        direction: ParameterVector,
        /,
        names: frozenset[str],
        examples: int,
        seed: int,
    ) -> tuple[ParameterVector, ParameterVector]:
        base, along = self._able(BlockCurvatureOracle), self._extended(direction)
        first, second = base.block_curvature(self._point(parameters), along, names, examples, seed)
        return self._kept(first), self._kept(second)

    def output_form(self, parameters: ParameterVector, /) -> OutputForm:
        form = self._able(OutputFormOracle).output_form(self._point(parameters))
        kept = frozenset(self.names)
        return form._replace(curved=form.curved & kept, unknown=form.unknown & kept)

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        base = self._able(SampledGaussNewtonOracle)
        return self._kept(base.sampled_gauss_newton_diagonal(self._point(parameters), names, draws, seed))

    def layer_units(self, parameters: ParameterVector, /) -> Mapping[str, LayerUnits]:
        units = self._able(ResidualDiagonalOracle).layer_units(self._point(parameters))
        return {name: of_layer for name, of_layer in units.items() if name in self.names}

    def residual_diagonal(self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits]) -> ParameterVector:
        return self._kept(self._able(ResidualDiagonalOracle).residual_diagonal(self._point(parameters), units))

    def sampled_residual_diagonal(
        self, parameters: ParameterVector, /, units: Mapping[str, LayerUnits], draws: range, seed: int
    ) -> ParameterVector:
        base = self._able(ResidualDiagonalOracle)
        return self._kept(base.sampled_residual_diagonal(self._point(parameters), units, draws, seed))

    def residual_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /, names: frozenset[str]
    ) -> list[ParameterVector]:
        base, extended = self._able(ResidualProductOracle), self._all_extended(vectors)
        products = base.residual_vector_products(self._point(parameters), extended, names)
        return [self._kept(product) for product in products]

    def squared_one_by_one(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        examples = self._able(OneByOneOracle).squared_one_by_one(self._point(parameters))
        return {name: count for name, count in examples.items() if name in self.names}

    def node_counts(self, parameters: ParameterVector, /) -> Mapping[str, int]:
        counts = self._able(NodeCurvatureOracle).node_counts(self._point(parameters))
        return {name: count for name, count in counts.items() if name in self.names}

    def propagated_residual_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        base = self._able(NodeCurvatureOracle)
        return self._kept(base.propagated_residual_diagonal(self._point(parameters), names, draws, seed))

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        base = self._able(GaussNewtonOracle)
        return self._kept(base.gauss_newton_vector_product(self._point(parameters), self._extended(vector)))

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        return self._able(JacobianOracle).outputs(self._point(parameters), examples)

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        base = self._able(JacobianOracle)
        return base.jacobian_vector_product(self._point(parameters), self._extended(vector), examples)

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        base = self._able(JacobianOracle)
        return self._kept(base.vector_jacobian_product(self._point(parameters), cotangents))

    def subset(self, examples: Sequence[int], /) -> Restricted:
        return Restricted(self._able(SubsetOracle).subset(examples), self.names)

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        return self._kept(self._able(ExampleGradientOracle).gradient_second_moment(self._point(parameters)))

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        base = self._able(ExampleGradientOracle)
        return base.directional_second_moment(self._point(parameters), self._extended(direction))

    def _kept(self, vector: ParameterVector) -> ParameterVector:
        """Take the arrays of the groups that are kept."""
        return ParameterVector(vector.xp, {name: vector[name] for name in self.names})

    def _extended(self, vector: ParameterVector) -> ParameterVector:
        """Put zeros in all other groups."""
        return self._all_extended([vector])[0]

    def _all_extended(self, vectors: Sequence[ParameterVector]) -> list[ParameterVector]:
        """Put zeros in all other groups, which the vectors share."""
        still = self.base.parameters.only(self.names)
        return [replace(still, arrays={**still.arrays, **vector.arrays}) for vector in vectors]

    def _point(self, parameters: ParameterVector) -> ParameterVector:
        """Put the model's own parameters in all other groups."""
        if parameters is self._parameters:
            return self.base.parameters
        return ParameterVector(parameters.xp, {**self.base.parameters.arrays, **parameters.arrays})
