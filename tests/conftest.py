"""Shared test setup: four CPU devices, so that every mode can be tested."""

import gc
import importlib.metadata
import os
import pathlib
import tempfile

import compiled
import pytest

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Before jax is imported: what it starts with is fixed then.
_FLAGS = ['--xla_force_host_platform_device_count=4']
# Compiling takes most of the time of the tests, and their programs are small:
# they need not be fast. Not optimized, and in one piece, they compile in a
# quarter of the time. See the fixture `optimized` for what must be exact.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
_FLAGS.append('--xla_cpu_parallel_codegen_split_count=1')
_FLAGS.append('--xla_backend_optimization_level=1')
# XLA refuses to start with a flag that it does not know: this one belongs to
# the releases that it was tried with.
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  _FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *_FLAGS])
# Many compile the same. What subprocesses of tests compile goes there too.
_CACHE = compiled.own_folder(
  os.environ.get('JAX_COMPILATION_CACHE_DIR')
  or pathlib.Path(tempfile.gettempdir()) / f'mtl_jax_tests_{os.getuid()}'
)
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(_CACHE)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

# JAX's LAPACK calls on the CPU wait for threads of a pool as large as this: one
# a device. With many more than cores, small programs take twice as long.
os.environ.setdefault('NPROC', '4')

# Python walks over all objects again and again, those of all imports too, to
# find cycles: a tenth of the time.
gc.disable()

# The collection of doctests cannot import several files of the same name.
collect_ignore_glob = ['**/conftest.py']


@pytest.fixture(scope='module')
def optimized():
  """Compiles with optimization, whose float32 results are more exact."""
  import jax

  before = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', before)


_MAPS = pathlib.Path('/proc/self/maps')


def pytest_collection_finish():
  gc.freeze()  # What is imported stays.
  gc.set_threshold(20_000, 20, 50)
  gc.enable()


def pytest_sessionfinish(exitstatus):
  ended = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
  compiled.give_back(_CACHE, complete=exitstatus in ended)


@pytest.fixture(autouse=True, scope='module')
def _forget_programs():
  """Every compiled program holds memory maps, and a process may have 65,530."""
  yield
  if not _MAPS.exists() or _MAPS.read_bytes().count(b'\n') > 30_000:
    import jax

    jax.clear_caches()
