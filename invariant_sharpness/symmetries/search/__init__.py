"""How the rescalings of a network are found: equations, their null space, its sparse vectors, and their verification."""
