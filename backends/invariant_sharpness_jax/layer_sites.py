"""Where parameters meet activations in a model's program: matrix products, convolutions, tables, sums and products with them.

The model's own computation is read off its jaxpr, so this works for any library of layers, and for none. A parameter has a
site if it is used once, in an operation with a row for each example; all others are left to the general path. What is added
to the result of a site, and to nothing else, such as a bias, belongs to the same layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from invariant_sharpness.adapters.data import batch_size, is_per_example, map_leaves
from invariant_sharpness_jax.sites import Site
from invariant_sharpness_jax.trees import Arrays
from invariant_sharpness_jax.walk import Derived, Known, Walk

Outputs = Callable[[Arrays, Any], jax.Array]
Layout = Callable[[jax.Array], jax.Array]


class Member(NamedTuple):
    """A site of a layer.

    Parameters
    ----------
    site
        The site.
    layout
        From (examples, positions, output units) of the layer to the layout of the result of the site.
    """

    site: Site
    layout: Layout


class Layer(NamedTuple):
    """Sites whose results differ by parameters alone: the first, and those at which parameters are added.

    Parameters
    ----------
    members
        The sites, in the order of the program.
    """

    members: tuple[Member, ...]

    @property
    def name(self) -> str:
        """Of the parameter of the first site."""
        return self.members[0].site.name

    @property
    def names(self) -> list[str]:
        """Of all its parameters."""
        return [member.site.name for member in self.members]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of examples, of positions, and of output units."""
        return self.members[0].site.shape

    def by_unit(self, result: jax.Array) -> jax.Array:
        """The result of the last site in the shape (examples, positions, output units)."""
        form = jax.ShapeDtypeStruct(self.shape, self.members[0].site.output.dtype)
        (units,) = jax.linear_transpose(self.members[-1].layout, form)(result)
        return units


class Surveyed(NamedTuple):
    """A model whose sites are known.

    Parameters
    ----------
    layers
        All of them, in the order of the program.
    run
        From what is added to the outputs of the layers, in the shapes (examples, positions, output units), to the model's outputs and what else was met.
    """

    layers: list[Layer]
    run: Callable[[Mapping[str, jax.Array]], tuple[jax.Array, Met]]

    def zeros(self) -> dict[str, jax.Array]:
        """Nothing is added to the outputs of any layer."""
        return {layer.name: jnp.zeros(layer.shape, layer.members[0].site.output.dtype) for layer in self.layers}


class Met(NamedTuple):
    """What is met at the sites, by parameter: the activations, and the results."""

    activations: dict[str, jax.Array]
    results: dict[str, jax.Array]


class Tapped(NamedTuple):
    """A model whose layers have been opened.

    Parameters
    ----------
    outputs
        Of the model.
    layers
        With one site for each parameter that has one.
    met
        What is met at the sites.
    pullback
        From cotangents of the outputs to those of the outputs of the layers, by the name of the layer.
    """

    outputs: jax.Array
    layers: list[Layer]
    met: Met
    pullback: Callable[[jax.Array], dict[str, jax.Array]]


def tapped(outputs: Outputs, arrays: Arrays, inputs: Any) -> Tapped:
    """Run the model and open the layers of the parameters, of those that have one. Cost: a forward pass."""
    surveyed = survey(outputs, arrays, inputs)
    value, pullback, met = jax.vjp(surveyed.run, surveyed.zeros(), has_aux=True)
    return Tapped(value, surveyed.layers, met, lambda cotangent: pullback(cotangent)[0])


def survey(outputs: Outputs, arrays: Arrays, inputs: Any) -> Surveyed:
    """Find the layers of the parameters. Nothing of what is computed for it is used, so that a compiler leaves it out."""
    # Axes that are part of the types of arrays would have to be carried through every site.
    typed = jax.sharding.AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types
    closed = jax.make_jaxpr(outputs)(arrays, inputs)
    layers = [] if typed else _layers(outputs, closed, arrays, inputs)
    names = frozenset(name for layer in layers for name in layer.names)
    if not names:
        return Surveyed([], lambda _: (outputs(arrays, inputs), Met({}, {})))

    def run(taps: Mapping[str, jax.Array]) -> tuple[jax.Array, Met]:
        walk = _walked(closed, arrays, inputs, names, taps)
        met = [
            {site.name: a for site, a in zip(walk.sites, found, strict=True)}
            for found in (walk.activations, walk.results)
        ]
        return walk.outputs[0], Met(*met)

    return Surveyed(layers, run)


def _layers(outputs: Outputs, closed: ClosedJaxpr, arrays: Arrays, inputs: Any) -> list[Layer]:
    """The layers of those parameters that have a site.

    An axis that happens to be as long as the batch does not grow with it: the walk is made twice, once with one more example.
    """
    size, everything = batch_size(inputs), frozenset(arrays)
    longer = map_leaves(lambda leaf: _one_more(leaf) if is_per_example(leaf, size) else leaf, inputs)
    usable: list[frozenset[str]] = []

    def walk(values: Arrays, rows: Any) -> None:
        usable.append(_walked(jax.make_jaxpr(outputs)(values, rows), values, rows, everything, {}).usable)

    try:
        jax.eval_shape(walk, arrays, longer)
    except (TypeError, ValueError):  # a model for batches of one size
        return []
    first = _walked(closed, arrays, inputs, everything, {})
    return _grouped([site for site in first.sites if site.name in first.usable & usable[0]], first.uses)


def _grouped(sites: Sequence[Site], uses: Mapping[str, int]) -> list[Layer]:
    """Put a sum with the result of a site, if that is used for nothing else, into the layer of that site."""
    layers: dict[str, Layer] = {}
    members: dict[str, tuple[str, Layout]] = {}
    for site in sites:
        name, layout = _joined(site, members, uses) or (site.name, site.in_layout)
        members[site.name] = name, layout
        before = layers[name].members if name in layers else ()
        layers[name] = Layer((*before, Member(site, layout)))
    return list(layers.values())


def _joined(
    site: Site, members: Mapping[str, tuple[str, Layout]], uses: Mapping[str, int]
) -> tuple[str, Layout] | None:
    """The layer that a sum belongs to, and the layout of its result; None if it is a layer of its own."""
    source = site.source
    if site.operation != "sum" or source is None or source.name not in members or uses[source.name] > 1:
        return None
    name, layout = members[source.name]
    return name, lambda units: source.path(layout(units))


def _one_more(rows: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((len(rows) + 1, *rows.shape[1:]), rows.dtype)


def _walked(
    closed: ClosedJaxpr, arrays: Arrays, inputs: Any, names: frozenset[str], taps: Mapping[str, jax.Array]
) -> Walk:
    """Run the model and follow the named parameters."""
    own = [
        Derived(name, arrays[name], lambda values: values, rearranged=True)
        if name in names
        else Known(arrays[name], moving=False)
        for name in sorted(arrays)
    ]
    moving = [Known(leaf, moving=True) for leaf in jax.tree.leaves(inputs)]
    return Walk(batch_size(inputs), taps).through(closed, [*own, *moving])
