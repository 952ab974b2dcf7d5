"""Where variables of Keras' own layers meet activations: what goes into a layer, and what its affine part gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A layer, and its variables that are measured: from their names in the layer to their positions among the values."""

    layer: keras.Layer
    variables: Mapping[str, int]


@dataclass(slots=True)
class Record:
    """A layer in one forward pass: its inputs, its outputs before the activation, and the values of all its variables."""

    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def is_plain(self, outputs: Any) -> bool:
        """Whether the layer ran once, on one tensor with a row per example, and not in a branch or loop.

        In those, tensors are of another graph, or are placeholders where the outputs are not.
        """
        if not len(self.inputs) == len(self.outputs) == 1:
            return False
        (affine,) = self.outputs
        rows = {tensor.shape[0] for tensor in (*self.inputs, affine, outputs)} - {None}
        return len(rows) <= 1 and type(affine) is type(outputs) and _graph(affine) is _graph(outputs)


def possible_sites(model: Any, kinds: Collection[type]) -> list[Site]:
    """The layers of exactly these classes, as they came out of Keras, whose variables no other layer owns."""
    if not isinstance(model, keras.Model):
        return []
    layers = [layer for layer in model._flatten_layers() if layer._trainable_variables]
    owners = Counter(id(variable) for layer in layers for variable in layer._trainable_variables)
    positions = {id(variable): index for index, variable in enumerate(model.trainable_variables)}
    sites = []
    for layer in layers:
        own = {variable.name: id(variable) for variable in layer._trainable_variables if id(variable) in positions}
        if type(layer) in kinds and "call" not in vars(layer) and all(owners[key] == 1 for key in own.values()):
            sites.append(Site(layer, {name: positions[key] for name, key in own.items()}))
    return sites


@contextmanager
def recording(sites: Sequence[Site], watch: Callable[[Any], None] | None = None) -> Generator[list[Record]]:
    """Record the layers of the sites while the block runs; afterwards they are what they were.

    Parameters
    ----------
    sites
        Where the layers are.
    watch
        What is told of each affine part before the model goes on with it.
    """
    records = [Record() for _ in sites]
    with ExitStack() as stack:
        for site, record in zip(sites, records, strict=True):
            stack.enter_context(_recorded(site.layer, record, watch))
        yield records


@contextmanager
def _recorded(layer: keras.Layer, record: Record, watch: Callable[[Any], None] | None) -> Generator[None]:
    """Wrap the layer's ``call``, and its activation where it has one, among the attributes of this one object."""

    def affine(outputs: Any) -> Any:
        record.outputs.append(outputs)
        if watch is not None:
            watch(outputs)
        return outputs

    attributes = vars(layer)
    before = dict(attributes)
    activation = getattr(layer, "activation", None)
    attributes["call"] = _recording_call(layer, record, affine if activation is None else _as_it_is)
    if activation is not None:
        attributes["activation"] = lambda outputs: activation(affine(outputs))
    try:
        yield
    finally:
        for name in ("call", "activation"):
            if name in before:
                attributes[name] = before[name]
            else:
                attributes.pop(name, None)


def _recording_call(layer: keras.Layer, record: Record, affine: Callable[[Any], Any]) -> Callable[..., Any]:
    call = layer.call

    def recorded(*arguments: Any, **options: Any) -> Any:
        inputs, *_ = (*arguments, *options.values())
        record.inputs.append(inputs)
        record.values = [variable.value for variable in layer.variables]
        return affine(call(*arguments, **options))

    return recorded


def _as_it_is(outputs: Any) -> Any:
    return outputs


def _graph(tensor: Any) -> Any:
    """The graph of a symbolic tensor of TensorFlow; all others are in none."""
    return getattr(tensor, "graph", None)
