"""``python -m invariant_sharpness.cli``, for where the console script is not on the path."""

from __future__ import annotations

from invariant_sharpness.cli.application import main

main()
