"""Attack: random networks in every framework against their dense Hessians, to find a value outside its error.

    python docs/experiments/attack.py torch --networks 500 --first 0

Layers, sharing, gates, routing, order of the data, precision, losses and batch sizes are drawn (``attack_networks``). Of each network the
loss, the diagonal of every group, the trace, the norms and, where its diagonal is exact, (17) are compared with the dense Hessian
in float64. A network that is refused is counted by the reason. The exit code is the number of values outside their error.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")  # compiles in half of the time
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("JAX_ENABLE_X64", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from attack_frameworks import ORACLES, Truth, relu_case, truth  # noqa: E402
from attack_networks import Case, case  # noqa: E402

import invariant_sharpness as ish  # noqa: E402
from invariant_sharpness.errors import InvariantSharpnessError  # noqa: E402
from invariant_sharpness.solvers.rows_columns import solve  # noqa: E402

LEVEL = 1 - 1e-6
"""Of the intervals of sampled values; of 500 networks with ten of them each, one would miss in two hundred runs."""

ROUNDING = {"float64": 1e-8, "float32": 2e-3}
"""Relative to the largest entry of the diagonal: a difference of terms that cancel has no more digits."""

OTHER_ORDER = 3
"""How much more another order of the sums may lose than torch does."""


class Finding(NamedTuple):
    """What a network gave: the number of values that were compared, those outside their error, or the reason of a refusal."""

    words: str
    compared: int
    wrong: tuple[str, ...] = ()
    refused: str = ""
    exact: int = 0


def attack(framework: str, seed: int) -> Finding:
    """Compare one network with its dense Hessian."""
    drawn = relu_case(case(seed)) if framework == "numpy" else case(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            oracle, names = ORACLES[framework](drawn)
            compared = list(comparisons(drawn, oracle, names, truth(drawn)))
    except InvariantSharpnessError as error:
        return Finding(drawn.words, 0, refused=f"{type(error).__name__}: {str(error)[:70]}")
    except Exception:
        return Finding(drawn.words, 0, wrong=(traceback.format_exc(),))
    wrong = tuple(text for text, right, _ in compared if not right)
    return Finding(drawn.words, len(compared), wrong, exact=sum(exact for *_, exact in compared))


def comparisons(drawn: Case, oracle: Any, names: dict[str, str], true: Truth) -> Iterator[tuple[str, bool, bool]]:
    """Each value in words, whether it is right within its error, and whether it was said to be exact."""
    rounding = rounding_of(drawn, true)
    loss = oracle.loss(oracle.parameters)
    yield f"loss {loss!r}, true {true.loss!r}", abs(loss - true.loss) <= rounding * max(abs(true.loss), 1e-3), True
    diagonal = np.diag(true.hessian)
    scale = float(np.abs(diagonal).max())
    found = ish.hessian_diagonal(oracle, probes=drawn.probes)
    for name, group in found.groups.items():
        expected = diagonal[true.places[names[name]]].reshape(drawn.parameters[names[name]].shape)
        if group.method.startswith("exact"):
            error = float(np.abs(group.values - expected).max())
            yield f"diagonal of {name} is off by {error:.2e} of {scale:.2e}", error <= rounding * scale, True
    yield within(
        "trace", ish.hessian_trace(oracle, probes=drawn.probes), float(diagonal.sum()), rounding * scale * len(diagonal)
    )
    frobenius = float(np.linalg.norm(true.hessian))
    yield within(
        "Frobenius norm", ish.hessian_frobenius_norm(oracle, probes=drawn.probes), frobenius, rounding * frobenius
    )
    spectral = float(np.abs(np.linalg.eigvalsh(true.hessian)).max())
    yield within("spectral norm", ish.hessian_spectral_norm(oracle), spectral, max(rounding, 1e-3) * spectral)
    if all(group.method.startswith("exact") for group in found.groups.values()):
        estimate = ish.normalized_sharpness(oracle, diagonal=found)
        expected = equation_17(oracle, names, diagonal, estimate.notes, true)
        yield within("(17)", estimate, expected, 10 * rounding * scale)


def rounding_of(drawn: Case, true: Truth) -> float:
    """What can be told in the network's precision, relative to the largest entry of the diagonal.

    Terms that cancel within the network, as those of a saturated softmax, are larger than what is left by no factor that its layers tell.
    So single precision is asked what it loses: by how much torch's own dense Hessian of the network in it is off.
    """
    if drawn.dtype == "float64":
        return ROUNDING["float64"]
    single, double = (np.diag(one.hessian) for one in (truth(drawn, torch.float32), true))
    return max(ROUNDING["float32"], OTHER_ORDER * float(np.abs(single - double).max() / np.abs(double).max()))


def within(what: str, estimate: ish.Estimate, true: float, rounding: float) -> tuple[str, bool, bool]:
    """Whether the value is the truth up to rounding, or its interval holds the truth."""
    low, high = estimate.interval(LEVEL) if estimate.standard_error else (estimate.value, estimate.value)
    return (
        f"{what} is {estimate}, true {true!r}",
        low - rounding <= true <= high + rounding,
        not estimate.standard_error,
    )


def equation_17(oracle: Any, names: dict[str, str], diagonal: Any, notes: Sequence[str], true: Truth) -> float:
    """The minimum of (17) over all weights; one whose rows nobody can tell has to be named in a note."""
    total, weights = 0.0, oracle.to_numpy(oracle.parameters)
    for group in oracle.groups:
        if len(group.shape) < 2 or (group.role == "other" and any(group.name in note for note in notes)):
            continue
        curvature = np.maximum(diagonal[true.places[names[group.name]]].reshape(group.shape), 0)
        total += solve(*(_matrix(array, group) for array in (curvature, weights[group.name] ** 2))).value
    return total


def _matrix(array: Any, group: ish.ParameterGroup) -> Any:
    """Rows by columns, summed over what is neither."""
    rows, columns = group.output_axes or (0,), group.input_axes or (1,)
    rest = tuple(axis for axis in range(array.ndim) if axis not in rows + columns)
    height, width = (math.prod(array.shape[axis] for axis in axes) for axes in (rows, columns))
    return array.transpose(rows + columns + rest).reshape(height, width, -1).sum(axis=2)


def main() -> int:
    """Attack a framework, print what was found, and return the number of values outside their error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("framework", choices=ORACLES)
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    started = time.perf_counter()
    seeds = range(arguments.first, arguments.first + arguments.networks)
    with get_context("spawn").Pool(arguments.processes, maxtasksperchild=10) as pool:
        found = pool.map(partial(attack, arguments.framework), seeds, chunksize=5)
    return report(arguments.framework, found, time.perf_counter() - started)


def report(framework: str, found: list[Finding], seconds: float) -> int:
    wrong = [(finding.words, text) for finding in found for text in finding.wrong]
    for words, text in wrong:
        print(f"WRONG: {words}\n    {text}")
    compared, exact = sum(f.compared for f in found), sum(f.exact for f in found)
    print(f"{framework}: {len(found)} networks in {seconds:.0f} s, {compared} values compared, {exact} of them exact")
    print(f"{len(wrong)} outside their error")
    for reason, count in Counter(finding.refused for finding in found if finding.refused).most_common():
        print(f"{count} refused: {reason}")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(min(main(), 100))
