"""Multi-task learning research in JAX."""
