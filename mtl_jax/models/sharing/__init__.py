"""Sharing architectures: who shares what.

Every one is a function ``(trunk, heads, *, inputs, axis_name, ...) -> model``
around any trunk; its other arguments are its options.
"""

from mtl_jax.models.sharing.dselect import dselect_k
from mtl_jax.models.sharing.film import film
from mtl_jax.models.sharing.groups import task_groups
from mtl_jax.models.sharing.hard import hard_sharing
from mtl_jax.models.sharing.home import home
from mtl_jax.models.sharing.moe import mmoe, omoe
from mtl_jax.models.sharing.pepnet import pepnet
from mtl_jax.models.sharing.ple import cgc, ple
from mtl_jax.models.sharing.snr import snr
from mtl_jax.models.sharing.stem import stem
from mtl_jax.models.sharing.stitches import cross_stitch, sluice

SHARING = {
  'cgc': cgc,
  'cross_stitch': cross_stitch,
  'dselect_k': dselect_k,
  'film': film,
  'groups': task_groups,
  'hard': hard_sharing,
  'home': home,
  'mmoe': mmoe,
  'omoe': omoe,
  'pepnet': pepnet,
  'ple': ple,
  'sluice': sluice,
  'snr': snr,
  'stem': stem,
}

__all__ = [
  'SHARING',
  'cgc',
  'cross_stitch',
  'dselect_k',
  'film',
  'hard_sharing',
  'home',
  'mmoe',
  'omoe',
  'pepnet',
  'ple',
  'sluice',
  'snr',
  'stem',
  'task_groups',
]
