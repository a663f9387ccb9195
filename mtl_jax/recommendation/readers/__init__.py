"""Readers of logs: of a folder that a user names, or of a pip package."""

from mtl_jax.recommendation.readers import kuairand, movielens, recbole
