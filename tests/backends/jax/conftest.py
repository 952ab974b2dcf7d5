"""Leave out all files where JAX is not installed, and those whose other library is not."""

from __future__ import annotations

from zoo.installed import files_that_lack, missing

collect_ignore_glob = ["test_*.py"] if missing("jax") else []
collect_ignore = files_that_lack(
    {
        "test_jax_certificate.py": ("flax",),
        "test_jax_digits.py": ("flax", "sklearn"),
        "test_jax_haiku.py": ("haiku",),
        "test_jax_half_precision.py": ("flax",),
        "test_jax_layer_squares.py": ("equinox", "flax"),
        "test_jax_models.py": ("equinox", "flax"),
        "test_jax_torch.py": ("torch",),
    }
)
