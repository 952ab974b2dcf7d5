"""The backends that are installed, and the door through which every model becomes an oracle.

A backend is an object in the entry-point group ``invariant_sharpness.backends``; third parties add theirs in
the same way. It is chosen by the type of the model, never by what happens to be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, Protocol, TypedDict, Unpack, runtime_checkable

import numpy as np
import numpy.typing as npt

from invariant_sharpness.coordinates import Restricted
from invariant_sharpness.errors import ArgumentError, ArgumentTypeError, LossError, ModelError
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.parameters.patterns import are_patterns
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.exclusive import exclusive

GROUP = "invariant_sharpness.backends"


@runtime_checkable
class Backend(Protocol):
    """What an entry point supplies. Loading it must import no framework."""

    @property
    def name(self) -> str:
        """The name of the framework, as people write it."""
        ...

    def accepts(self, model: object, /) -> bool:
        """Whether ``model`` is of a type that this backend differentiates."""
        ...

    def oracle(self, model: Any, data: Any, /, *, loss: Any, **options: Any) -> CurvatureOracle:
        """The oracle of ``model`` on ``data``."""
        ...


@runtime_checkable
class DemonstrationBackend(Backend, Protocol):
    """A backend that can also train the small network of ``invariant-sharpness demo``."""

    def train_network(
        self, x: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], /, *, sizes: tuple[int, ...], seed: int
    ) -> Any:
        """A ReLU network with layers of these sizes, trained on all examples until it fits them."""
        ...

    def accuracy(self, model: Any, x: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], /) -> float:
        """Share of the examples that ``model`` classifies as labelled."""
        ...


@runtime_checkable
class ModelBackend(Backend, Protocol):
    """A backend whose models metrics can be written for, and tested on."""

    def relu_oracle(
        self,
        weights: Sequence[npt.NDArray[np.float64]],
        biases: Sequence[npt.NDArray[np.float64]] | None,
        data: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]],
        /,
        *,
        loss: str,
        batch_size: int,
    ) -> CurvatureOracle:
        """The oracle of a ReLU network of the framework with these matrices (outputs, inputs) and vectors."""
        ...

    def copied_model(self, oracle: CurvatureOracle, parameters: ParameterVector, /) -> tuple[Any, ...]:
        """What a metric of models takes: a copy of the model with these parameters, all inputs, and all targets."""
        ...


class OracleOptions(TypedDict, total=False):
    """The options of :func:`oracle`; each backend takes those that it has a use for."""

    batch_size: int
    microbatch: int | None
    max_examples: int | None
    dtype: Literal["float32", "float64"] | None
    groups: Sequence[ParameterGroup]
    parameters: Any
    forward: Callable[[Any, Any], tuple[Any, Any]]
    examples: Literal["rows", "batches"]
    process_group: Any


def oracle(model: Any, data: Any, loss: Any = "cross_entropy", **options: Unpack[OracleOptions]) -> CurvatureOracle:
    r"""Make the curvature oracle of a model on a data set: its mean loss as a function of the parameters, with derivatives.

    .. math:: L(\theta) = \frac{\sum_r w_r\, \ell(f_\theta(x_r), y_r)}{\sum_r w_r}

    Parameters
    ----------
    model
        A ``torch.nn.Module``, a Keras model or ``tf.Module``, a JAX function ``apply(parameters, x)`` together with the option
        ``parameters``, an :class:`invariant_sharpness_numpy.ReluNetwork`, or whatever an installed backend accepts. It is in inference
        mode, and it is never changed.
    data
        ``(x, y)`` arrays, one batch, a list of batches, a data loader, or any object that can be iterated
        over again and again and yields batches. Several targets are a tuple or dictionary of arrays, as in ``(x, (y1, y2))``.
    loss
        ``"cross_entropy"``, ``"normalized_cross_entropy"`` (20), ``"mse"``, a loss of the framework that is one of these, or a callable
        ``(outputs, targets) -> one loss per example``.
    options
        The options of the model's backend:

        ================= ===================================== ======= ===== ===== =====
        option            what it is                            PyTorch JAX   Keras NumPy
        ================= ===================================== ======= ===== ===== =====
        ``batch_size``    examples of a batch of ``(x, y)``,    yes     yes   yes   yes
                          256 by default; no value depends on
                          it
        ``microbatch``    cut the batches of a loader into      yes     yes
                          pieces of at most so many examples
        ``max_examples``  measure on so many first examples, of   yes     yes   yes   yes
                          data that may have no end; no batch
                          beyond them is read, and of an
                          iterator they are held in memory
        ``dtype``         ``"float32"`` or ``"float64"``:       yes     yes
                          measure a copy in this precision
        ``groups``        descriptions of parameters that       yes     yes   yes
                          replace those of the library
        ``parameters``    names of the parameters to measure,   yes     yes   yes   yes
                          or patterns such as
                          ``"encoder.*"``: the oracle is the
                          :class:`Restricted` one. In JAX the
                          tree of arrays that a function takes,
                          or this tree and patterns, as in
                          ``(tree, "encoder.*")``
        ``forward``       ``(model, batch) -> (outputs,         yes
                          targets)`` for other forms of batch
        ``examples``      ``"batches"``: a batch is one         yes     yes   yes
                          example, as contrastive losses and
                          graphs need it; the loss returns one
                          number for it, and is averaged over
                          the batches
        ``process_group`` a process group of                    yes
                          ``torch.distributed``: the data are
                          this process's own part, and the
                          loss is that of all parts
        ================= ===================================== ======= ===== ===== =====

    Returns
    -------
    CurvatureOracle
        The oracle. It follows its model: it reads the parameters whenever it is asked. Cost: one pass over the data, three for data
        that do not lie in memory.

    Raises
    ------
    ModelError
        If no installed backend knows the type of ``model``, or one of them cannot be loaded, or the model cannot be measured.
    DataError, LossError, NonFiniteError
        If data, loss and outputs do not fit; each names the batch or example that is wrong.
    ArgumentError
        If ``parameters`` are no patterns.
    ArgumentTypeError
        If the backend has no such option; lists those that it has.

    Examples
    --------
    One linear unit of weight 3 that has to map 1 to 0: the squared error is 9, and its second derivative 2.

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> linear = ReluNetwork((np.array([[3.0]]),))
    >>> oracle = ish.oracle(linear, (np.array([[1.0]]), np.array([[0.0]])), loss="mse")
    >>> oracle.loss(oracle.parameters), ish.hessian_trace(oracle).value
    (9.0, 2.0)
    """
    if isinstance(loss, type):
        msg = f"loss={loss.__name__} is a class: make a loss of it, as in {loss.__name__}()"
        raise LossError(msg)
    for found in backends().values():
        if found.accepts(model):
            given, patterns = _patterns(found, options)
            _check_options(found, given)
            with exclusive():
                made = found.oracle(model, data, loss=loss, **given)
                return made if patterns is None else Restricted(made, patterns)
    raise ModelError(_not_accepted(model, data))


def _patterns(backend: Backend, options: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Take the patterns of parameters out of the options; what else ``parameters`` may be, the backend knows."""
    given = dict(options)
    if "parameters" not in options:
        return given, None
    value = given.pop("parameters")
    if are_patterns(value):
        return given, value
    if isinstance(value, tuple) and len(value) == 2 and are_patterns(value[1]):
        return {**given, "parameters": value[0]}, value[1]
    if "parameters" in getattr(backend, "options", ("parameters",)):
        return {**given, "parameters": value}, None
    msg = f"parameters={value!r}, but it is a name or a pattern, such as 'encoder.*', or a list of them"
    raise ArgumentError(msg)


