"""All rescaling symmetries of a network, found from its Jacobian alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.symmetries.generators import Generator, Symmetries
from invariant_sharpness.symmetries.scaling_variables import ScalingVariables
from invariant_sharpness.symmetries.search import units
from invariant_sharpness.symmetries.search.elimination import KnownSpace, eliminated
from invariant_sharpness.symmetries.search.equations import Equations, gather_equations
from invariant_sharpness.symmetries.search.points import EXAMPLES, RandomPoints, spread_examples
from invariant_sharpness.symmetries.search.refinement import Search
from invariant_sharpness.symmetries.search.remainder import remaining_null_space
from invariant_sharpness.symmetries.search.sparse import sparse_remainder
from invariant_sharpness.symmetries.search.verification import Verification

_MORE_THAN_UNKNOWNS = 16
_EQUATIONS_PER_POINT = 4
_LEAST_POINTS = 32
_MAX_ROUNDS = 4
_ONE_MORE_OF = 8
_MAX_ATTEMPTS = 3
_MAX_GROUPS = 400
"""The number of unknowns of which the null space is solved for at once, by all singular values."""

_LEAST_GROUPS = 4
"""For each axis of a parameter: what rescales it as a whole says little about its units."""


@renamed(most_unknowns="max_unknowns")
@checked_numbers
def find_symmetries(oracle: CurvatureOracle, *, seed: int = 0, max_unknowns: int = 10_000) -> Symmetries:
    r"""Find every way to rescale rows and columns of a network's parameters that leaves its outputs as they are.

    A rescaling :math:`\theta_i \to e^{t a_i} \theta_i` with one exponent for each row and one for each column of every
    parameter leaves the outputs f as they are for all t exactly if

    .. math:: \sum_i a_i \, \theta_i \, \frac{\partial f}{\partial \theta_i} = 0

    for all inputs and parameters. These equations are gathered at many random parameter points of the model's own size, on eight examples that
    are spread over the data. Solutions on few variables are found first, among those whose contributions are correlated: a unit's row and bias,
    and the columns that read it. Then it is shown that nothing else solves the equations. Each solution is brought to a sparse form, so that it
    can be read, and verified by finite rescalings with factors up to :math:`2^{10}`, up and down, at the model's own parameters and at a random
    point, and by the loss of all data.

    Biases and gains have one exponent for each entry; parameters of unknown role one for each index along each axis, or, if they have three axes
    or more, for each pair of indices.

    Up to ``max_unknowns`` rows and columns the search is complete: there are no other generators. Beyond that, what neither correlations show
    nor whole layers have may be missed. :attr:`Symmetries.complete` tells, and so does the printed result.

    Not found, because they are no such rescalings: permutations, mixings of attention heads, shifts of the output (see
    :class:`UnitPermutation`, :class:`HeadMixing`, :class:`OutputShift`), and rescalings that a constant breaks, such as the epsilon of a normalization layer.

    Parameters
    ----------
    oracle
        The oracle of the network, of which only outputs and their derivatives are used. The parameters are not changed.
    seed
        The seed of the random points.
    max_unknowns
        The number of rows and columns up to which every one is an unknown of one system of equations. Its cost grows with the third power, its memory with the second.

    Returns
    -------
    Symmetries
        A sequence of generators. Cost: in backward passes on eight examples, an eighth more than there are rows and columns, but at least 1024
        if these are more than 400, and 1024 if they are more than ``max_unknowns``; some 200 forward passes; and three losses of all data.

    Raises
    ------
    MissingCapabilityError
        If the oracle does not show its outputs (:class:`invariant_sharpness.protocol.JacobianOracle`).
    NonFiniteError
        If outputs are not differentiable at random parameters of the model's own size.

    Notes
    -----
    Source: this library; that (15)-(16) of Tsuzuku, Sato and Sugiyama (2019) are such rescalings of ReLU networks is theirs.

    Examples
    --------
    Two hidden ReLU units make two symmetries: what goes into a unit up, what goes out of it down.

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0]])])
    >>> symmetries = ish.find_symmetries(NetworkOracle(network, np.eye(2), np.ones((2, 1)), loss="mse"))
    >>> [str(generator) for generator in symmetries]
    ['layers.0.weight[0] up, layers.1.weight[:, 0] down', 'layers.0.weight[1] up, layers.1.weight[:, 1] down']
    """
    variables = ScalingVariables(oracle.groups)
    most = max(min(max_unknowns, _MAX_GROUPS), _LEAST_GROUPS * len(variables.axes))
    every_unit = len(variables) <= max(max_unknowns, most)
    points = RandomPoints(spread_examples(oracle, EXAMPLES), seed)
    verification = Verification(oracle, points)
    count = _count(len(variables), most, every_unit=every_unit)
    equations = _enough_equations(points, variables, count)
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        finder = Finder(equations, most, every_unit, machine_epsilon(oracle) ** (2 / 3))
        found = finder.run()
        verified = verification.verified(found)
        if len(verified) == len(found) or attempt == _MAX_ATTEMPTS:
            break
        # Units that are dead at nearly all points solve the equations by accident: look at more points.
        more = min(len(equations.coefficients), most + _MORE_THAN_UNKNOWNS)
        equations = _joined(equations, points, more)
    return Symmetries(
        oracle,
        variables,
        tuple(verified),
        searched="units" if every_unit else "related units",
        gap=finder.gap,
        largest_change=verification.largest_change,
        examples=verification.examples,
        idle=int((~equations.acting).sum()) + len({n for one in verification.untested for n in one.exponents}),
        refused=len(found) - len(verified) - len(verification.untested),
    )


def _enough_equations(points: RandomPoints, variables: ScalingVariables, count: int) -> Equations:
    """Gather equations, and more where variables do not act, until those that are left stay idle: a unit may be off at many points."""
    per_point = int(np.clip(count // _LEAST_POINTS, 1, _EQUATIONS_PER_POINT))
    equations = gather_equations(points, variables, range(count), per_point)
    for _ in range(_MAX_ROUNDS):
        idle = int((~equations.acting).sum())
        if not idle:
            break
        equations = _joined(equations, points, _LEAST_POINTS)
        if int((~equations.acting).sum()) == idle:
            break
    return equations


def _joined(equations: Equations, points: RandomPoints, more: int) -> Equations:
    """Add equations, each at a point of its own."""
    count = len(equations.coefficients)
    return equations.joined(gather_equations(points, equations.variables, range(count, count + more)))


def _count(unknowns: int, most: int, *, every_unit: bool) -> int:
    """Choose the number of equations: a few more than unknowns, and enough to see which units belong together."""
    if unknowns <= most:
        return unknowns + max(_MORE_THAN_UNKNOWNS, min(unknowns, _LEAST_POINTS))
    if not every_unit:
        return units.EQUATIONS
    return max(unknowns + unknowns // _ONE_MORE_OF, units.EQUATIONS)


@dataclass(slots=True)
class Finder:
    """The search in steps, each of which leaves out what those before it have found.

    Parameters
    ----------
    equations
        What the variables contribute to each equation.
    max_groups
        The number of unknowns of which the null space is solved for at once.
    every_unit
        Whether all variables are unknowns of one system, so that nothing can be overlooked.
    tolerance
        Singular values below this, relative to the largest, count as zero.
    """

    equations: Equations
    max_groups: int
    every_unit: bool
    tolerance: float
    gap: float = field(default=np.inf, init=False)

    def run(self) -> list[Generator]:
        """Find independent generators."""
        search = Search(self.equations, self.max_groups, self.tolerance)
        found: list[Generator] = []
        small = len(self.equations.variables) <= self.max_groups
        if not small:
            for variables in units.related_variables(self.equations, self.tolerance):
                found += search.among(variables)
        elimination, found = eliminated(found, self.equations)
        known = KnownSpace(elimination, len(self.equations.variables))
        elimination, found = eliminated([*found, *search.by_groups(known)], self.equations)
        self.gap = search.least_gap
        if self.every_unit and not small:
            rest = remaining_null_space(self.equations, np.array(elimination.pivots, dtype=np.intp), self.tolerance)
            found = eliminated([*found, *sparse_remainder(rest, search)], self.equations)[1]
            self.gap = min(self.gap, rest.gap)
        return found
