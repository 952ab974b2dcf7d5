"""What is measured: vectors of parameters, their groups, and the matrices that groups form."""
