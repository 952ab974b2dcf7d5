"""Leave out the files that import a framework which is not installed."""

from __future__ import annotations

from zoo.installed import files_that_lack

collect_ignore = files_that_lack(
    {
        "test_ready_made_symmetries.py": ("torch",),
        "test_symmetries_complete.py": ("torch",),
        "test_symmetries_errors.py": ("torch",),
        "test_symmetries_found.py": ("torch",),
        "test_symmetries_properties.py": ("torch",),
        "test_symmetries_remainder.py": ("torch",),
        "test_symmetries_single_units.py": ("torch",),
        "test_symmetries_sound.py": ("torch",),
        "test_symmetries_three_axes.py": ("torch",),
        "test_symmetries_jax.py": ("jax", "flax"),
        "test_symmetries_real.py": ("torch", "transformers", "sklearn"),
        "test_symmetries_vit.py": ("torch", "transformers", "sklearn"),
    }
)
