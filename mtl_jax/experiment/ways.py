"""How the members of a population run: as the settings say, or the fastest."""

from collections.abc import Sequence
import os
import time
from typing import Any

import jax

from mtl_jax.experiment import (
  build,
  feeding,
  members as members_lib,
  program as program_lib,
  stepping,
)
from mtl_jax.training import loop, population, state as state_lib

Way = program_lib.Way


def choose(
  experiment: build.Experiment,
  feeder: feeding.Feeder,
  group: members_lib.Group,
  devices: Sequence[jax.Device],
) -> tuple[Way, dict[str, float]]:
  """The way that the settings name, or the fastest of those that make sense.

  Each is compiled, and timed over some steps of the first members.

  Returns:
    The way, and milliseconds a member and step of each that was timed.
  """
  candidates = _candidates(experiment, feeder, group, devices)
  if len(candidates) == 1:
    return candidates[0], {}
  taken = {
    way: _time(program_lib.Program(experiment, feeder, way, devices), group)
    for way in candidates
  }
  best = min(taken, key=lambda way: taken[way])
  return best, {str(way): 1e3 * seconds for way, seconds in taken.items()}


def _candidates(experiment, feeder, group, devices) -> list[Way]:
  section = experiment.settings.population
  number = len(group.members)
  plan: loop.Plan = experiment.plan
  limit = section.members_per_program or _fitting(experiment)

  def way(name, members, length):
    longest = min(plan.log_every, plan.evaluate_every, plan.steps)
    sent = feeder.longest(members)
    return Way(name, members, max(1, min(length or longest, sent or longest)))

  spread = min(len(devices), number)
  # A multiple of the devices; the last lot is filled up.
  most = min(-(-number // spread) * spread, max(limit // spread, 1) * spread)
  one_device = min(number, limit)
  ways = {
    'vmap': [way('vmap', one_device, 0)],
    'map': [way('map', one_device, 0)],
    'devices': [way('devices', most, 0), way('devices', spread, 0)],
  }
  if section.way != 'auto':
    if section.way not in ways:
      population.spread(lambda *x: x, section.way)  # says which there are
    return ways[section.way][:1]
  if len(devices) > 1 and number > 1:
    # The last is what a run alone does, with all threads of the machine: a
    # population is not to be slower than its members one after the other.
    alone = 0 if stepping.stretches_pay(experiment) else 1
    one_each = [way('devices', spread, 1), way('devices', 1, alone)]
    slow = stepping.slow_in_loops(experiment)
    found = one_each if slow else [*ways['devices'], *one_each]
  elif stepping.slow_in_loops(experiment):
    found = [way('vmap', 1, 1)]
  else:
    found = [*ways['vmap'], *ways['map'], way('vmap', 1, 1)]
  return list(dict.fromkeys(found))


def _fitting(experiment) -> int:
  """Members whose states fill half of the memory of a device, at most."""
  own = jax.eval_shape(lambda: _one_state(experiment))
  # State, gradients and what is in between, the best parameters.
  each = 4 * feeding.state_bytes(own)
  return max(1, _memory() // 2 // each)


def _one_state(experiment):
  state: Any = state_lib.init_state(
    experiment.model,
    experiment.tx,
    jax.random.key(0),
    experiment.example_batch(),
    None if experiment.builder is None else experiment.builder.init,
  )
  return state._replace(key=None)


def _memory() -> int:
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'bytes_limit' in stats:
    return stats['bytes_limit']
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def _time(
  program: program_lib.Program, group: members_lib.Group, repeats: int = 2
) -> float:
  """Seconds a member and step, without compiling."""
  way = program.way
  chosen = program_lib.pad(group.members, way.members)
  seeds = [member.seed for member in chosen]
  members = program.init(seeds, group.hyper(chosen))
  orders = program.feeder.orders(seeds)
  best = float('inf')
  for i in range(repeats + 1):
    began = time.perf_counter()
    for _ in range(1 if way.length > 1 else 5):
      state, _ = program.advance(members, orders, 0, way.length)
      members = members._replace(state=state)
    steps = (1 if way.length > 1 else 5) * way.length
    taken = time.perf_counter() - began
    if i:  # the first compiles
      best = min(best, taken / (steps * way.members))
  return best
