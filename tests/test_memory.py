"""Memory that is kept from one step to the next."""

import importlib
import os
import pathlib
import platform
import subprocess
import sys

import pytest

from mtl_jax import memory
from mtl_jax.studies import api

ROOT = pathlib.Path(__file__).parents[1]
# What stays resident of 8 blocks of 64 MB that are freed, in MB; without JAX.
PROGRAM = """
import ctypes, importlib.util, re, sys
spec = importlib.util.spec_from_file_location('memory', sys.argv[1])
memory = importlib.util.module_from_spec(spec)
spec.loader.exec_module(memory)
kept = memory.keep_memory() if sys.argv[2] == 'keep' else None
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.free.argtypes = [ctypes.c_void_p]
blocks = [c.malloc(2**26) for _ in range(8)]
for block in blocks:
  ctypes.memset(block, 1, 2**26)
for block in blocks:
  c.free(block)
status = open('/proc/self/status').read()
print(kept, int(re.search(r'VmRSS:\\s+(\\d+)', status)[1]) // 1024)
"""


def run(how, **environment):
  clean = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_')}
  clean.pop('GLIBC_TUNABLES', None)
  out = subprocess.run(
    [sys.executable, '-c', PROGRAM, memory.__file__, how],
    env={**clean, **environment},
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split()
  return out[0], int(out[1])


@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='another allocator than glibc'
)
def test_freed_memory_stays_in_the_process():
  _, given_back = run('leave')
  kept, resident = run('keep')
  assert kept == 'True'
  assert given_back < 200 and resident > 500


@pytest.mark.parametrize(
  'name, value',
  [
    ('MALLOC_ARENA_MAX', '4'),
    ('GLIBC_TUNABLES', 'glibc.malloc.trim_threshold=1000'),
  ],
)
def test_settings_of_the_environment_stay(name, value, monkeypatch):
  monkeypatch.setenv(name, value)
  monkeypatch.setattr(memory, '_mallopt', lambda: 1 / 0)
  assert memory.keep_memory() is False


def make_library(monkeypatch, *names):
  """Another C library, with functions of these names."""
  calls = []

  class Library:
    pass

  for name in names:
    setattr(Library, name, lambda self, *args: calls.append(args) or 1)
  monkeypatch.setattr(memory.ctypes, 'CDLL', lambda name: Library())
  monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
  for name in [name for name in os.environ if name.startswith('MALLOC_')]:
    monkeypatch.delenv(name)
  return calls


def test_only_glibc_is_set(monkeypatch):
  calls = make_library(monkeypatch, 'mallopt')  # such as a jemalloc's
  assert memory.keep_memory() is False and not calls
  calls = make_library(monkeypatch, 'gnu_get_libc_version', 'mallopt')
  assert memory.keep_memory() is True
  # Of malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX.
  assert calls == [(-4, 0), (-1, 2**31 - 1), (-8, 2)]


def test_nothing_is_done_without_a_c_library(monkeypatch):
  make_library(monkeypatch)

  def fail(name):
    raise TypeError('an instance of str is needed')  # as on Windows

  monkeypatch.setattr(memory.ctypes, 'CDLL', fail)
  assert memory.keep_memory() is False


def test_the_command_asks_for_it_before_it_runs(monkeypatch):
  calls = []
  monkeypatch.setattr(memory, 'keep_memory', lambda: calls.append('kept'))
  monkeypatch.setattr(api, 'evaluate', lambda *a, **b: calls.append('run'))
  monkeypatch.syspath_prepend(str(ROOT))
  launch = importlib.import_module('launch')
  assert launch.main(['--mode=evaluate', '--workdir=none']) == 0
  assert calls == ['kept', 'run']


def test_no_import_asks_for_it():
  callers = {
    path.relative_to(ROOT).as_posix()
    for folder in ('mtl_jax', 'benchmarks')
    for path in (ROOT / folder).rglob('*.py')
    if 'keep_memory()' in path.read_text(encoding='utf-8')
  }
  assert {path for path in callers if path.startswith('mtl_jax')} == {
    'mtl_jax/memory.py'
  }
  assert {
    f'benchmarks/{name}.py'
    for name in ('combinators_jax', 'population', 'population_configs')
  } <= callers
