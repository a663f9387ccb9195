"""The folder of downloaded and prepared data."""

import os
import pathlib


def cache_dir() -> pathlib.Path:
  """Folder of downloaded and prepared data.

  The environment variable ``MTL_JAX_CACHE``, or ``~/.cache/mtl_jax``.
  """
  default = pathlib.Path.home() / '.cache' / 'mtl_jax'
  return pathlib.Path(os.environ.get('MTL_JAX_CACHE') or default).expanduser()
