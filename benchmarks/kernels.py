"""Kernels of a training step of `combinators.py`, and how long they take.

  python benchmarks/kernels.py lenet [K] [plain]

Prints, from a trace by `jax.profiler`, the time of a step, the share of the
cores that is busy in kernels, and the milliseconds of each kind of kernel, the
longest first. 'product' are matrix products with what XLA fused into them. Half
a minute.
"""

import collections
import gzip
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time

import combinators_jax
import jax
import workloads

from mtl_jax import memory

STEPS = 20
# Of XLA's runtime, around kernels.
AROUND = re.compile('.*(::|Execut|Pjit|PjRt|end:)')
PRODUCT = re.compile('ynn|dot')


def main(name='lenet', num='2', method='plain'):
  """Prints the table."""
  memory.keep_memory()
  spec = workloads.WORKLOADS[name]
  call = combinators_jax.step_call(spec, int(num), method)
  times = [_seconds(call) for _ in range(STEPS + 5)][5:]
  events = _trace(call)
  kinds = collections.defaultdict(lambda: [0, 0.0])
  for event in events:
    if event.get('ph') == 'X' and not AROUND.match(event['name']):
      kind = re.sub(r'(\.\d+)+$', '', event['name'])
      kind = 'product' if PRODUCT.match(kind) else kind
      kinds[kind][0] += 1
      kinds[kind][1] += event['dur'] / 1e3
  step = 1e3 * statistics.median(times)
  busy = sum(spent for _, spent in kinds.values()) / STEPS
  cores = len(os.sched_getaffinity(0))
  print(
    f'{workloads.NAMES[name]}, K = {num}, {method}: {step:.1f} ms a step; '
    f'kernels take {busy:.1f} ms, {busy / step / cores:.0%} of {cores} cores'
  )
  print('| kernel | per step | ms per step |\n|---|---|---|')
  longest = sorted(kinds.items(), key=lambda item: -item[1][1])
  for kind, (count, spent) in longest[:12]:
    print(f'| {kind} | {count / STEPS:.0f} | {spent / STEPS:.2f} |')


def _seconds(call):
  start = time.perf_counter()
  call()
  return time.perf_counter() - start


def _trace(call):
  """Events of some steps."""
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level, options.host_tracer_level = 0, 3
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(
      folder, create_perfetto_trace=True, profiler_options=options
    ):
      for _ in range(STEPS):
        call()
    (path,) = pathlib.Path(folder).rglob('perfetto_trace.json.gz')
    return json.loads(gzip.decompress(path.read_bytes()))['traceEvents']


if __name__ == '__main__':
  main(*sys.argv[1:])
