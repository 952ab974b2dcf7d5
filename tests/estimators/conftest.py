"""Leave out the files that import a framework which is not installed."""

from __future__ import annotations

from zoo.installed import files_that_lack

collect_ignore = files_that_lack(
    {
        "test_estimators_torch.py": ("torch",),
        "test_noise_of_layer_draws.py": ("torch",),
        "test_digits_spectrum.py": ("sklearn",),
        "test_estimators_coverage.py": ("sklearn",),
    }
)
