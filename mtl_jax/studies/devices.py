"""Devices of a CPU for the members of a run, before JAX starts."""

import os

import jax

# The size of XLA's pool of threads on the CPU, if NPROC is not set. Its
# programs wait for threads of the pool that they run in: with no more threads
# than devices they may deadlock. Many are slower.
THREADS = str(max(4, 2 * (os.cpu_count() or 1)))


def use_all_cores() -> bool:
  """Makes a CPU device of each core, if JAX has not started yet.

  An accelerator is used as it is, and so is what the user asked of XLA.

  Returns:
    Whether members can be spread over all cores.
  """
  os.environ.setdefault('NPROC', THREADS)
  asked = 'host_platform_device_count' in os.environ.get('XLA_FLAGS', '')
  number = os.cpu_count()
  if hasattr(os, 'sched_getaffinity'):
    number = len(os.sched_getaffinity(0))
  told = getattr(jax.config, 'jax_num_cpu_devices', -1) > 0
  if asked or told or not number:
    return True
  try:
    jax.config.update('jax_num_cpu_devices', number)
  except RuntimeError:  # It has started: its devices are what they are.
    return jax.device_count() > 1 or jax.default_backend() != 'cpu'
  return True


def spread_members() -> None:
  """Makes a device of each core, or says that JAX has started with one."""
  if not use_all_cores():
    print(
      'JAX has started with one device: members train on it one after the '
      'other or at once; mtl_jax.use_all_cores() before JAX starts makes one '
      'device per core, which is faster.',
      flush=True,
    )
