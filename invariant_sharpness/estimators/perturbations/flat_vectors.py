"""One long array on the host for each vector, for solvers that know nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector

HostArray = npt.NDArray[np.float64]


def flattened(oracle: CurvatureOracle, vector: ParameterVector) -> HostArray:
    """All entries, group after group."""
    arrays = oracle.to_numpy(vector)
    return np.concatenate([arrays[group.name].ravel() for group in oracle.groups])


def unflattened(oracle: CurvatureOracle, values: HostArray) -> ParameterVector:
    """The vector with these entries."""
    ends = np.cumsum([group.size for group in oracle.groups])[:-1]
    parts = zip(oracle.groups, np.split(values, ends), strict=True)
    return oracle.from_numpy({group.name: part.reshape(group.shape) for group, part in parts})
