"""Solvers of small convex problems on the device, one per file."""
