"""The scales of parameters on an accelerator, for which tensors on the CPU stand in: those that are fitted on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import pytest
import torch

from invariant_sharpness.coordinates import balanced, magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import ParameterGroup, placement
from zoo import host_reads

GROUPS = (
    ParameterGroup("dense", (3, 4), "matrix", (0,), (1,)),
    ParameterGroup("dense.bias", (3,), "bias", (0,), owner="dense"),
    ParameterGroup("kernel", (3, 2, 5), "convolution", (2,), (1,)),
    ParameterGroup("grouped", (4, 2, 3, 2), "convolution", (0,), (1,), channel_groups=2),
    ParameterGroup("grouped.bias", (4,), "bias", (0,), owner="grouped"),
    ParameterGroup("divided", (4, 2, 3), "convolution", (0,), (1,), channel_groups=2),
    ParameterGroup("transposed", (4, 7), "matrix", (1,), (0,)),
    ParameterGroup("gain", (4,), "norm", (0,)),
    ParameterGroup("gain.bias", (4,), "bias", (0,), owner="gain"),
    ParameterGroup("zeros", (2, 3), "matrix", (0,), (1,)),
    ParameterGroup("stray", (2,), "other"),
)


@dataclass
class Placed:
    """Of an oracle, what scales are made of: tensors, and what is copied to the host."""

    dtype: torch.dtype
    with_zeros: bool
    xp: Any = xp
    groups: tuple[ParameterGroup, ...] = GROUPS

    def __post_init__(self) -> None:
        rng, self.copied = np.random.default_rng(0), set[str]()
        arrays = {g.name: torch.tensor(rng.normal(size=g.shape), dtype=self.dtype) for g in GROUPS}
        if self.with_zeros:
            arrays["zeros"][:] = 0
            arrays["dense.bias"][1] = 0
            arrays["stray"][0] = 0
        self.parameters = ParameterVector(xp, arrays)

    def to_numpy(self, vector: ParameterVector) -> dict[str, Any]:
        self.copied |= vector.arrays.keys()
        return {name: array.double().numpy() for name, array in vector.arrays.items()}

    def from_numpy(self, arrays: Any) -> ParameterVector:
        return ParameterVector(xp, {g.name: torch.tensor(arrays[g.name], dtype=self.dtype) for g in GROUPS})


@pytest.mark.parametrize("with_zeros", [False, True], ids=["no zeros", "zeros"])
@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1e-13), (torch.float32, 3e-7)], ids=str)
@pytest.mark.parametrize("scale", [balanced, magnitudes], ids=lambda s: s.__name__)
def test_scales_are_those_of_the_host(
    scale: Any, dtype: torch.dtype, least: float, with_zeros: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scale(Placed(dtype, with_zeros))
    monkeypatch.setattr(placement, "_takes_new_arrays", lambda _: True)
    found = scale(Placed(dtype, with_zeros))
    assert found.arrays.keys() == expected.arrays.keys(), f"the groups are {list(found.arrays)}"
    for name, array in expected.arrays.items():
        error = float(((found[name] - array) / array).abs().max())
        assert error <= least, f"{scale.__name__} of {name} differs by {error:.1e}"
        assert (found[name].dtype, found[name].stride()) == (array.dtype, array.stride()), f"{name}: {found[name]}"


def test_only_layers_with_zeros_are_copied_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_takes_new_arrays", lambda _: True)
    plain, mixed = Placed(torch.float64, with_zeros=False), Placed(torch.float64, with_zeros=True)
    balanced(plain)
    balanced(mixed)
    own = {"grouped", "grouped.bias"}
    assert plain.copied == own, f"{plain.copied} were copied: a grouped kernel with a bias has zeros of its own"
    assert mixed.copied == own | {"zeros", "dense", "dense.bias"}, f"{mixed.copied} were copied"


def test_the_host_reads_once_whether_there_are_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_takes_new_arrays", lambda _: True)
    oracle = Placed(torch.float64, with_zeros=False)
    with host_reads.counted_reads() as reads:
        magnitudes(oracle)
        assert reads == [], f"magnitudes read {reads}"
        balanced(oracle)
    assert reads.count("tolist") == 1, f"balanced read {reads}"
    assert set(reads) <= {"tolist", "numpy"}, f"balanced read {reads}"
