"""What an optimizer makes of a gradient: the preconditioner and the threshold of stability, read from its state by the backend of its framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np

from invariant_sharpness.adapters.registry import backends
from invariant_sharpness.coordinates import Scaled
from invariant_sharpness.errors import ArgumentError, ModelError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CoordinateOracle, CurvatureOracle, HostArrays, innermost

Momentum = Literal["heavy ball", "nesterov", "average"]
"""How a gradient joins the earlier ones: :math:`m = \\beta m + g`, the same with a look ahead, or :math:`m = \\beta m + (1 - \\beta) g`."""


@dataclass(frozen=True, slots=True)
class OptimizerState:
    r"""An optimizer at one step: :math:`\theta \leftarrow \theta - \eta P^{-1} m`, with a diagonal preconditioner P and momentum m.

    .. math:: P = c\, \bigl( \sqrt{\nu + \epsilon_0} + \epsilon \bigr)

    with the running mean :math:`\nu` of squared gradients, and c = 1 or, for Adam, :math:`1 - \beta_1^t` of its bias correction. Groups with other learning rates
    have their P divided by the ratio.

    A quadratic loss is stable under it while the largest eigenvalue of :math:`P^{-1/2} H P^{-1/2}` is below the threshold

    .. math:: \frac{2 + 2 \beta}{\eta}, \quad \frac{2 + 2 \beta}{(1 + 2 \beta)\, \eta}, \quad \frac{2 + 2 \beta}{(1 - \beta)\, \eta}

    of heavy-ball momentum, Nesterov's, and an average: 2 / learning rate without momentum, and 38 / learning rate for Adam with
    :math:`\beta_1 = 0.9`. Decoupled weight decay :math:`\lambda` multiplies it by :math:`1 - \eta \lambda / 2`.

    Parameters
    ----------
    name
        What the optimizer is called.
    learning_rates
        The learning rate of each parameter group, by its name.
    mean_squares
        :math:`\nu`, with its bias corrected, in the model's own coordinates; empty for an optimizer without a preconditioner.
    epsilon, epsilon_root
        :math:`\epsilon` beside the root and :math:`\epsilon_0` in it.
    correction
        c.
    momentum
        :math:`\beta`.
    form
        Which kind of momentum.
    decoupled_decay
        :math:`\lambda` of weight decay that is not a part of the gradient.
    coupled_decay
        That of weight decay which is added to the gradient, and so a part of the loss that the oracle does not have.

    Examples
    --------
    >>> adam = OptimizerState("Adam", {"weight": 0.001}, momentum=0.9, form="average")
    >>> round(adam.threshold, 6)
    38000.0
    """

    name: str
    learning_rates: Mapping[str, float]
    mean_squares: HostArrays = field(default_factory=lambda: MappingProxyType({}))
    epsilon: float = 0.0
    epsilon_root: float = 0.0
    correction: float = 1.0
    momentum: float = 0.0
    form: Momentum = "heavy ball"
    decoupled_decay: float = 0.0
    coupled_decay: float = 0.0

    @property
    def learning_rate(self) -> float:
        """The largest learning rate of a group."""
        return max(self.learning_rates.values())

    @property
    def threshold(self) -> float:
        """The largest eigenvalue, preconditioned, of a quadratic loss on which the optimizer is stable; infinite where the learning rate is zero."""
        if self.learning_rate == 0:
            return inf
        beta = self.momentum
        divisor = {"heavy ball": 1.0, "nesterov": 1 + 2 * beta, "average": 1 - beta}[self.form]
        return (2 + 2 * beta) / divisor / self.learning_rate * (1 - self.learning_rate * self.decoupled_decay / 2)

    def scale(self, oracle: CurvatureOracle) -> ParameterVector:
        r"""Return :math:`P^{-1/2}` of the optimizer run in the oracle's coordinates, where gradients are :math:`s \circ g`."""
        own = {group.name: np.ones(group.shape) for group in oracle.groups}
        arrays = {name: self._root(name, size) for name, size in _scaled(oracle, own).items()}
        return oracle.from_numpy(arrays)

    def _root(self, name: str, size: Any) -> Any:
        ratio = self.learning_rates[name] / self.learning_rate if self.learning_rate else 1.0
        if not self.mean_squares:
            return np.full(size.shape, np.sqrt(ratio))
        moments = self.mean_squares[name] * size**2
        return np.sqrt(ratio / (self.correction * (np.sqrt(moments + self.epsilon_root) + self.epsilon)))


