"""Blocks of the Gauss-Newton matrix between a few parameters each."""
