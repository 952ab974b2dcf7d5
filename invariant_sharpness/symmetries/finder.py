"""All rescaling symmetries of a network, found from its Jacobian alone."""

from __future__ import annotations

from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.symmetries.generators import Symmetries
from invariant_sharpness.symmetries.scaling_variables import ScalingVariables
from invariant_sharpness.symmetries.search.equations import gather_equations
from invariant_sharpness.symmetries.search.points import EXAMPLES, RandomPoints, spread_examples
from invariant_sharpness.symmetries.search.refinement import Search
from invariant_sharpness.symmetries.search.verification import Verification

_MORE_THAN_UNKNOWNS = 16
_MORE_PART = 10
"""The least singular value of a random matrix that is nearly square is as small as one over its size: with a tenth more rows it is a fortieth of the largest."""

_MAX_ATTEMPTS = 3
_MOST_MORE = 1000
"""Equations for one more attempt."""

_MOST_GROUPS = 400
"""These are searched several times, each time in finer groups, and the time of linear programs grows with the third power."""

_LEAST_GROUPS = 4
"""For each axis of a parameter: what rescales it as a whole says little about its units."""


@renamed(most_unknowns="max_unknowns")
@checked_numbers
def find_symmetries(oracle: CurvatureOracle, *, seed: int = 0, max_unknowns: int = 10_000) -> Symmetries:
    r"""Find every way to rescale rows and columns of a network's parameters that leaves its outputs as they are.

    A rescaling :math:`\theta_i \to e^{t a_i} \theta_i` with one exponent for each row and one for each column of every
    parameter leaves the outputs f as they are for all t exactly if

    .. math:: \sum_i a_i \, \theta_i \, \frac{\partial f}{\partial \theta_i} = 0

    for all inputs and parameters. These equations are gathered at many random parameter points of the model's own size, and solved by
    singular values. The solutions are brought to a sparse form by linear programs, so that each can be read, and verified by finite
    rescalings with factors between 256 and 1024 and inverses of some between 32 and 1024, at the model's own parameters and at random points where they act, on 29 examples
    spread over the data, and by the loss of all data.

    Biases and gains have one exponent for each entry; parameters of unknown role one for each index along each of two axes, or for each two
    indices of any two of more axes.
    First come the symmetries of single units: the variables that have the same number on axes of the same length are solved by themselves, for
    each number. Others are sought among groups of neighbouring units, and split as far as it goes. At last, where no more than ``max_unknowns``
    exponents remain beside one for each known generator, all of them are unknowns, and no symmetry is left out; :attr:`Symmetries.complete` says
    so. Where more remain, what rescales single units of different numbers may be missed, and printing says so.

    Not found, because they are no such rescalings: permutations, mixings of attention heads, shifts of the output (see
    :class:`UnitPermutation`, :class:`HeadMixing`, :class:`OutputShift`), and rescalings that a constant breaks, such as the epsilon of a normalization layer.

    Parameters
    ----------
    oracle
        The oracle of the network, of which only outputs and their derivatives are used. The parameters are not changed.
    seed
        The seed of the random points.
    max_unknowns
        The number of exponents, beside one for each generator that is known, up to which the search is completed: each is an unknown of its own.
        For u of them: 1.1 u + 16 equations, :math:`\tfrac{4}{3} u^3` operations and memory for about six matrices of :math:`u^2`, all in
        float64; for 10,000 each has 800 MB.

    Returns
    -------
    Symmetries
        A sequence of generators. Cost: one backward pass on eight examples for each equation, of which there are 1.1 u + 16 for u unknowns, or
        416 where there are more unknowns than ``max_unknowns``; some 300 forward passes on 29, and a few of all data.

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
    points = RandomPoints(spread_examples(oracle, EXAMPLES), seed)
    verification = Verification(oracle, points)
    groups = max(min(max_unknowns, _MOST_GROUPS), _LEAST_GROUPS * len(variables.axes))
    system = gather_equations(points, variables, min(len(variables), groups) + _MORE_THAN_UNKNOWNS)
    attempt = 1
    while True:
        search = Search(system, [], machine_epsilon(oracle))
        widest = _search(search, points, groups, max_unknowns)
        verified = verification.verified(search.known)
        refused = len(search.known) - len(verified)
        if not refused or attempt == _MAX_ATTEMPTS:
            break
        # Units that are dead at nearly all points solve the equations by accident: look at more points.
        count = len(search.equations.coefficients)
        system = search.equations.at_least(count + min(count, _MOST_MORE), points)
        attempt += 1
    return Symmetries(
        oracle,
        variables,
        tuple(sorted(verified, key=lambda generator: min(generator.exponents))),
        block_width=widest,
        gap=search.least_gap,
        largest_change=verification.largest_change,
        idle=int((~search.equations.acting).sum()),
        refused=refused,
    )


def _search(search: Search, points: RandomPoints, groups: int, max_unknowns: int) -> int:
    """Search in three steps, the last of which all unknowns take part in, if they are few enough; return the width of the widest group of the last one."""
    search.among_aligned_units()
    widest = search.among_groups(groups)
    unknown = int(search.equations.acting.sum()) - len(search.known)
    if widest == 1 or unknown > max_unknowns:
        return widest
    search.equations = search.equations.at_least(unknown + unknown // _MORE_PART + _MORE_THAN_UNKNOWNS, points)
    search.among_all()
    return 1
