"""A run through a model's program, equation by equation, that follows parameters to where they meet activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jax.extend.core import Literal as Constant

from invariant_sharpness_jax.sites import Site, Source, rule

_REARRANGING = {"reshape", "transpose", "squeeze", "copy", "copy_p"}
_SPREADING = {"broadcast_in_dim"}
_SELECTING = {"slice", "dynamic_slice", "gather"}
_AFFINE = {"add", "add_any", "sub", "mul"}
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}


class Known(NamedTuple):
    """A value that no parameter of interest is in, or one that it is not followed through.

    Parameters
    ----------
    value
        The array.
    moving
        Whether it depends on the examples.
    source
        The site whose result it is, in another layout.
    """

    value: Any
    moving: bool
    source: Source | None = None


class Derived(NamedTuple):
    """A value that is an affine function of one parameter alone, and whether it has the same entries in another layout.

    The path is that function without its changes of type: squares take it back in the type of the parameter.
    """

    name: str
    value: Any
    path: Callable[[jax.Array], jax.Array]
    rearranged: bool


Value = Known | Derived


@dataclass
class Walk:
    """One run through a jaxpr.

    Parameters
    ----------
    examples
        How many there are.
    taps
        What is added to the results of the sites of these parameters, in the shape (examples, positions, output units).
    sites, activations, results
        What has been found, in the order of the program.
    lost
        Parameters that are used in another way.
    uses
        How often the result of a site is used, by the name of its parameter.
    outputs
        Of the program.
    """

    examples: int
    taps: Mapping[str, jax.Array]
    sites: list[Site] = field(default_factory=list)
    activations: list[jax.Array] = field(default_factory=list)
    results: list[jax.Array] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    uses: Counter[str] = field(default_factory=Counter)
    outputs: list[Any] = field(default_factory=list)

    @property
    def usable(self) -> frozenset[str]:
        """Parameters with exactly one site, and no other use."""
        names = [site.name for site in self.sites]
        return frozenset(name for name in names if names.count(name) == 1 and name not in self.lost)

    def through(self, closed: ClosedJaxpr, arguments: Sequence[Value]) -> Walk:
        """Run the whole program."""
        self.outputs = [self._plain(value) for value in self._run(closed, arguments)]
        return self

    def _run(self, closed: ClosedJaxpr, arguments: Sequence[Value]) -> list[Value]:
        values: dict[Any, Value] = dict(zip(closed.jaxpr.invars, arguments, strict=True))
        values |= {v: Known(c, moving=False) for v, c in zip(closed.jaxpr.constvars, closed.consts, strict=True)}

        def read(atom: Any) -> Value:
            return Known(atom.val, moving=False) if isinstance(atom, Constant) else values[atom]

        for equation in closed.jaxpr.eqns:
            results = self._apply(equation, [read(atom) for atom in equation.invars])
            values |= dict(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in closed.jaxpr.outvars]

    def _plain(self, value: Value) -> Any:
        """The array alone; a parameter, or the result of a site, that gets here is followed no further."""
        if isinstance(value, Derived):
            self.lost.add(value.name)
        elif value.source is not None:
            self.uses[value.source.name] += 1
        return value.value

    def _apply(self, equation: Any, operands: list[Value]) -> list[Value]:
        derived = [operand for operand in operands if isinstance(operand, Derived)]
        if not derived:
            return self._moved(equation, operands) or self._bound(equation, operands)
        name = equation.primitive.name
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            return self._run(inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), operands)
        if len(derived) == 1 and (found := self._derived(equation, operands) or self._site(equation, operands)):
            return [found]
        return self._bound(equation, operands)

    def _bound(self, equation: Any, operands: list[Value]) -> list[Value]:
        moving = any(isinstance(operand, Known) and operand.moving for operand in operands)
        results = _bind(equation, [self._plain(operand) for operand in operands])
        return [Known(result, moving) for result in results]

    def _moved(self, equation: Any, operands: list[Value]) -> list[Value]:
        """The result of a site in another layout or type."""
        name = equation.primitive.name
        kept = name in _REARRANGING or (name == "convert_element_type" and _is_floating(equation))
        if not kept or len(operands) != 1 or (source := cast(Known, operands[0]).source) is None:
            return []

        def step(value: Any) -> Any:
            return _bind(equation, [value])[0]

        moved = Source(source.name, lambda result: step(source.path(result)))
        return [Known(step(operands[0].value), moving=True, source=moved)]

    def _derived(self, equation: Any, operands: list[Value]) -> Derived | None:
        """The parameter in another layout, spread out, some of its entries, or with a constant added or multiplied."""
        name = equation.primitive.name
        (position,) = [n for n, operand in enumerate(operands) if isinstance(operand, Derived)]
        own = cast(Derived, operands[position])
        others = [operand for operand in operands if isinstance(operand, Known)]
        if name == "convert_element_type" and _is_floating(equation):
            return own._replace(value=_bind(equation, [own.value])[0])
        rearranged = name in _REARRANGING and not others
        affine = name in _AFFINE | _SELECTING or (name in _SPREADING and not others)
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
        found = rule(
            equation, own.value.shape, rearranged=own.rearranged, parameter_first=isinstance(operands[0], Derived)
        )
        if found is None or not other.moving or other.value.shape[:1] != (self.examples,):
            return None
        operation, axes = found
        (result,) = _bind(equation, [operand.value for operand in operands])
        if result.shape[axes.example] != self.examples:
            return None
        output = jax.ShapeDtypeStruct(result.shape, result.dtype)
        source = other.source if other.value.shape == result.shape else None
        site = Site(own.name, operation, equation.params, own.path, own.value.shape, output, axes, source)
        if own.name in self.taps:
            result = result + site.in_layout(self.taps[own.name])
        self.sites.append(site)
        self.activations.append(self._plain(other))
        self.results.append(result)
        return Known(result, moving=True, source=Source(own.name, lambda value: value))


def _is_floating(equation: Any) -> bool:
    return jnp.issubdtype(equation.params["new_dtype"], jnp.floating)


def _like(constant: Any, value: Any) -> Any:
    """The constant in the type of the value; integers, which tell places in it, as they are."""
    floating = jnp.issubdtype(jnp.result_type(constant), jnp.floating)
    return jnp.asarray(constant, dtype=value.dtype) if floating else constant


def _bind(equation: Any, operands: list[Any]) -> list[Any]:
    """Evaluate one equation."""
    primitive = equation.primitive
    results = primitive.bind(*operands, **primitive.get_bind_params(equation.params))
    return list(results) if primitive.multiple_results else [results]
