"""Where parameters meet activations in a model's program: matrix products, convolutions, sums and products with them.

The model's own computation is read off its jaxpr, so this works for any library of layers, and for none. A parameter has a
site if it is used once, in an operation with a row for each example; all others are left to the general path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jax.extend.core import Literal as Constant

from invariant_sharpness.adapters.data import batch_size, is_per_example, map_leaves
from invariant_sharpness_jax.trees import Arrays

Outputs = Callable[[Arrays, Any], jax.Array]
Operation = Literal["dot_general", "conv_general_dilated", "sum", "product"]

_REARRANGING = {"reshape", "transpose", "squeeze", "copy", "copy_p"}
_SPREADING = {"broadcast_in_dim"}
_AFFINE = {"add", "add_any", "sub", "mul"}
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}
_ELEMENTWISE: dict[str, Operation] = {"add": "sum", "add_any": "sum", "sub": "sum", "mul": "product"}


class Known(NamedTuple):
    """A value that no parameter of interest is in, or one that it is not followed through; ``moving`` if it depends on the examples."""

    value: Any
    moving: bool


class Derived(NamedTuple):
    """A value that is an affine function of one parameter alone, and whether it has the same entries in another layout.

    The path is that function without its changes of type: squares take it back in the type of the parameter.
    """

    name: str
    value: Any
    path: Callable[[jax.Array], jax.Array]
    rearranged: bool


Value = Known | Derived


@dataclass(frozen=True, slots=True)
class Site:
    """One operation on activations and a parameter.

    Parameters
    ----------
    name
        Of the parameter.
    operation
        What is done.
    options
        The parameters of the primitive.
    path
        From the parameter to the operand.
    operand
        Shape of that operand.
    output
        Shape and dtype of the result.
    axis
        The axis of the result that counts examples; that of the activations is the first.
    """

    name: str
    operation: Operation
    options: dict[str, Any]
    path: Callable[[jax.Array], jax.Array]
    operand: tuple[int, ...]
    output: jax.ShapeDtypeStruct
    axis: int


class Tapped(NamedTuple):
    """A model whose sites have been opened.

    Parameters
    ----------
    outputs
        Of the model.
    sites
        One for each parameter that has one.
    activations
        What meets the parameter at each site.
    pullback
        From cotangents of the outputs to those of the results of all sites.
    """

    outputs: jax.Array
    sites: list[Site]
    activations: list[jax.Array]
    pullback: Callable[[jax.Array], list[jax.Array]]


def tapped(outputs: Outputs, arrays: Arrays, inputs: Any) -> Tapped:
    """Run the model and open the sites of the parameters, of those that have one. Cost: a forward pass."""
    surveyed, names = _survey(outputs, arrays, inputs)
    taps = [jnp.zeros(s.output.shape, s.output.dtype) for s in surveyed.sites if s.name in names]
    opened: list[_Walk] = []

    def run(taps: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        opened.append(_walk(outputs, arrays, inputs, names, taps))
        return opened[0].outputs[0], opened[0].activations

    value, pullback, activations = jax.vjp(run, taps, has_aux=True)
    return Tapped(
        value, opened[0].sites, activations, lambda cotangent: cast("list[jax.Array]", pullback(cotangent)[0])
    )


def _survey(outputs: Outputs, arrays: Arrays, inputs: Any) -> tuple[_Walk, frozenset[str]]:
    """What sites there are, and of which parameters they can be used. Nothing is computed.

    An axis that happens to be as long as the batch does not grow with it: the survey is made twice, once with one more example.
    """
    found: list[_Walk] = []

    def walk(values: Arrays, rows: Any) -> None:
        found.append(_walk(outputs, values, rows, frozenset(arrays), None))

    size = batch_size(inputs)
    jax.eval_shape(walk, arrays, inputs)
    longer = map_leaves(lambda leaf: _one_more(leaf) if is_per_example(leaf, size) else leaf, inputs)
    try:
        jax.eval_shape(walk, arrays, longer)
    except (TypeError, ValueError):  # a model for batches of one size
        return found[0], frozenset()
    return found[0], found[0].usable & found[1].usable


def _one_more(rows: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((len(rows) + 1, *rows.shape[1:]), rows.dtype)


def _walk(
    outputs: Outputs, arrays: Arrays, inputs: Any, names: frozenset[str], taps: Sequence[jax.Array] | None
) -> _Walk:
    """Run the model and follow the named parameters; with taps, add them to the results of the sites."""
    closed = jax.make_jaxpr(outputs)(arrays, inputs)
    own = [
        Derived(name, arrays[name], lambda values: values, rearranged=True)
        if name in names
        else Known(arrays[name], moving=False)
        for name in sorted(arrays)
    ]
    moving = [Known(leaf, moving=True) for leaf in jax.tree.leaves(inputs)]
    found = _Walk(batch_size(inputs), taps)
    found.outputs = [found.plain(value) for value in found.run(closed, [*own, *moving])]
    return found


@dataclass
class _Walk:
    """One run through a jaxpr, equation by equation."""

    examples: int
    taps: Sequence[jax.Array] | None
    sites: list[Site] = field(default_factory=list)
    activations: list[jax.Array] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    outputs: list[Any] = field(default_factory=list)

    @property
    def usable(self) -> frozenset[str]:
        """Parameters with exactly one site, and no other use."""
        names = [site.name for site in self.sites]
        return frozenset(name for name in names if names.count(name) == 1 and name not in self.lost)

    def run(self, closed: ClosedJaxpr, arguments: Sequence[Value]) -> list[Value]:
        values: dict[Any, Value] = dict(zip(closed.jaxpr.invars, arguments, strict=True))
        values |= {v: Known(c, moving=False) for v, c in zip(closed.jaxpr.constvars, closed.consts, strict=True)}

        def read(atom: Any) -> Value:
            return Known(atom.val, moving=False) if isinstance(atom, Constant) else values[atom]

        for equation in closed.jaxpr.eqns:
            results = self._apply(equation, [read(atom) for atom in equation.invars])
            values |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in closed.jaxpr.outvars]

    def plain(self, value: Value) -> Any:
        """The array alone; a parameter that gets here is followed no further."""
        if isinstance(value, Derived):
            self.lost.add(value.name)
        return value.value

    def _apply(self, equation: Any, operands: list[Value]) -> list[Value]:
        derived = [operand for operand in operands if isinstance(operand, Derived)]
        if not derived:
            return self._bound(equation, operands)
        name = equation.primitive.name
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            return self.run(inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), operands)
        if len(derived) == 1 and (found := self._derived(equation, operands) or self._site(equation, operands)):
            return [found]
        return self._bound(equation, operands)

    def _bound(self, equation: Any, operands: list[Value]) -> list[Value]:
        moving = any(isinstance(operand, Derived) or operand.moving for operand in operands)
        results = _bind(equation, [self.plain(operand) for operand in operands])
        return [Known(result, moving) for result in results]

    def _derived(self, equation: Any, operands: list[Value]) -> Derived | None:
        """The parameter in another layout, spread out, or with a constant added or multiplied."""
        name = equation.primitive.name
        (position,) = [n for n, operand in enumerate(operands) if isinstance(operand, Derived)]
        own = cast(Derived, operands[position])
        others = [operand for operand in operands if isinstance(operand, Known)]
        if name == "convert_element_type" and jnp.issubdtype(equation.params["new_dtype"], jnp.floating):
            return own._replace(value=_bind(equation, [own.value])[0])
        rearranged = name in _REARRANGING and not others
        affine = name in _AFFINE or (name in _SPREADING and not others)
        if not (rearranged or affine) or any(other.moving for other in others):
            return None

        def step(value: Any) -> Any:
            return _bind(equation, [value if n == position else _like(o.value, value) for n, o in enumerate(operands)])[
                0
            ]

        def path(values: jax.Array) -> Any:
            return step(own.path(values))

        return Derived(own.name, step(own.value), path, own.rearranged and rearranged)

    def _site(self, equation: Any, operands: list[Value]) -> Known | None:
        """An operation with activations that have a row for each example."""
        if len(operands) != 2:
            return None
        own = next(operand for operand in operands if isinstance(operand, Derived))
        other = next(operand for operand in operands if isinstance(operand, Known))
        rule = _rule(equation, own, parameter_first=operands[0] is own)
        if rule is None or not other.moving or other.value.shape[:1] != (self.examples,):
            return None
        operation, axis = rule
        (result,) = _bind(equation, [operand.value for operand in operands])
        if result.shape[axis] != self.examples:
            return None
        output = jax.ShapeDtypeStruct(result.shape, result.dtype)
        if self.taps is not None:
            result = result + self.taps[len(self.sites)]
        self.sites.append(Site(own.name, operation, equation.params, own.path, own.value.shape, output, axis))
        self.activations.append(other.value)
        return Known(result, moving=True)


def _rule(equation: Any, own: Derived, *, parameter_first: bool) -> tuple[Operation, int] | None:
    """The operation, if there is a rule for it, and where its result counts the examples."""
    name = equation.primitive.name
    if name in _ELEMENTWISE and own.value.shape[:1] in ((), (1,)):
        return _ELEMENTWISE[name], 0
    if not own.rearranged:
        return None
    if name == "dot_general":
        contracted, batch = equation.params["dimension_numbers"]
        free = len(own.value.shape) - len(contracted[0]) if parameter_first else 0
        return None if batch[0] or 0 in contracted[parameter_first] else ("dot_general", free)
    if name == "conv_general_dilated" and not parameter_first:
        numbers = equation.params["dimension_numbers"]
        plain = equation.params["batch_group_count"] == 1 and numbers.lhs_spec[0] == numbers.out_spec[0] == 0
        return ("conv_general_dilated", 0) if plain else None
    return None


def _like(constant: Any, value: Any) -> Any:
    """The constant in the type of the value."""
    return jnp.asarray(constant, dtype=value.dtype)


def _bind(equation: Any, operands: list[Any]) -> list[Any]:
    """Evaluate one equation."""
    primitive = equation.primitive
    results = primitive.bind(*operands, **primitive.get_bind_params(equation.params))
    return list(results) if primitive.multiple_results else [results]
