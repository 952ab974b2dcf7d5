"""Keras on JAX: the JAX engine on a stateless call of a Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras

from invariant_sharpness.adapters.data import Batch, WeightedTargets
from invariant_sharpness.adapters.sample_weights import SampleWeighted, without_weights
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.errors import ModelError
from invariant_sharpness.losses import FunctionLoss
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness_jax.application import Application
from invariant_sharpness_jax.engine import JaxEngine
from invariant_sharpness_jax.forward import to_batch
from invariant_sharpness_jax.losses import resolve_loss
from invariant_sharpness_jax.trees import Arrays, Structure
from invariant_sharpness_keras import inference
from invariant_sharpness_keras.batch import host_batch
from invariant_sharpness_keras.losses import Loss
from invariant_sharpness_keras.models import host_values, rounding


class KerasJaxEngine(JaxEngine):
    """A Keras model and a loss on JAX.

    The parameters are a list of the trainable variables, by Keras' own names, so that their order is the model's. All that is not
    measured, such as moving statistics, is an argument of the compiled programs: a model that is trained on is not compiled again.

    Parameters
    ----------
    model, loss
        The model, and the loss of its outputs.
    variables, groups
        The variables that are measured, and their descriptions in the same order.
    examples
        Whether an example is a row of a batch, or a whole batch.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        variables: Sequence[Any],
        groups: tuple[ParameterGroup, ...],
        examples: Examples = "rows",
    ) -> None:
        def function(values: list[jax.Array], inputs: Any, fixed: list[jax.Array]) -> jax.Array:
            outputs = inference.outputs(model, values, fixed, inputs)
            if not isinstance(outputs, jax.Array):
                msg = (
                    f"the model returned a {type(outputs).__name__} instead of one tensor: make a model of the output "
                    f"to measure"
                )
                raise ModelError(msg)
            return outputs

        self._model = model
        self._examples: Examples = examples
        self._variables = variables
        application = Application(function, constants=lambda: (inference.constants(model),))
        values = [variable.value for variable in variables]
        names = [group.name for group in groups]
        structure = Structure(tuple(names), jax.tree.structure(values))
        weighted = loss_terms(loss)
        terms = weighted if examples == "rows" else weighted.loss
        super().__init__(application, structure, dict(zip(names, values, strict=True)), groups, terms, examples)

    @property
    def eps(self) -> float:
        """On JAX, Keras computes in single precision, whatever the variables' type."""
        return max(rounding(self._model), float(jnp.finfo(jnp.float32).eps))

    def parameters(self) -> Arrays:
        """Return copies: where Keras trains or predicts, it gives the buffers of its variables away."""
        pairs = zip(self.groups, self._variables, strict=True)
        return {group.name: jnp.array(variable.value, copy=True) for group, variable in pairs}

    def may_deceive(self, _: Batch, /) -> bool:
        """Return True: what users cut off by ``keras.ops`` cannot be told from what Keras cuts off itself."""
        return True

    def batch(self, given: Any, /) -> Batch:
        dtype = host_values([self._variables[0]])[0].dtype
        host = host_batch(given, dtype, self._examples)
        batch = to_batch(host._replace(targets=without_weights(host.targets)), dtype)
        if isinstance(host.targets, WeightedTargets):
            return batch._replace(targets=WeightedTargets(batch.targets, jnp.asarray(host.targets.weights)))
        return batch


def loss_terms(loss: Loss) -> SampleWeighted:
    """Return the terms of a loss, which may be one of Optax."""
    if isinstance(loss, FunctionLoss) and loss.reduction == "mean":
        return SampleWeighted(resolve_loss(loss.function), jnp)
    return SampleWeighted(resolve_loss(loss), jnp)
