"""What names and shapes do not tell of the parameters of a Flax NNX module: the channel groups of convolutions."""

from __future__ import annotations

from flax import nnx

from invariant_sharpness.protocol import ParameterGroup


def described_groups(module: nnx.Module) -> tuple[ParameterGroup, ...]:
    """The kernels of grouped convolutions."""
    return tuple(
        _kernel((*path, "kernel"), part)
        for path, part in nnx.iter_modules(module)
        if isinstance(part, nnx.Conv) and part.feature_group_count > 1
    )


def _kernel(path: tuple[object, ...], module: nnx.Conv) -> ParameterGroup:
    shape = tuple(module.kernel.shape)
    outputs, inputs = (len(shape) - 1,), (len(shape) - 2,)
    return ParameterGroup(".".join(map(str, path)), shape, "convolution", outputs, inputs, module.feature_group_count)
