"""Orthonormal vectors in parameter space: bases, sketches of the range, and Krylov spaces."""
