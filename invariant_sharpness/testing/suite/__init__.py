"""Tests for pytest without a test file: ``pytest --pyargs invariant_sharpness.testing.suite --invariant-metric package.module:metric``."""
