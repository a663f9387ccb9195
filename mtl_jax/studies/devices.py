"""One device per core, so that members of a run train side by side."""

import os

import jax


def prepare(several: bool) -> None:
  """Sets XLA up for a run, before JAX starts.

  Args:
    several: whether the run has members that may be spread over devices.
  """
  # XLA's programs on the CPU wait for threads of the pool that they run in:
  # with no more threads than devices all can come to wait. Many are slower.
  os.environ.setdefault('NPROC', str(max(4, 2 * (os.cpu_count() or 1))))
  if several and not use_all_cores():
    print(
      'JAX has started with one device: members train on it one after the '
      'other or at once; mtl_jax.use_all_cores() before JAX starts makes one '
      'device per core, which is faster.',
      flush=True,
    )


def use_all_cores() -> bool:
  """Makes a CPU device of each core, if JAX has not started yet.

  An accelerator is used as it is, and so is what the user asked of XLA.

  Returns:
    Whether members can be spread over all cores.
  """
  os.environ.setdefault('NPROC', str(max(4, 2 * (os.cpu_count() or 1))))
  asked = 'host_platform_device_count' in os.environ.get('XLA_FLAGS', '')
  number = len(os.sched_getaffinity(0)) if _has_affinity() else os.cpu_count()
  told = getattr(jax.config, 'jax_num_cpu_devices', -1) > 0
  if asked or told or not number:
    return True
  try:
    jax.config.update('jax_num_cpu_devices', number)
  except RuntimeError:  # It has started: its devices are what they are.
    return jax.device_count() > 1 or jax.default_backend() != 'cpu'
  return True


def _has_affinity() -> bool:
  return hasattr(os, 'sched_getaffinity')
