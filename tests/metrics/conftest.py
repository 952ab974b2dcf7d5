"""Leave out the files that import a framework which is not installed."""

from __future__ import annotations

from zoo.installed import files_that_lack

ON_TORCH = (
    "test_every_invariance.py",
    "test_metric_head_normalized.py",
    "test_metric_relative_flatness.py",
    "test_metric_weight_norms.py",
    "test_public_measures.py",
)
collect_ignore = files_that_lack(dict.fromkeys(ON_TORCH, ("torch",)))
