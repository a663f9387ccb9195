"""``--profile``: a trace of a few steps."""

from collections.abc import Iterator
import contextlib
import itertools
import pathlib
from typing import Any

import jax

PROFILE_STEPS = range(10, 20)  # past the compilation


@contextlib.contextmanager
def profiled(stepper: Any, directory: pathlib.Path) -> Iterator[None]:
  """Traces a few steps, for TensorBoard's profiler or Perfetto.

  Args:
    stepper: of one step per call.
    directory: of the trace.
  """
  taken = itertools.count()
  running = False
  advance = stepper.advance

  def traced(members, start, number):
    nonlocal running
    count = next(taken)
    if count == PROFILE_STEPS.start:
      jax.profiler.start_trace(directory)
      running = True
    result = advance(members, start, number)
    if count == PROFILE_STEPS.stop - 1:
      jax.block_until_ready(result)
      jax.profiler.stop_trace()
      running = False
    return result

  stepper.advance = traced
  try:
    yield
  finally:
    stepper.advance = advance
    if running:
      jax.profiler.stop_trace()
  if directory.exists():
    print(f'Profile: {directory}', flush=True)
  else:
    print(f'No profile: the run ended before step {PROFILE_STEPS.stop}.')
