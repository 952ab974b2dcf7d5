"""The search for the rescalings of a network: linear equations, their overlap graph, their null space, its refinement, and verification."""
