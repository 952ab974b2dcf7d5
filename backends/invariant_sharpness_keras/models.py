"""A model as it has to be for its curvature to be defined: built, with trainable parameters in enough digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from invariant_sharpness.errors import ModelError, NonFiniteError
from invariant_sharpness_keras.groups import unique_names

_PRECISIONS = ("float32", "float64")


def trainable_variables(model: Any) -> list[Any]:
    """The variables that are measured.

    Raises
    ------
    ModelError
        If the model is not built, none is trainable, or one is in half precision, complex or an integer.
    NonFiniteError
        If one is NaN or infinite; names it.
    """
    if isinstance(model, keras.Model) and not model.built:
        msg = "the model has no variables yet: call model.build(input_shape), or model(inputs) on one batch"
        raise ModelError(msg)
    variables = list(model.trainable_variables)
    if not variables:
        msg = "no variable of the model is trainable: there is nothing to measure (set model.trainable = True)"
        raise ModelError(msg)
    for name, variable in zip(unique_names(variables), variables, strict=True):
        _check_precision(name, variable)
        _check_finite(name, variable)
    return variables


def host_values(variables: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Copies of the variables on the host, in their own dtypes."""
    return [np.array(keras.ops.convert_to_numpy(tensor_of(v))) for v in variables]


def rounding(model: Any) -> float:
    """Return the machine epsilon of the least precise parameter, frozen ones included."""
    dtypes = {keras.backend.standardize_dtype(variable.dtype) for variable in model.variables}
    return max(float(np.finfo(dtype).eps) for dtype in dtypes if dtype in _PRECISIONS)


def check_layers(model: Any) -> None:
    """Raise if a layer computes in half precision, or has a wrong second derivative.

    Raises
    ------
    ModelError
        Names the layers and says what to do.
    """
    if not isinstance(model, keras.Model):
        return
    layers = model._flatten_layers()
    half = [layer.path for layer in layers if layer.compute_dtype not in (*_PRECISIONS, None) and layer.variables]
    if half:
        msg = (
            f"{_listed(half)} compute in {_dtypes(model)}, which has too few digits for curvature: build the model again "
            f'under keras.config.set_dtype_policy("float32"), and load its weights'
        )
        raise ModelError(msg)
    if keras.backend.backend() == "tensorflow":
        _check_resizing([layer for layer in layers if isinstance(layer, keras.layers.UpSampling2D)])


def _check_resizing(layers: list[Any]) -> None:
    wrong = [layer.path for layer in layers if layer.interpolation != "nearest"]
    if wrong:
        msg = (
            f'{_listed(wrong)} use UpSampling2D(interpolation="{layers[0].interpolation}"), whose second derivative is '
            f'wrong in TensorFlow: run Keras on JAX or PyTorch (KERAS_BACKEND), or use interpolation="nearest"'
        )
        raise ModelError(msg)


def _check_precision(name: str, variable: Any) -> None:
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if dtype not in _PRECISIONS:
        msg = (
            f"variable {name!r} has dtype {dtype}, but curvature needs float32 or float64: build the model again under "
            f'keras.config.set_dtype_policy("float32"), and load its weights'
        )
        raise ModelError(msg)


def _check_finite(name: str, variable: Any) -> None:
    wrong = int((~np.isfinite(host_values([variable])[0])).sum())
    if wrong:
        msg = f"variable {name!r} has {wrong} entries that are NaN or infinite: load a checkpoint that is finite"
        raise NonFiniteError(msg)


def tensor_of(variable: Any) -> Any:
    """Return the framework's own variable."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _dtypes(model: keras.Model) -> str:
    found = {layer.compute_dtype for layer in model._flatten_layers()} - {*_PRECISIONS, None}
    return " and ".join(sorted(found))


def _listed(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return ", ".join(quoted[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
