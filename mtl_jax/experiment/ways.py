"""Choice of how members run: as the settings say, or the fastest way."""

from collections.abc import Sequence
import dataclasses
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np

from mtl_jax.experiment import build, members as members_lib, steppers
from mtl_jax.reporting import whole_files
from mtl_jax.training import programs

Way = programs.Way
WAY = 'way.json'
REPEATS = 2  # of what is timed, once compiled


def make_stepper(
  group: members_lib.Group, folder: pathlib.Path
) -> steppers.DeviceProgram:
  """Stepper of several members, by the way that the group was begun with.

  Args:
    group: of the members.
    folder: of the group, where the way is noted.
  """
  feeder, devices = steppers.Feeder(group.experiment), jax.local_devices()
  file = folder / WAY
  if file.exists():
    way = Way(**whole_files.read_json(file)['way'])
  else:
    way, times = choose(group, feeder, devices)
    folder.mkdir(parents=True, exist_ok=True)
    whole_files.write_json(
      file, {'way': dataclasses.asdict(way), 'milliseconds': times}
    )
  print(f'Members run by {way}.', flush=True)
  return steppers.DeviceProgram(group.experiment, way, devices, feeder)


def choose(
  group: members_lib.Group,
  feeder: steppers.Feeder,
  devices: Sequence[jax.Device],
) -> tuple[Way, dict[str, float]]:
  """The way that the settings name, or the fastest of those that make sense.

  Each is compiled, and timed over some steps of the first members.

  Returns:
    The way, and milliseconds per member and step of each that was timed.
  """
  candidates = _candidates(group, feeder, devices)
  if len(candidates) == 1:
    return candidates[0], {}
  print(f'Timing {len(candidates)} execution strategies.', flush=True)
  seconds = {way: _time(way, group, feeder, devices) for way in candidates}
  best = min(seconds, key=lambda way: seconds[way])
  return best, {str(way): 1e3 * s for way, s in seconds.items()}


def _candidates(group, feeder, devices) -> list[Way]:
  experiment = group.experiment
  section = experiment.settings.population
  number = len(group.members)
  limit = section.members_per_program or _fitting(experiment)

  def way(name, members, length):
    longest = experiment.plan.longest
    sent = feeder.longest(members)
    return Way(name, members, max(1, min(length or longest, sent or longest)))

  spread = min(len(devices), number)
  # A multiple of the devices; the last program is filled up.
  most = min(-(-number // spread) * spread, max(limit // spread, 1) * spread)
  one_device = min(number, limit)
  ways = {
    'vmap': [way('vmap', one_device, 0)],
    'map': [way('map', one_device, 0)],
    'devices': [way('devices', most, 0), way('devices', spread, 0)],
  }
  if section.way != 'auto':
    if section.way not in ways:
      programs.spread(lambda *x: x, section.way)  # says which there are
    return ways[section.way][:1]
  slow = steppers.slow_in_loops(experiment)
  if len(devices) > 1 and number > 1:
    # The last is what a run alone does, with all threads of the machine: a
    # population is not to be slower than its members one after the other.
    alone = 1 if slow or not steppers.on_device(experiment) else 0
    one_each = [way('devices', spread, 1), way('devices', 1, alone)]
    candidates = one_each if slow else [*ways['devices'], *one_each]
  elif slow:
    candidates = [way('vmap', 1, 1)]
  else:
    candidates = [*ways['vmap'], *ways['map'], way('vmap', 1, 1)]
  return list(dict.fromkeys(candidates))


def _fitting(experiment: build.Experiment) -> int:
  """Members whose states fill half of the memory of a device, at most."""
  shapes = jax.eval_shape(lambda: experiment.make_state(0)._replace(key=None))
  size = sum(
    int(np.prod(x.shape)) * np.dtype(np.float32).itemsize
    for x in jax.tree.leaves(shapes)
  )
  # State, gradients and what is in between, the best parameters.
  return max(1, _memory() // 2 // (4 * size))


def _memory() -> int:
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'bytes_limit' in stats:
    return stats['bytes_limit']
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def _time(way, group, feeder, devices) -> float:
  """Seconds per member and step, without compiling."""
  program = steppers.DeviceProgram(group.experiment, way, devices, feeder)
  chosen = members_lib.pad(group.members, way.members)
  seeds = [member.seed for member in chosen]
  hyper = group.hyper(chosen)
  members: Any = programs.Members(
    program.init(seeds, hyper),
    program.place(hyper),
    program.place(np.ones(len(chosen), bool)),
  )
  program.begin(seeds)
  calls = 1 if way.length > 1 else 5
  best = float('inf')
  for i in range(1 + REPEATS):
    began = time.perf_counter()
    for _ in range(calls):
      state, records = program.advance(members, 0, way.length)
      jax.block_until_ready(records)
      members = members._replace(state=state)
    taken = time.perf_counter() - began
    if i:  # the first compiles
      best = min(best, taken / (calls * way.length * way.members))
  return best
