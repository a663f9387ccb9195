"""``--profile``: a trace of a few steps."""

from collections.abc import Callable, Iterator
import contextlib
import itertools
import pathlib

import jax

PROFILE_STEPS = range(10, 20)  # past the compilation


@contextlib.contextmanager
def profiled(
  train_step: Callable, directory: pathlib.Path
) -> Iterator[Callable]:
  """Traces a few steps, for TensorBoard's profiler or Perfetto."""
  taken = itertools.count()
  running = False

  def traced(state, batch):
    nonlocal running
    number = next(taken)
    if number == PROFILE_STEPS.start:
      jax.profiler.start_trace(directory)
      running = True
    found = train_step(state, batch)
    if number == PROFILE_STEPS.stop - 1:
      jax.block_until_ready(found)
      jax.profiler.stop_trace()
      running = False
    return found

  try:
    yield traced
  finally:
    if running:
      jax.profiler.stop_trace()
  if directory.exists():
    print(f'Profile: {directory}', flush=True)
  else:
    print(f'No profile: the run ended before step {PROFILE_STEPS.stop}.')