def _not_accepted(model: Any, data: Any) -> str:
    """Say what to do, by what was given in the place of a model."""
    if isinstance(model, type):
        return f"the model is the class {model.__qualname__}: make a model of it"
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    if any(backend.accepts(data) for backend in backends().values()):
        return f"the model is a {kind} and the data are a model: write oracle(model, data)"
    return (
        f"no backend accepts a model of type {kind}; the backends are {', '.join(sorted(_entries()))}. "
        f"For plain functions, build an invariant_sharpness_numpy.FunctionOracle from the loss, its gradient and its "
        f"Hessian-vector product."
    )


def _check_options(backend: Backend, options: Mapping[str, Any]) -> None:
    """A backend of others that does not list its options looks at them itself."""
    known: frozenset[str] | None = getattr(backend, "options", None)
    for name in sorted(options.keys() - known) if known is not None else ():
        alike = get_close_matches(name, sorted(known or ()), 1)
        hint = f" Did you mean {alike[0]}?" if alike else ""
        msg = f"the {backend.name} backend has no option {name!r}; its options are {', '.join(sorted(known or ()))}.{hint}"
        raise ArgumentTypeError(msg)


def backends() -> dict[str, Backend]:
    """Load all installed backends, by the name of their entry point; none of them imports its framework yet."""
    return {name: _load(entry) for name, entry in _entries().items()}


def backend(name: str) -> Backend:
    """Load the backend with this name.

    Raises
    ------
    ModelError
        Lists the names there are.
    """
    if name not in _entries():
        msg = f"there is no backend {name!r}; installed: {', '.join(sorted(_entries()))}"
        raise ModelError(msg)
    return _load(_entries()[name])


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> Backend:
    """Load an entry point, and name it if it is broken."""
    try:
        loaded = entry.load()
    except (ImportError, AttributeError) as error:
        msg = f"the backend {entry.name!r} ({entry.value}) cannot be loaded: {error}"
        raise ModelError(msg) from error
    if isinstance(loaded, Backend):
        return loaded
    msg = f"the entry point {entry.name!r} ({entry.value}) is a {type(loaded).__name__}, which is not a backend"
    raise ModelError(msg)
