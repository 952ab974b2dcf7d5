"""PyTorch models as curvature oracles. Importing this package does not import torch."""

from __future__ import annotations

from invariant_sharpness_torch.callbacks import lightning_callback, trainer_callback
from invariant_sharpness_torch.entry import backend, model_metric

__all__ = ["backend", "lightning_callback", "model_metric", "trainer_callback"]
