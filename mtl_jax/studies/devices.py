"""One device a core, so that members of a population run side by side."""

import os

import jax


def use_all_cores() -> None:
  """Makes a CPU device of each core, if JAX has not started yet.

  An accelerator is used as it is, and so is what the user asked of XLA.
  """
  asked = 'host_platform_device_count' in os.environ.get('XLA_FLAGS', '')
  number = len(os.sched_getaffinity(0)) if _has_affinity() else os.cpu_count()
  told = getattr(jax.config, 'jax_num_cpu_devices', -1) > 0
  if asked or told or not number:
    return
  try:
    jax.config.update('jax_num_cpu_devices', number)
  except RuntimeError:  # It has started: its devices are what they are.
    return


def _has_affinity() -> bool:
  return hasattr(os, 'sched_getaffinity')
