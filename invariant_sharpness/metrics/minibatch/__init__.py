"""Measures that compare minibatches with one another, and with all of the data (Huszar 2018)."""

from __future__ import annotations

from invariant_sharpness.metrics.minibatch.congruent import CONGRUENT, congruent_contrastive_ratio
from invariant_sharpness.metrics.minibatch.contrastive import CONTRASTIVE, contrastive_ratio
from invariant_sharpness.metrics.minibatch.kl_regret import KL_REGRET, kl_regret
from invariant_sharpness.metrics.minibatch.local_regret import LOCAL_REGRET, local_regret

__all__ = ["MINIBATCH", "congruent_contrastive_ratio", "contrastive_ratio", "kl_regret", "local_regret"]

MINIBATCH = (LOCAL_REGRET, KL_REGRET, CONTRASTIVE, CONGRUENT)
