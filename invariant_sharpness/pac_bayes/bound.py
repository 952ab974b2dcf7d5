"""The PAC-Bayes bound (1)-(4) of Tsuzuku, Sato and Sugiyama (2019), term by term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, isfinite, log
from typing import Any

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.pac_bayes.scales import NATS_PER_FLOAT


def hoeffding_term(lam: float, examples: int) -> float:
    r"""Bound :math:`\Psi(\lambda, m) \le \lambda^2 / (8m)` (2) for a loss in [0, 1], by Hoeffding's lemma.

    The :math:`\lambda^2 / (2m)` of (3), and the :math:`\eta / (2n)` of Wang et al. (2018), hold as well, but are four times
    as large as need be.

    Parameters
    ----------
    lam
        The PAC-Bayes :math:`\lambda`.
    examples
        The number m of examples.

    Returns
    -------
    float
        The bound, in nats.

    Examples
    --------
    >>> hoeffding_term(40.0, 100)
    2.0
    """
    return lam**2 / (8 * examples)


@dataclass(frozen=True, slots=True)
class PacBayesBound:
    r"""The PAC-Bayes bound of a network, with its terms.

    For a loss in [0, 1], with probability at least :math:`1 - \delta` over the m examples,

    .. math:: L_D(Q) \le L_S(Q) + \lambda^{-1} \bigl( \mathrm{KL}[Q \| P] + \ln \tfrac1\delta + \Psi(\lambda, m) \bigr), \qquad
        \Psi(\lambda, m) \le \frac{\lambda^2}{8m},

    and for the network itself :math:`L_D(f) \le (A) + (B) + (C) + L_S(f) + \lambda^{-1} (\ln\tfrac1\delta + \Psi)`.

    Parameters
    ----------
    stochastic_loss
        The mean loss :math:`L_S(Q)` of the perturbed network.
    loss
        The mean loss :math:`L_S(f)` of the network itself.
    divergences
        The divergence :math:`\mathrm{KL}[Q \| P]` of each weight in nats, at the best variances of the prior.
    equal_variances_divergence
        The sum of the divergences by (7), as it would be if the prior had the variances of the posterior.
    floats
        The number of floats that the prior learns after training, which cost 22.2 nats each.
    examples
        The number m of examples.
    lam
        The PAC-Bayes :math:`\lambda`, which must not depend on the examples.
    delta
        The probability with which the bound may fail.
    standard_error
        The standard error of ``stochastic_loss``, if it was sampled.

    Raises
    ------
    ArgumentError
        If ``examples``, ``lam`` or ``delta`` are out of range.

    Examples
    --------
    >>> bound = PacBayesBound(
    ...     stochastic_loss=0.3, loss=0.2, divergences={"weight": 10.0}, equal_variances_divergence=12.0, floats=0,
    ...     examples=1000, lam=100.0, delta=1.0,
    ... )
    >>> round(bound.term_b, 6), round(bound.term_c, 6), round(bound.confidence, 6), round(bound.value, 6)
    (0.1, 0.1, 0.0125, 0.4125)
    """

    stochastic_loss: float
    loss: float
    divergences: Mapping[str, float]
    equal_variances_divergence: float
    floats: int
    examples: int
    lam: float
    delta: float
    standard_error: float | None = None

    def __post_init__(self) -> None:
        if self.examples < 1:
            msg = f"examples={self.examples}, but the bound needs at least one example"
            raise ArgumentError(msg)
        if not (self.lam > 0 and isfinite(self.lam)):
            msg = f"lam={self.lam}, but lambda is a positive number, such as the number of examples"
            raise ArgumentError(msg)
        if not 0 < self.delta <= 1:
            msg = f"delta={self.delta}, but a bound fails with a probability above 0 and at most 1"
            raise ArgumentError(msg)

    @property
    def divergence(self) -> float:
        """The divergence of all weights, without the cost of the scales, in nats."""
        return fsum(self.divergences.values())

    @property
    def cost_of_floats(self) -> float:
        """The constant of (7), in nats: what it costs that the prior knows the scales."""
        return self.floats * NATS_PER_FLOAT

    @property
    def term_b(self) -> float:
        r"""The term (B), :math:`\lambda^{-1} \mathrm{KL}[Q \| P]`, with the cost of the scales."""
        return (self.divergence + self.cost_of_floats) / self.lam

    @property
    def term_c(self) -> float:
        r"""The term (C), :math:`L_S(Q) - L_S(f)`: the sharpness."""
        return self.stochastic_loss - self.loss

    @property
    def confidence(self) -> float:
        r"""The part that no network can change, :math:`\lambda^{-1} (\ln\tfrac1\delta + \Psi(\lambda, m))`."""
        return (log(1 / self.delta) + hoeffding_term(self.lam, self.examples)) / self.lam

    @property
    def value(self) -> float:
        r"""The right-hand side of (1), which bounds :math:`L_D(Q)`: the expected loss of the perturbed network."""
        return self.stochastic_loss + self.term_b + self.confidence

    def for_the_network_itself(self, test_loss: float, stochastic_test_loss: float) -> float:
        r"""Return the right-hand side of (4), which bounds :math:`L_D(f)`, with (A) :math:`= L_D(f) - L_D(Q)` from test data."""
        return self.value + (test_loss - stochastic_test_loss)

    def to_dict(self) -> dict[str, Any]:
        """Return all terms as plain numbers and dictionaries."""
        return {
            "value": self.value,
            "stochastic_loss": self.stochastic_loss,
            "standard_error": self.standard_error,
            "loss": self.loss,
            "term_b": self.term_b,
            "term_c": self.term_c,
            "confidence": self.confidence,
            "divergence": self.divergence,
            "divergences": dict(self.divergences),
            "equal_variances_divergence": self.equal_variances_divergence,
            "floats": self.floats,
            "cost_of_floats": self.cost_of_floats,
            "examples": self.examples,
            "lam": self.lam,
            "delta": self.delta,
        }

    def __str__(self) -> str:
        return (
            f"{self.value:.6g} = L_S(f) {self.loss:.4g} + (C) {self.term_c:.4g} + (B) {self.term_b:.4g} + confidence "
            f"{self.confidence:.4g}, with m={self.examples}, lambda={self.lam:g}, delta={self.delta:g}; (B) has "
            f"{self.divergence:.4g} nats of KL ({self.equal_variances_divergence:.4g} at equal variances) and {self.floats} floats"
        )
