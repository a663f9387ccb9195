"""Small convex problems on the device: a file a problem, nothing but jax."""
