"""All rescaling symmetries of a network, found from its Jacobian alone."""

from __future__ import annotations

from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.symmetries.generators import Symmetries
from invariant_sharpness.symmetries.search.equations import equations
from invariant_sharpness.symmetries.search.generators import Search
from invariant_sharpness.symmetries.search.verification import Verification
from invariant_sharpness.symmetries.units import Units

_MORE_THAN_UNKNOWNS = 16
_ATTEMPTS = 3
_LEAST_BLOCKS = 4
"""For each side of a parameter: what moves it as a whole says little about its units."""


def find_symmetries(oracle: CurvatureOracle, *, seed: int = 0, most_unknowns: int = 400) -> Symmetries:
    r"""Find every way to rescale rows and columns of a network's parameters that leaves its outputs alone.

    A rescaling :math:`\theta_i \to e^{t a_i} \theta_i` with one exponent for each row and one for each column of every
    parameter leaves the outputs f alone for all t exactly if

    .. math:: \sum_i a_i \, \theta_i \, \frac{\partial f}{\partial \theta_i} = 0

    for all inputs and parameters. These equations are gathered at many random parameter points of the model's own size, and solved by
    singular values. The solutions are brought to a sparse form by linear programs, so that each can be read, and verified by finite
    rescalings with factors up to 1e3, at the model's own parameters and at fresh ones.

    Biases and gains have one exponent for each entry; parameters of unknown role one for each index along each axis.
    Where there are more unknowns than ``most_unknowns``, units are first put together in blocks of neighbours, and each solution is then split into
    those of single units. What is found so is verified as everything is; what moves only some units of a block, without the others being movable in
    the same way, may be missed. :attr:`Symmetries.complete` says whether the search was complete, and printing says what was not searched.

    Not found, because they are no such rescalings: permutations, mixings of attention heads, shifts of the output (see
    :class:`UnitPermutation`, :class:`HeadMixing`, :class:`OutputShift`), and rescalings that a constant breaks, such as the epsilon of a normalization layer.

    Parameters
    ----------
    oracle
        Of the network; only its outputs and their derivatives are used. The parameters are not changed.
    seed
        Of the random points.
    most_unknowns
        Unknowns that are searched at once, but at least four blocks for each side of a parameter. Time grows with the third power.

    Returns
    -------
    Symmetries
        A sequence of generators. Cost: 20 backward passes on eight examples more than there are unknowns, and up to 200 forward passes.

    Raises
    ------
    MissingCapabilityError
        If the oracle does not show its outputs (:class:`invariant_sharpness.protocol.JacobianOracle`).
    NonFiniteError
        If outputs are not differentiable at random parameters of the model's own size.
    """
    units = Units(oracle.groups)
    most = max(most_unknowns, _LEAST_BLOCKS * len(units.sides))
    count = min(len(units), most) + _MORE_THAN_UNKNOWNS
    verification = Verification(oracle, seed)
    system = equations(oracle, units, count, seed)
    attempt = 1
    while True:
        search = Search(system, most, tolerance=machine_epsilon(oracle) ** (2 / 3))
        found = search.run()
        held = verification.held(found)
        if len(held) == len(found) or attempt == _ATTEMPTS:
            break
        # Units that are dead at nearly all points solve the equations by accident: look at more points.
        system = system.joined(equations(oracle, units, count, seed, attempt))
        attempt += 1
    idle = int((~system.acting).sum())
    refused = len(found) - len(held)
    return Symmetries(
        oracle, units, tuple(held), search.widest, search.least_gap, verification.largest_change, idle, refused
    )
