"""An oracle that counts what is asked of it, in gradients, by what `docs/experiments/draw_costs.py` has measured."""

from __future__ import annotations

from typing import Any

from invariant_sharpness.coordinates.forwarding import Forwarding

PRODUCT, PASS, PASS_OF_POSITIONS, DRAW, TEST, SCALES, SQUARES = 2.0, 0.65, 1.5, 0.55, 1.2, 1.3, 1.5
"""A product with the Hessian, a backward pass with squares on vectors and on sequences, a draw at one layer, the affine test, the scales, squared gradients."""

OPERATION = 0.9
"""A draw at one operation, as `docs/experiments/node_draws.py` measures."""

EXAMPLE = 0.3
"""A pass over one example by itself, as measured on an LSTM whose gradient is that of a batch of 50."""


class CountedGradients(Forwarding):
    """The oracle beneath, with ``gradients`` that say what it has cost."""

    def __init__(self, base: Any) -> None:
        self.base: Any = base
        self.gradients = 0.0

    @property
    def parameters(self) -> Any:
        return self.base.parameters

    def hessian_vector_product(self, *given: Any) -> Any:
        self.gradients += PRODUCT
        return self.base.hessian_vector_product(*given)

    def hessian_vector_products(self, parameters: Any, vectors: Any, /) -> Any:
        self.gradients += PRODUCT * len(vectors)
        return self.base.hessian_vector_products(parameters, vectors)

    def gauss_newton_vector_product(self, *given: Any) -> Any:
        self.gradients += PRODUCT
        return self.base.gauss_newton_vector_product(*given)

    def residual_vector_products(self, parameters: Any, vectors: Any, names: Any) -> Any:
        self.gradients += PRODUCT * len(vectors)
        return self.base.residual_vector_products(parameters, vectors, names)

    def gauss_newton_diagonal(self, parameters: Any, names: Any) -> Any:
        self.gradients += self._of_squares(names, self.outputs_per_example)
        return self.base.gauss_newton_diagonal(parameters, names)

    def sampled_gauss_newton_diagonal(self, parameters: Any, names: Any, draws: range, seed: int) -> Any:
        self.gradients += self._of_squares(names, len(draws))
        return self.base.sampled_gauss_newton_diagonal(parameters, names, draws, seed)

    def output_curvature(self, *given: Any) -> Any:
        self.gradients += TEST
        return self.base.output_curvature(*given)

    def block_curvature(self, parameters: Any, direction: Any, names: Any, examples: int, seed: int) -> Any:
        self.gradients += TEST if examples > 1 else EXAMPLE
        return self.base.block_curvature(parameters, direction, names, examples, seed)

    def gradient_second_moment(self, *given: Any) -> Any:
        self.gradients += SQUARES + self._one_by_one(frozenset(group.name for group in self.groups), 1)
        return self.base.gradient_second_moment(*given)

    def layer_units(self, *given: Any) -> Any:
        self.gradients += SCALES
        return self.base.layer_units(*given)

    def residual_diagonal(self, parameters: Any, units: Any) -> Any:
        self.gradients += DRAW * sum(units[name].outputs for name in self._layers(units))
        return self.base.residual_diagonal(parameters, units)

    def sampled_residual_diagonal(self, parameters: Any, units: Any, draws: range, seed: int) -> Any:
        self.gradients += DRAW * len(draws) * len(self._layers(units))
        return self.base.sampled_residual_diagonal(parameters, units, draws, seed)

    def propagated_residual_diagonal(self, parameters: Any, names: Any, draws: range, seed: int) -> Any:
        counts = self.base.node_counts(parameters)
        self.gradients += OPERATION * len(draws) * max(counts[name] for name in names)
        return self.base.propagated_residual_diagonal(parameters, names, draws, seed)

    def _of_squares(self, names: Any, terms: int) -> float:
        return self._per_pass() * terms + self._one_by_one(names, terms)

    def _one_by_one(self, names: Any, terms: int) -> float:
        """Each example has a forward pass, and a backward pass for each term, where layers have no rule."""
        examples = self.base.squared_one_by_one(self.parameters)
        return EXAMPLE * (terms + 1) * max((count for name, count in examples.items() if name in names), default=0)

    def _per_pass(self) -> float:
        units = self.base.layer_units(self.parameters).values()
        return PASS_OF_POSITIONS if any(one.outputs > len(one.scale) for one in units) else PASS

    def _layers(self, units: Any) -> list[str]:
        """One group of each layer: a bias comes with its weight."""
        owners = {group.name: group.owner for group in self.groups}
        return [name for name in units if owners[name] not in units]
