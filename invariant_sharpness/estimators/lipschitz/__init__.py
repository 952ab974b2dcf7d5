"""How fast the Hessian changes near the parameters."""
