"""Kinds of columns: how each is learned from training, and encoded."""
