"""The entry point of the Keras backend: it recognizes models by their type and loads a framework only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invariant_sharpness_keras.oracle import KerasOracle

_BASES = {
    ("keras.src.models.model", "Model"),
    ("tensorflow.python.module.module", "Module"),
}


class KerasBackend:
    """The backend for every ``keras.Model`` (Keras 3, on TensorFlow, JAX or PyTorch) and every ``tf.Module``."""

    name = "Keras"

    def accepts(self, model: object, /) -> bool:
        """Whether ``model`` is a ``keras.Model`` or a ``tf.Module``, told by the names of its base classes."""
        return any((base.__module__, base.__qualname__) in _BASES for base in type(model).__mro__)

    def oracle(self, model: Any, data: Any, /, *, loss: Any, **options: Any) -> KerasOracle:
        """The oracle of ``model``; see :func:`invariant_sharpness_keras.building.build_oracle` for the options."""
        from invariant_sharpness_keras.building import build_oracle

        return build_oracle(model, data, loss, **options)


backend = KerasBackend()
