"""Leave out the files that import a framework which is not installed."""

from __future__ import annotations

from zoo.installed import files_that_lack

collect_ignore = files_that_lack(
    {
        "test_check_innocent.py": ("torch", "jax"),
        "test_check_node_curvature.py": ("torch",),
        "test_check_residual_diagonal.py": ("torch",),
        "test_check_metric_models.py": ("torch",),
    }
)
