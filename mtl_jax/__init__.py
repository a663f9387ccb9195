"""Multi-task learning research in JAX: one trunk, K losses, one direction.

``python launch.py --config=configs/NAME.py`` from Python:

>>> import mtl_jax
>>> config = mtl_jax.default_config()
>>> config.combinator.name = 'pcgrad'
>>> outcome = mtl_jax.run(config, 'runs/mine')  # doctest: +SKIP
"""

from mtl_jax.config.overrides import apply_overrides, load_config
from mtl_jax.config.settings import claim, data_config, default_config
from mtl_jax.memory import keep_memory

__version__ = '0.1.0'
__all__ = [
  'apply_overrides',
  'claim',
  'data_config',
  'default_config',
  'keep_memory',
  'load',
  'load_config',
  'run',
  'use_all_cores',
]


def __getattr__(name):
  # Late, so that `from mtl_jax import combinators` needs no data library.
  if name in ('load', 'run', 'use_all_cores'):
    from mtl_jax.studies import api

    return getattr(api, name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
