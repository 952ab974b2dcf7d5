"""The command line, ``invariant-sharpness``."""

from __future__ import annotations

from invariant_sharpness.cli.application import app, main

__all__ = ["app", "main"]
