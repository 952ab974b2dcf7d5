"""An oracle that counts whatever is asked of it: what `counted_gradients.py` counts, and losses, gradients and Jacobians, too."""

from __future__ import annotations

from typing import Any

from invariant_sharpness.protocol import OneByOneOracle, ResidualDiagonalOracle, supports
from zoo.counted_gradients import PASS, PRODUCT, CountedGradients


class CountedCalls(CountedGradients):
    """The oracle beneath, with ``gradients`` that say what everything together has cost."""

    @property
    def examples(self) -> int:
        return int(self.base.examples)

    def loss(self, *given: Any) -> Any:
        self.gradients += 1 / 3
        return self.base.loss(*given)

    def gradient(self, *given: Any) -> Any:
        self.gradients += 1
        return self.base.gradient(*given)

    def directional_second_moment(self, *given: Any) -> Any:
        self.gradients += PRODUCT
        return self.base.directional_second_moment(*given)

    def _one_by_one(self, names: Any, terms: int) -> float:
        return super()._one_by_one(names, terms) if supports(self.base, OneByOneOracle) else 0.0

    def _per_pass(self) -> float:
        return super()._per_pass() if supports(self.base, ResidualDiagonalOracle) else PASS
