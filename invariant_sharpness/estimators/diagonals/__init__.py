"""The diagonal of the Hessian: exact where that is proven, and from probes or sampled outputs elsewhere."""
