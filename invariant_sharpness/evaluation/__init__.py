"""Metrics put to use: measured together, certified under the symmetries of a model, and found by name."""
