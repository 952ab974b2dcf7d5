"""Metrics at work: measured together, and certified under the symmetries of a model."""
