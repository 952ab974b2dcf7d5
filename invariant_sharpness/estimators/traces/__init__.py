"""The trace of the Hessian, with its standard error."""
