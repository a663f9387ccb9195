"""Sharing architectures: who shares what."""

from mtl_jax.models.sharing.hard import hard_sharing

__all__ = ['hard_sharing']
