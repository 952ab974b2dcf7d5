r"""What is known of the diagonal of the Hessian, group by group, how it was obtained, and what follows from it with which error.

The second part of the file bounds a minimum that is known from samples only. A function :math:`S(h) = \min_\sigma F(\sigma; h)` with F linear in h is concave: from unbiased samples of h its plug-in value is too small
in expectation. Solved on one half of the samples and evaluated on the other, :math:`F(\hat\sigma_1; \hat h_2)` is too large, since any
:math:`\sigma` is: :math:`E[F(\hat\sigma_1; \hat h_2)] = E[F(\hat\sigma_1; h)] \ge S(h)`.

To first order in the variance the plug-in value from all samples lacks half of what the other has too much, so
a third of the way from the first to the second there is no bias of first order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import fsum, isinf, isnan
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.affine_test import AffineTest
from invariant_sharpness.estimators.parts_of_draws import Parts
from invariant_sharpness.estimators.residual_plan import Plan
from invariant_sharpness.parameters.groups import Computed
from invariant_sharpness.protocol import HostArrays
from invariant_sharpness.results.estimate import methods_in_words

HostArray = npt.NDArray[np.float64]
Method = Literal[
    "exact",
    "exact (columns)",
    "exact (units)",
    "curvature propagation",
    "layer draws",
    "probes",
    "residual probes",
    "sampled outputs",
    "XDiag",
]


OF_AFFINE_GROUPS = frozenset({"exact", "sampled outputs"})
"""Methods of groups in which the outputs are affine, so that the Hessian and the Gauss-Newton matrix have one diagonal."""


@dataclass(frozen=True, slots=True)
class GroupDiagonal:
    """The diagonal of one group.

    Parameters
    ----------
    values
        The entries in the parameter's shape, on the host.
    method
        How they were obtained: ``"exact"``, ``"exact (columns)"``, ``"exact (units)"``, ``"curvature propagation"``, ``"layer draws"``,
        ``"probes"`` (of the Hessian), ``"residual probes"``, ``"XDiag"`` or ``"sampled outputs"``.
    parts
        Independent means of about equal numbers of draws, shape ``(parts, *shape)``, in the oracle's own precision, where the diagonal was sampled. For XDiag, the
        pseudo-values, whose variance tells the error of sums over entries, and which are not independent.

    Examples
    --------
    >>> import numpy as np
    >>> group = GroupDiagonal(np.array([2.0, 3.0]), "exact")
    >>> group.values.sum(), group.parts is None
    (np.float64(5.0), True)
    """

    values: HostArray
    method: Method
    parts: Parts | None = None

    @classmethod
    def of_parts(cls, parts: Parts, method: Method) -> GroupDiagonal:
        """The diagonal that is the mean of its parts."""
        return cls(parts.mean(axis=0, dtype=np.float64), method, parts)


ChangesByPart = Mapping[str, HostArray]
"""By the name of a method, one number for each part of its draws."""


class SamplingError(NamedTuple):
    """A standard error, and from how many degrees of freedom it is known."""

    standard_error: float
    degrees_of_freedom: int


@dataclass(frozen=True, slots=True)
class HessianDiagonal:
    r"""The diagonal of the Hessian, :math:`h_i = \partial^2 L / \partial\theta_i^2`, group by group, and how it was obtained.

    Parameters
    ----------
    groups
        The groups whose diagonal is known.
    probes
        Number of probes or draws, for those that were sampled.
    defects
        The relative curvatures that the affine test measured, for these and other groups: zero up to rounding where the
        Gauss-Newton diagonal is exact, NaN where nobody can say. Empty if the oracle cannot be asked.
    test
        The affine test itself, as long as it has not been confirmed on the diagonal.
    gauss_newton
        The diagonal of the Gauss-Newton matrix where it is another one and was computed on the way.
    plan
        How it was obtained within a budget.

    Examples
    --------
    The trace is the sum of all entries:

    >>> import numpy as np
    >>> diagonal = HessianDiagonal({"weight": GroupDiagonal(np.array([[2.0, 3.0]]), "exact")})
    >>> float(diagonal["weight"].values.sum()), diagonal.method(frozenset({"weight"}))
    (5.0, 'exact')
    """

    groups: Mapping[str, GroupDiagonal]
    probes: int = 0
    defects: Mapping[str, float] = field(default_factory=dict)
    test: AffineTest | None = field(default=None, repr=False, compare=False)
    gauss_newton: Mapping[str, GroupDiagonal] = field(default_factory=dict, repr=False)
    plan: Plan | None = None

    def __getitem__(self, name: str) -> GroupDiagonal:
        return self.groups[name]

    @property
    def arrays(self) -> dict[str, HostArray]:
        """The diagonal of each group, on the host."""
        return {name: group.values for name, group in self.groups.items()}

    @property
    def of_gauss_newton(self) -> HessianDiagonal:
        """What is known of the diagonal of the Gauss-Newton matrix: that of groups in which the outputs are affine, and what was computed on the way."""
        affine = {name: group for name, group in self.groups.items() if group.method in OF_AFFINE_GROUPS}
        return HessianDiagonal({**self.gauss_newton, **affine}, self.probes)

    def sampling_error(self, derivatives: HostArrays) -> SamplingError | None:
        """Return the error of a function of the diagonal with these derivatives, to first order; None if no group was sampled.

        Parts of one method come from the same draws, those of different methods are independent.

        Parameters
        ----------
        derivatives
            The derivatives of the function in the entries of each group.

        Returns
        -------
        SamplingError or None
            The standard error and its degrees of freedom.
        """
        return error_of_parts(self.changes_by_part(derivatives))

    def changes_by_part(self, derivatives: HostArrays) -> ChangesByPart:
        """Return what each part of the draws of a method adds to a function with these derivatives, to first order, over all groups of the method."""
        return added_changes(
            {group.method: np.array([np.vdot(part.astype(np.float64), derivative) for part in group.parts])}
            for name, derivative in derivatives.items()
            if (group := self[name]).parts is not None
        )

    scatter = sampling_error  # the name in version 0.1

    def standard_error(self, derivatives: HostArrays) -> float | None:
        """Return the standard error, to first order, of a function of the diagonal with these derivatives.

        Parameters
        ----------
        derivatives
            The derivatives of the function in the entries of each group.

        Returns
        -------
        float or None
            None if no group in ``derivatives`` was sampled.
        """
        error = self.sampling_error(derivatives)
        return None if error is None else error.standard_error

    def method(self, names: frozenset[str]) -> str:
        """Say how the named groups were obtained."""
        methods = [group.method for name, group in self.groups.items() if name in names]
        return methods_in_words(methods, self.probes if self.plan is None else self.plan)

    def note(self, name: str) -> str:
        """Say why a group is not exact; empty if it is, or nothing is known."""
        if name not in self.defects or (name in self.groups and self[name].method in OF_AFFINE_GROUPS):
            return ""
        if isinf(self.defects[name]):
            return "the outputs are not affine in it, by the form of the network"
        if isnan(self.defects[name]):
            return "no tested example reaches all of it, so that nobody can say whether the outputs are affine in it"
        return f"the outputs are not affine in it: defect {self.defects[name]:.2g}"


def added_changes(terms: Iterable[ChangesByPart]) -> ChangesByPart:
    """Add what the parts of each method change in several terms."""
    total: dict[str, HostArray] = {}
    for changes in terms:
        for method, of_parts in changes.items():
            total[method] = total.get(method, 0.0) + of_parts
    return total


def error_of_parts(changes: ChangesByPart) -> SamplingError | None:
    """Return the error of a sum of what the parts of draws add, method by method, which are independent; None if nothing was drawn."""
    freedom = min((len(of_parts) for of_parts in changes.values()), default=1) - 1
    if not freedom:
        return None
    variance = fsum(float(np.var(of_parts, ddof=1)) / len(of_parts) for of_parts in changes.values())
    return SamplingError(variance**0.5, freedom)


def planned(diagonal: HessianDiagonal) -> tuple[str, ...]:
    """Return a note on how the diagonal was obtained within a budget."""
    return () if diagonal.plan is None else (f"Hessian diagonal: {diagonal.plan.words}",)


class Tangent(NamedTuple):
    r"""The linear function :math:`F(\sigma; h) = c + \sum_i s_i h_i` at a fixed :math:`\sigma`."""

    constant: float
    slopes: HostArrays

    def at(self, curvature: HostArrays) -> float:
        """Return its value at a diagonal."""
        return self.constant + fsum(float(np.sum(s * curvature[name])) for name, s in self.slopes.items())


def cross_fitted(tangent: Callable[[HostArrays], Tangent], diagonal: HessianDiagonal, names: frozenset[str]) -> float:
    """Return the mean of both halves' values, each at the other half's minimizer.

    Parameters
    ----------
    tangent
        From a diagonal to the tangent at its minimizer.
    diagonal
        With parts, for those groups that were sampled.
    names
        The groups that count.

    Raises
    ------
    ArgumentError
        If the parts of a group are no estimates of their own; names the group.
    """
    _require_independent_parts(diagonal, names)
    first = Computed(names, lambda name: _mean_of_half(diagonal[name], slice(None, None, 2)))
    second = Computed(names, lambda name: _mean_of_half(diagonal[name], slice(1, None, 2)))
    return (tangent(first).at(second) + tangent(second).at(first)) / 2


def positive_below(group: GroupDiagonal) -> HostArray:
    r"""Return what is below the positive part of each entry in expectation, :math:`\frac1n \sum_d 1[\hat h_{-d} > 0]\, \hat h_d`.

    :math:`\hat h_d` is the mean of a part, and :math:`\hat h_{-d}` that of all others, which is independent of it: the expectation is a probability times h. The
    positive part of the mean is above.
    """
    if group.parts is None:
        return np.clip(group.values, 0, None)
    total = group.parts.sum(axis=0, dtype=np.float64)
    below = np.zeros_like(total)
    for part in group.parts:
        below += np.where(total - part > 0, part, 0.0)
    return np.asarray(below / len(group.parts))


def _require_independent_parts(diagonal: HessianDiagonal, names: frozenset[str]) -> None:
    dependent = [name for name in sorted(names) if diagonal[name].method == "XDiag"]
    if dependent:
        msg = (
            f"the diagonal of {', '.join(dependent)} is by XDiag, whose parts all come from the same vectors: half of them are no "
            f"estimate of their own; take a diagonal from hessian_diagonal, whose parts are independent"
        )
        raise ArgumentError(msg)


def _mean_of_half(group: GroupDiagonal, half: slice) -> HostArray:
    return group.values if group.parts is None else np.asarray(group.parts[half].mean(axis=0, dtype=np.float64))
