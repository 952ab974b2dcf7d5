"""Contrastive ratios (Huszar 2018): the flatness of minibatches over that of the mean loss, and one that no reparametrization changes."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np

from invariant_sharpness.coordinates import GaussNewton, Scaled
from invariant_sharpness.coordinates.scales import balanced
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.compressed_matrices import Compressions, compressions
from invariant_sharpness.estimators.minibatches import jackknife, minibatches_of
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.hessian_norms import hessian_spectral_norm
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Bracket, Estimate

_ORTHOGONAL = 1e-6
"""A value this close to the largest one, relative to it, is that of a network that moves each output by itself."""


@metric(
    symbol=r"C",
    equation=r"\frac{E_b[\lVert H_b \rVert_2]}{\lVert E_b[H_b] \rVert_2}",
    summary="Sharpness of single minibatches over that of the mean loss.",
    needs="Hessian-vector products of parts of the data",
    cost="twice that of the spectral norm",
    invariances={"permutation", "output_shift"},
    pitfalls=(
        "It was proposed as invariant by construction, and is not (erratum E12). Numerator and denominator "
        "are moved by a rescaling, but not by the same factor, unless the measure is linear in the Hessian, "
        "and then the ratio is 1."
    ),
    reference="Huszar (2018)",
)
def contrastive_ratio(
    oracle: CurvatureOracle,
    *,
    measure: Callable[[CurvatureOracle], Estimate] = hessian_spectral_norm,
    minibatches: int = 8,
    seed: int = 0,
) -> Estimate:
    r"""Average a measure over minibatches, divided by the measure of the mean loss: :math:`E_b[S(L_b)] / S(E_b[L_b])`.

    The minibatches are disjoint, of equal size, and cut at random; the denominator is measured on all of them together.

    - ``hessian_trace``, and whatever else is linear in the Hessian: identically 1, which says nothing.
    - ``hessian_spectral_norm`` (default): at least 1 where the largest eigenvalue is that of largest magnitude, since it is convex. **Not
      invariant** to rescaling, although proposed as invariant by construction (erratum E12); it is on ``ish.Scaled(oracle, s)``.
    - ``normalized_sharpness``: at most 1 where no curvature is clipped, since it is concave. Invariant to row and column rescaling, as is
      every ratio of an invariant measure.

    The standard error is the jackknife's over the minibatches, taken as independent. As they make up the data together, it is too large,
    for a linear measure infinitely so. Cost: twice that of the measure.
    Source: Huszar (2018).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    measure
        A metric, or another callable ``oracle -> Estimate``.
    minibatches
        Number of minibatches that the data are cut into, at least 3.
    seed
        Seed of the cut.

    Returns
    -------
    Estimate
        The mean ratio, with the jackknife's standard error.

    Raises
    ------
    ArgumentError
        If there are fewer than three minibatches, or more than examples, or the measure of the mean loss is zero.
    MissingCapabilityError
        If the oracle cannot be restricted to some examples.

    Examples
    --------
    Whatever is linear in the Hessian has the ratio 1:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[2.0]]),))
    >>> oracle = ish.oracle(network, (np.ones((3, 1)), np.array([[1.0], [1.0], [3.0]])), loss="mse")
    >>> ish.contrastive_ratio(oracle, measure=ish.hessian_trace, minibatches=3).value
    1.0
    """
    cut = minibatches_of(oracle, minibatches, seed, "contrastive_ratio")
    estimates, whole = [measure(part) for part in cut.parts], measure(cut.together)
    if whole.value == 0:
        msg = f"{whole.name} of the mean loss is zero, so there is no ratio to it: take another measure"
        raise ArgumentError(msg)
    values = np.array([estimate.value for estimate in estimates]) / whole.value
    return Estimate(
        name="contrastive_ratio",
        value=float(values.mean()),
        method=f"{whole.name} of {minibatches} minibatches",
        standard_error=jackknife(lambda kept: float(values[kept].mean()), minibatches),
        degrees_of_freedom=minibatches - 1,
        converged=all(estimate.converged for estimate in (*estimates, whole)),
    )


@metric(
    symbol=r"C_{\mathrm{congruent}}",
    equation=r"E_b \bigl[ \lVert \bar G^{+1/2} G_b\, \bar G^{+1/2} \rVert_F^2 \bigr], \qquad \bar G = E_b[G_b]",
    summary="Curvature of single minibatches, in coordinates in which that of the mean loss is the identity.",
    needs="Gauss-Newton products of parts of the data",
    cost="up to 256 Gauss-Newton products",
    invariances={"linear", "unit_split", "output_scale", "output_shift"},
    pitfalls=(
        "Every direction counts the same, however small the curvature along it, so the value hangs on the decision what "
        "is rounding; where the eigenvalues fall towards zero without a gap, single and double precision decide "
        "differently. In a network with more parameters than the data have outputs it is the number of minibatches times "
        "the rank, whatever was learned, and in a large one the rank is out of reach."
    ),
    reference="this library; not in the literature. It answers to the contrastive ratios of Huszar (2018)",
)
@renamed(directions="num_matvecs")
def congruent_contrastive_ratio(
    oracle: CurvatureOracle, *, minibatches: int = 8, num_matvecs: int = 256, seed: int = 0
) -> Estimate:
    r"""Average the squared curvature of minibatches, in the coordinates in which the mean curvature is the identity.

    .. math::
        E_b \lVert \bar G^{+1/2}\, G_b\, \bar G^{+1/2} \rVert_F^2 , \qquad \bar G = E_b[G_b]

    with the Gauss-Newton matrices :math:`G_b` of disjoint minibatches of equal size, cut at random. They are positive semidefinite, so the range
    of each lies in that of their mean, which the Hessians need not grant.

    Write :math:`\bar G = B^T B`, with the rows of B in m blocks, one for each minibatch. Then the value is
    :math:`m \sum_b \lVert \Pi_{bb} \rVert_F^2`, with the diagonal blocks of the projector :math:`\Pi` on the range of B: a function of the
    network's outputs alone, invariant to **every** smooth reparametrization. It lies between the rank r of :math:`\bar G`, where all minibatches
    have the same curvature, and m r; a note has the rank, and the value divided by it. (The mean of the traces is r, whatever the network.)

    **Degenerate** where the network can move each output by itself, as an interpolating one: :math:`\Pi` is the identity, and the value m r.
    A note says so.

    The projector is that of random directions in balanced coordinates. Where the rank exceeds their number, the value is that of
    their span, a lower bound, which is invariant to row and column rescaling alone; ``converged`` is false, and ``bracket`` is open above.
    Where eigenvalues fall to rounding without a gap, ``converged`` is false, too.
    The standard error is the jackknife's over the minibatches, taken as independent. As they make up the data together, it is too large.

    Cost: at most ``num_matvecs`` products with the Gauss-Newton matrix, and as many vectors in memory.
    Source: this library; not in the literature. Huszar (2018) proposes contrastive ratios, whose value a rescaling moves: erratum E12.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    minibatches
        Number of minibatches that the data are cut into, at least 3.
    num_matvecs
        Largest number of products, which is that of random directions; fewer are taken where the rank is smaller.
    seed
        Seed of the cut and of the directions.

    Returns
    -------
    Estimate
        The mean square, with the jackknife's standard error, and a bracket that is open above where the rank is not exhausted.

    Raises
    ------
    ArgumentError
        If there are fewer than three minibatches, or more than examples, or the vectors do not fit into the memory limit.
    MissingCapabilityError
        If the oracle cannot be restricted to some examples, or has no Gauss-Newton products.

    Examples
    --------
    Three examples with the same input have the same curvature, of rank 1:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[2.0]]),))
    >>> oracle = ish.oracle(network, (np.ones((3, 1)), np.array([[1.0], [1.0], [3.0]])), loss="mse")
    >>> round(ish.congruent_contrastive_ratio(oracle, minibatches=3).value, 9)
    1.0
    """
    curved = GaussNewton(Scaled(oracle, balanced(oracle)))
    parts, _ = minibatches_of(curved, minibatches, seed, "congruent_contrastive_ratio")
    found = compressions(parts, probes=num_matvecs, seed=seed)
    squares = np.sum(found.whitened**2, axis=(1, 2))
    value = float(squares.mean())
    complete = found.rank < found.directions or found.directions == sum(group.size for group in oracle.groups)
    return Estimate(
        name="congruent_contrastive_ratio",
        value=value,
        method=f"{minibatches} minibatches, Gauss-Newton matrix",
        standard_error=jackknife(lambda kept: float(squares[kept].mean()), minibatches),
        degrees_of_freedom=minibatches - 1,
        bracket=None if complete else Bracket(value, inf),
        converged=complete and found.is_clear,
        notes=_notes(found, value, minibatches, complete=complete),
    )


def _notes(found: Compressions, value: float, minibatches: int, *, complete: bool) -> tuple[str, ...]:
    rank = found.rank
    notes = [f"rank {rank}, value / rank {value / rank:.6g}" if rank else "no minibatch has any curvature"]
    if not complete:
        notes.append(
            f"{found.directions} directions do not exhaust the range: the value is a lower bound, that of their span; take more directions"
        )
    if not found.is_clear:
        notes.append(
            "the curvature falls to rounding without a gap, so the rank is not certain, and with it the value: measure in double precision"
        )
    if found.is_negative:
        notes.append(
            "the loss is not convex in the outputs: directions of negative mean curvature are left out, so the value is not invariant"
        )
    elif rank and value >= (1 - _ORTHOGONAL) * minibatches * rank:
        notes.append(
            "the network can move each output by itself, so the value says nothing about what it has learned; measure it on more examples"
        )
    return tuple(notes)
