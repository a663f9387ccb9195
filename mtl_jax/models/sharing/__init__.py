"""Sharing architectures: who shares what.

Every one is a function of its options, such as ``mmoe(experts=8)``, that
returns a `Sharing`; `mtl_jax.models.build_model` puts it around a trunk.
"""

from mtl_jax.models.sharing.adapters import lora
from mtl_jax.models.sharing.architecture import Sharing
from mtl_jax.models.sharing.attention import mtan
from mtl_jax.models.sharing.branching import branching
from mtl_jax.models.sharing.cross_stitch import cross_stitch
from mtl_jax.models.sharing.dselect import dselect_k
from mtl_jax.models.sharing.film import film
from mtl_jax.models.sharing.groups import task_groups
from mtl_jax.models.sharing.hard import hard_sharing
from mtl_jax.models.sharing.home import home
from mtl_jax.models.sharing.moe import mmoe, omoe
from mtl_jax.models.sharing.pepnet import pepnet
from mtl_jax.models.sharing.ple import cgc, ple
from mtl_jax.models.sharing.routing import task_routing
from mtl_jax.models.sharing.sluice import sluice
from mtl_jax.models.sharing.snr import snr
from mtl_jax.models.sharing.soft import soft_sharing
from mtl_jax.models.sharing.stem import stem
from mtl_jax.models.sharing.transfer import aitm

SHARING = {
  'aitm': aitm,
  'branching': branching,
  'cgc': cgc,
  'cross_stitch': cross_stitch,
  'dselect_k': dselect_k,
  'film': film,
  'groups': task_groups,
  'hard': hard_sharing,
  'home': home,
  'lora': lora,
  'mmoe': mmoe,
  'mtan': mtan,
  'omoe': omoe,
  'pepnet': pepnet,
  'ple': ple,
  'routing': task_routing,
  'sluice': sluice,
  'snr': snr,
  'soft': soft_sharing,
  'stem': stem,
}

__all__ = [
  'SHARING',
  'Sharing',
  'aitm',
  'branching',
  'cgc',
  'cross_stitch',
  'dselect_k',
  'film',
  'hard_sharing',
  'home',
  'lora',
  'mmoe',
  'mtan',
  'omoe',
  'pepnet',
  'ple',
  'sluice',
  'snr',
  'soft_sharing',
  'stem',
  'task_groups',
  'task_routing',
]
