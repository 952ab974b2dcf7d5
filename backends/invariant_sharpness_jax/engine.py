"""The JAX engine: a function of a tree of parameters with a loss, differentiated by compiled programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.batch_losses import of_whole_batches
from invariant_sharpness.adapters.data import Batch, is_per_example, leaves, map_leaves
from invariant_sharpness.adapters.host_engine import EngineDefaults
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup
from invariant_sharpness.protocol import (
    EVERY_CAPABILITY,
    DoublePrecisionOracle,
    OutputFormOracle,
    ResidualDiagonalOracle,
    ResidualProductOracle,
)
from invariant_sharpness_jax.application import Application
from invariant_sharpness_jax.forward import application_to_batches, to_batch
from invariant_sharpness_jax.losses import function_terms
from invariant_sharpness_jax.own_derivatives import check_loss_of_outputs, has_own_derivatives
from invariant_sharpness_jax.point import JaxPoint
from invariant_sharpness_jax.precision import held, model_rounding, rounded
from invariant_sharpness_jax.processes import addressable, placed, spans_processes
from invariant_sharpness_jax.program import Program
from invariant_sharpness_jax.trees import Arrays, Structure, added, arrays_of_form, require_alive


class JaxEngine(EngineDefaults):
    """A function of a tree of parameters, and a loss.

    Every derivative is compiled when it is first asked for, once for each shape of a batch. Arrays keep their sharding.
    A model in half precision computes in half precision, forward and backward; its vectors are in float32, and so are its
    losses, squares, and sums over batches.

    Parameters
    ----------
    apply
        ``(parameters, inputs) -> outputs``, or an :class:`Application`, whose constants are read when a pass begins.
    structure
        The form of the tree, and the names of its leaves, which may be others than those of their paths.
    arrays
        The parameters by name, in the model's own types.
    groups
        Roles and axes of the parameters, in the order of ``structure.names``.
    loss
        The loss of outputs and targets.
    examples
        Whether an example is a row of a batch, or a whole batch.
    """

    name = "JAX"
    xp = jnp
    fixed_shapes = True
    offers = EVERY_CAPABILITY | {
        DoublePrecisionOracle,
        ResidualDiagonalOracle,
        ResidualProductOracle,
        OutputFormOracle,
    }

    def __init__(
        self,
        apply: Callable[..., Any],
        structure: Structure,
        arrays: Arrays,
        groups: tuple[ParameterGroup, ...],
        loss: LossTerms,
        examples: Examples = "rows",
    ) -> None:
        self.apply = apply
        self.groups = groups
        application = apply if isinstance(apply, Application) else Application(apply)
        self._application = application if examples == "rows" else application_to_batches(application)
        self._structure = structure
        self._dtypes = {name: array.dtype for name, array in arrays.items()}
        self._arrays = {name: held(array) for name, array in arrays.items()}
        self._loss = loss if examples == "rows" else of_whole_batches(loss, function_terms)
        self.reduction: Literal["mean", "sum"] = self._loss.reduction
        self.loss_description = loss.description
        self._program = Program(self._application, structure, self._dtypes, self._loss)

    @property
    def eps(self) -> float:
        return model_rounding(self._dtypes)

    @property
    def samples_outputs(self) -> bool:
        return self._loss.samples_outputs

    def in_double_precision(self) -> JaxEngine:
        """The engine of the same function at the parameters in double precision, where JAX is told to have it."""
        arrays = {
            name: placed(np.asarray(addressable(array), dtype=np.float64), array)
            for name, array in self._arrays.items()
        }
        return JaxEngine(self.apply, self._structure, arrays, self.groups, self._loss)

    def parameters(self) -> Arrays:
        return self._arrays

    def from_numpy(self, arrays: HostArrays, /) -> Arrays:
        return {name: placed(np.array(arrays[name], dtype=array.dtype), array) for name, array in self._arrays.items()}

    def to_numpy(self, arrays: Arrays, /) -> dict[str, npt.NDArray[np.float64]]:
        require_alive(arrays)
        return {name: np.array(addressable(array), dtype=np.float64) for name, array in arrays.items()}

    def from_tree(self, tree: Any, /) -> Arrays:
        """Return the arrays of another tree, which has to have this one's form, shapes and types."""
        forms = {name: jax.ShapeDtypeStruct(self._arrays[name].shape, dtype) for name, dtype in self._dtypes.items()}
        return {name: held(array) for name, array in arrays_of_form(tree, self._structure, forms).items()}

    def to_tree(self, arrays: Arrays, /) -> Any:
        """Return a tree of these arrays in the model's own types."""
        return self._structure.tree(rounded(arrays, self._dtypes))

    def batch(self, given: Any, /) -> Batch:
        return to_batch(given, next(iter(self._dtypes.values())))

    def host_rows(self, batch: Batch, /) -> Sequence[npt.NDArray[Any]]:
        return [np.asarray(addressable(leaf)) for leaf in leaves(batch) if is_per_example(leaf, batch.examples)]

    def inspected(self, tree: Any, /) -> Any:
        return map_leaves(_inspected, tree)

    def check_loss(self, outputs: jax.Array, targets: jax.Array, /) -> None:
        self._loss.check(outputs, targets)
        check_loss_of_outputs(self._loss, outputs, targets, self._arrays)

    def may_deceive(self, batch: Batch, /) -> bool:
        """Return whether the model has parts that may have derivatives of the user's own, or none."""
        tree, constants = self.to_tree(self.parameters()), self._application.constants()
        return has_own_derivatives(lambda p: self._application.function(p, batch.inputs, *constants), tree)

    def at(self, parameters: Arrays, /) -> AbstractContextManager[JaxPoint]:
        require_alive(parameters)
        return nullcontext(JaxPoint(self._program, self.groups, parameters, self._application.constants()))

    def add(self, total: Arrays, part: Arrays, /) -> Arrays:
        return added(total, part)

    def divide(self, total: Arrays, weight: float, /) -> Arrays:
        return _divided(total, weight)

    def finite(self, arrays: Arrays, /) -> jax.Array:
        return _are_finite(list(arrays.values()))

    def read(self, tree: Any, /) -> Any:
        return jax.tree.map(_number_or_array, jax.device_get(jax.tree.map(addressable, tree)))


@jax.jit
def _divided(total: Arrays, weight: float) -> Arrays:
    """All in one program: XLA divides several arrays, but multiplies one that is alone by the reciprocal."""
    return jax.tree.map(lambda array: array / weight, total)


@jax.jit
def _are_finite(arrays: list[jax.Array]) -> jax.Array:
    return jnp.array([jnp.all(jnp.isfinite(array)) for array in arrays])


def _inspected(leaf: jax.Array) -> Any:
    """On the host, in a type that NumPy knows; what spans processes stays where it is."""
    known = held(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
    return known if spans_processes(known) else np.asarray(known)


def _number_or_array(leaf: Any) -> Any:
    return np.asarray(leaf, dtype=np.float64) if np.ndim(leaf) else float(leaf)
