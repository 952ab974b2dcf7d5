"""Keras models and TensorFlow modules as curvature oracles. Importing this package imports neither."""

from __future__ import annotations

from invariant_sharpness_keras.callbacks import keras_callback
from invariant_sharpness_keras.entry import backend, model_metric

__all__ = ["backend", "keras_callback", "model_metric"]
