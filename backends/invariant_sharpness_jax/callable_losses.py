"""A user's function of JAX arrays as a loss, which is traced when an oracle is built: what cannot be differentiated is named then."""

from __future__ import annotations

from typing import Any

import jax

from invariant_sharpness.adapters.data import take
from invariant_sharpness.adapters.loss_terms import FunctionTerms
from invariant_sharpness.errors import InvariantSharpnessError, LossError


class CallableTerms(FunctionTerms):
    """The terms of a function, whose second derivative is looked for when an oracle is built."""

    def check(self, outputs: jax.Array, targets: Any, /) -> None:
        """Raise unless the function has one loss for each example, and two derivatives in the outputs.

        Raises
        ------
        LossError
            Says what it returned, or what JAX cannot trace or differentiate.
        """
        super().check(outputs, targets)
        if "is_traced" in vars(self):
            return
        try:
            jax.eval_shape(lambda z, y: self.row_hessian(self.loss.function, z, y), *take((outputs, targets), 0, 1))
        except InvariantSharpnessError:
            raise
        except (TypeError, ValueError, NotImplementedError) as error:
            msg = (
                f"JAX cannot differentiate loss {self.name!r} twice: {type(error).__name__}: {error}. Write it in jax.numpy, without "
                f"float(), .item() or numpy, for any number of examples"
            )
            raise LossError(msg) from error
        vars(self)["is_traced"] = True
