"""Shared test setup: four CPU devices, so that every mode can be tested."""

import os
import pathlib
import tempfile

import pytest

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Before jax is imported: the number of devices is fixed when it starts.
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=4'
)
# Compiling takes most of the time of the tests, and many compile the same.
_CACHE = pathlib.Path(tempfile.gettempdir()) / f'mtl_jax_tests_{os.getuid()}'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

# JAX's LAPACK calls on the CPU wait for threads of a pool as large as this: one
# a device. With many more than cores, small programs take twice as long.
os.environ.setdefault('NPROC', '4')

# Their names are alike, which the collection of doctests takes ill.
collect_ignore_glob = ['**/conftest.py']


@pytest.fixture(autouse=True, scope='module')
def _forget_programs():
  """Every compiled program holds memory maps, and a process may have 65,530."""
  yield
  import jax

  jax.clear_caches()