@runtime_checkable
class OptimizerBackend(Protocol):
    """A backend that reads the states of its framework's optimizers."""

    def accepts_optimizer(self, optimizer: object, /) -> bool:
        """Whether it is an optimizer of the framework, or the state of one."""
        ...

    def optimizer_state(
        self, oracle: CurvatureOracle, optimizer: Any, hyperparameters: Mapping[str, Any], /
    ) -> OptimizerState:
        """Read what the optimizer does to the parameters of an oracle that this backend has made."""
        ...


def optimizer_state(oracle: CurvatureOracle, optimizer: Any, **hyperparameters: Any) -> OptimizerState:
    r"""Read preconditioner, learning rate and momentum from an optimizer that trains the oracle's model.

    Cost: no gradient; a copy of its running means on the host.

    Parameters
    ----------
    oracle
        An oracle of the model, in any coordinates, or of some of its groups.
    optimizer
        ``Adam``, ``AdamW``, ``RMSprop`` or ``SGD`` of ``torch.optim`` or of Keras, after at least one step; or the state of such an optimizer of Optax.
    **hyperparameters
        For Optax alone, whose states have none: the keywords that made the optimizer, such as ``learning_rate=1e-3, b1=0.9``; what is left out has Optax's
        default. Not needed under ``optax.inject_hyperparams``.

    Returns
    -------
    OptimizerState
        What :func:`invariant_sharpness.preconditioned_sharpness` takes as ``optimizer``.

    Raises
    ------
    ModelError
        If no backend knows the optimizer, it trains other parameters, or it has not taken a step.
    ArgumentError
        If a hyperparameter is missing or not known.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> try:
    ...     ish.optimizer_state(quadratic(np.eye(1), np.ones((1, 1))), "Adam")
    ... except ish.errors.ModelError as error:
    ...     print(str(error)[:54])
    no backend reads an optimizer of type builtins.str: pa
    """
    readers = [one for one in backends().values() if isinstance(one, OptimizerBackend)]
    for reader in readers:
        if reader.accepts_optimizer(optimizer):
            return reader.optimizer_state(innermost(oracle), optimizer, hyperparameters)
    msg = (
        f"no backend reads an optimizer of type {type(optimizer).__module__}.{type(optimizer).__qualname__}: pass one of torch.optim or "
        f"Keras, the state of one of Optax, or an invariant_sharpness.OptimizerState"
    )
    raise ModelError(msg)


def refuse_hyperparameters(hyperparameters: Mapping[str, Any]) -> None:
    """Raise, since this optimizer knows its own."""
    if hyperparameters:
        msg = f"{', '.join(hyperparameters)}: the optimizer knows its own hyperparameters; leave these out"
        raise ArgumentError(msg)


def unknown_optimizer(name: str) -> ModelError:
    """The error for an optimizer whose preconditioner is not known."""
    msg = (
        f"the preconditioner of {name} is not known, but those of Adam, AdamW, RMSprop and SGD are: for another one, pass an "
        f"invariant_sharpness.OptimizerState with its mean squares and learning rates"
    )
    return ModelError(msg)


def no_step_yet(name: str, parameter: str) -> ModelError:
    """The error for an optimizer without running means."""
    msg = f"{name} has no running mean of squared gradients for {parameter!r} yet: take a step before it is read"
    return ModelError(msg)


def _scaled(oracle: CurvatureOracle, sizes: dict[str, Any]) -> dict[str, Any]:
    """Multiply sizes, by group, with those of all coordinates down to the model."""
    if isinstance(oracle, Scaled):
        arrays = oracle.to_numpy(oracle.scale)
        sizes = {name: size * arrays[name] for name, size in sizes.items()}
    if hasattr(oracle, "base"):
        return _scaled(cast(CoordinateOracle, oracle).base, sizes)
    return sizes
