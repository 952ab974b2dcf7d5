"""Extreme eigenvalues and the density of all."""
