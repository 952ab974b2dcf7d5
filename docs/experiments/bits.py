"""Every method and every metric, on every engine, as bits: what a change of the inside must not move.

Record in two work trees on the same machine (bits differ between processors), then compare:

    python docs/experiments/bits.py record before.json     # in the one, with PYTHONPATH=.:backends
    python docs/experiments/bits.py record after.json      # in the other
    python docs/experiments/bits.py compare before.json after.json

Only names that version 0.1 has are used. An engine that is not installed is left out; Keras' engines run in processes of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
from bits_networks import GROUPS, ORACLES  # noqa: E402


def methods(oracle: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every method of every capability, where the model is and at another point."""
    host = oracle.to_numpy(oracle.parameters)
    rng = np.random.default_rng(11)
    moved = oracle.from_numpy({name: array * (1 + 0.1 * rng.normal(size=array.shape)) for name, array in host.items()})
    u, v = (oracle.from_numpy({k: rng.normal(size=a.shape) for k, a in host.items()}) for _ in range(2))
    names = frozenset(host)
    some = frozenset(list(host)[::2])
    for place, p in {"here": oracle.parameters, "moved": moved}.items():
        cotangents = rng.normal(size=oracle.outputs(p, 20).shape)
        yield f"{place} loss", lambda p=p: oracle.loss(p)
        yield f"{place} gradient", lambda p=p: oracle.gradient(p)
        yield f"{place} product", lambda p=p: oracle.hessian_vector_product(p, u)
        yield f"{place} products", lambda p=p: oracle.hessian_vector_products(p, [u, v, u + v])
        yield f"{place} gauss-newton product", lambda p=p: oracle.gauss_newton_vector_product(p, u)
        yield f"{place} gauss-newton diagonal", lambda p=p: oracle.gauss_newton_diagonal(p, names)
        yield f"{place} gauss-newton diagonal of some", lambda p=p: oracle.gauss_newton_diagonal(p, some)
        if oracle.samples_outputs:
            yield (
                f"{place} sampled diagonal",
                lambda p=p: oracle.sampled_gauss_newton_diagonal(p, names, range(2, 5), 7),
            )
        yield f"{place} second moment", lambda p=p: oracle.gradient_second_moment(p)
        yield f"{place} slopes", lambda p=p: oracle.directional_second_moment(p, v)
        yield f"{place} output curvature", lambda p=p: oracle.output_curvature(p, u, 3)
        yield f"{place} outputs", lambda p=p: oracle.outputs(p, 20)
        yield f"{place} pushforward", lambda p=p: oracle.jacobian_vector_product(p, u, 20)
        yield f"{place} pullback", lambda p=p, c=cotangents: oracle.vector_jacobian_product(p, c)
    yield "subset gradient", lambda: oracle.subset(range(3, 30, 2)).gradient(moved)


def metrics(oracle: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every metric of the library, by its public name, with its defaults and seed 1 where it takes one."""
    from inspect import signature

    import invariant_sharpness as ish

    for name in sorted(ish.METRICS):
        metric = getattr(ish, name)
        seed = {"seed": 1} if "seed" in signature(metric).parameters else {}
        yield f"metric {name}", lambda metric=metric, seed=seed: metric(oracle, **seed)


def numbers_of(found: Any, oracle: Any) -> Any:
    """All numbers of a result, in float64."""
    if isinstance(found, (list, tuple)):
        return np.concatenate([np.ravel(numbers_of(part, oracle)) for part in found])
    if hasattr(found, "arrays"):
        return np.concatenate([array.ravel() for array in oracle.to_numpy(found).values()])
    if hasattr(found, "per_group"):
        shares = [share.value for share in found.per_group.values()]
        return np.array([found.value, found.standard_error or 0.0, *shares], dtype=np.float64)
    return np.asarray(found, dtype=np.float64)


def measured(compute: Callable[[], Any], oracle: Any) -> dict[str, Any]:
    """A digest, and the numbers where they are few."""
    try:
        found = np.ravel(numbers_of(compute(), oracle)) + 0.0  # makes -0.0 positive
    except Exception as error:  # what is refused is recorded as such
        return {"raised": f"{type(error).__name__}: {error}"}
    digest = hashlib.sha256(np.ascontiguousarray(found).tobytes()).hexdigest()[:16]
    return {"digest": digest, "numbers": [float(number) for number in found[:400]]}


def record_group(group: str) -> dict[str, Any]:
    """Everything about one engine, in this process."""
    warnings.simplefilter("ignore")
    if group.startswith("keras-"):
        os.environ["KERAS_BACKEND"] = group.removeprefix("keras-")
    import invariant_sharpness as ish

    found: dict[str, Any] = {}
    for name, make in ORACLES[group]():
        oracle = make()
        for what, compute in (*methods(oracle), *metrics(oracle)):
            found[f"{group} | {name} | {what}"] = measured(compute, oracle)
        with ish.memory_limit(20_000):
            found[f"{group} | {name} | small memory product"] = measured(
                lambda oracle=oracle: oracle.hessian_vector_product(oracle.parameters, oracle.parameters), oracle
            )
        print(group, name, "done", file=sys.stderr, flush=True)
    return found


def record(path: str, groups: list[str]) -> None:
    """Each engine in a process of its own, since Keras has one backend a process."""
    found: dict[str, Any] = {}
    for group in groups or GROUPS:
        run = subprocess.run([sys.executable, __file__, "group", group], stdout=subprocess.PIPE, text=True, check=True)
        found |= json.loads(run.stdout)
    Path(path).write_text(json.dumps(found), encoding="utf-8")


def compare(before: str, after: str) -> int:
    """Print what moved, by how much relative to the largest number, and how many are equal."""
    old, new = (json.loads(Path(path).read_text(encoding="utf-8")) for path in (before, after))
    changed = {key for key in old.keys() & new.keys() if old[key].get("digest") != new[key].get("digest")}
    for key in sorted(changed):
        print(f"{_change(old[key], new[key]):>10}  {key}")
    for key in sorted(old.keys() ^ new.keys()):
        print(f"{'missing':>10}  {key}")
    print(f"{len(old.keys() & new.keys()) - len(changed)} equal bit by bit, {len(changed)} moved")
    return int(bool(changed))


def _change(old: dict[str, Any], new: dict[str, Any]) -> str:
    if "numbers" not in old or "numbers" not in new:
        return "refused" if "raised" in new else "measured"
    a, b = np.array(old["numbers"]), np.array(new["numbers"])
    if a.shape != b.shape:
        return "shape"
    return f"{np.abs(a - b).max() / max(np.abs(a).max(), 1e-300):.1e}"


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "record":
        record(arguments[0], arguments[1:])
    elif command == "group":
        print(json.dumps(record_group(arguments[0])))
    else:
        sys.exit(compare(*arguments))
