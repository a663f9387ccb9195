"""Memory of the process that is kept from one training step to the next."""

import ctypes
import os

# Of glibc's malloc.h: large blocks from the heap, none of it given back, and
# two arenas. More give blocks back after all, and in one the threads of XLA
# wait for each other, which costs small steps a tenth.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_SETTINGS = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_ARENA_MAX, 2))


def keep_memory() -> bool:
  """Keeps freed memory in the process, for the next step to use again.

  On a CPU, XLA takes the temporary arrays of each step from ``malloc``. That of
  Linux (glibc) gives large ones back to the kernel afterwards, which hands out
  every page anew in the next step: 10 to 40 % of many steps. After this call
  the process keeps them, those of NumPy and PyTorch included. The price: its
  resident memory stays at the peak.

  Call it before JAX starts, which is at the first array: threads that run by
  then have heaps of their own. `launch.py` calls it; importing mtl_jax does
  not. Where the environment sets glibc's allocator already
  (``MALLOC_ARENA_MAX`` and the like, ``glibc.malloc`` in ``GLIBC_TUNABLES``),
  nothing is done.

  Returns:
    Whether memory is kept: False with another allocator than glibc's, or with
    settings in the environment.

  Example:
    >>> import mtl_jax
    >>> kept = mtl_jax.keep_memory()
  """
  tuned = 'glibc.malloc' in os.environ.get('GLIBC_TUNABLES', '')
  if tuned or any(name.startswith('MALLOC_') for name in os.environ):
    return False
  mallopt = _mallopt()
  if mallopt is None:
    return False
  taken = [mallopt(name, value) for name, value in _SETTINGS]
  return all(taken)


def _mallopt():
  """The function of glibc, or None where the process runs without it."""
  try:
    library = ctypes.CDLL(None)
  except (OSError, TypeError):  # TypeError on Windows
    return None
  is_glibc = hasattr(library, 'gnu_get_libc_version')
  return getattr(library, 'mallopt', None) if is_glibc else None
