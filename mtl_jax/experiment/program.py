"""The compiled program of some members: it starts, advances, evaluates them."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import time
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from mtl_jax import data, evaluation
from mtl_jax.experiment import build, feeding, members as members_lib
from mtl_jax.training import loop, population, state as state_lib


@dataclasses.dataclass(frozen=True)
class Way:
  """How members run.

  Attributes:
    way: 'vmap', 'map' or 'devices', see `population.spread`.
    members: at once; more of them run one lot after the other.
    length: steps in one program; 1 = no loop around a step.
  """

  way: str
  members: int
  length: int

  def __str__(self) -> str:
    """As a run prints it."""
    steps = 'a step' if self.length == 1 else f'{self.length} steps'
    return f'{self.way}, {self.members} members and {steps} at a time'


@dataclasses.dataclass
class Timing:
  """What a program took; numbers of resumed runs are those of this process.

  Attributes:
    compile_s: seconds to compile its steps.
    seconds: in them, without compiling, evaluating and saving.
    member_steps: steps taken, counted for each member.
    peak_mb: megabytes of a device for arguments and temporary arrays.
  """

  compile_s: float = 0.0
  seconds: float = 0.0
  member_steps: int = 0
  peak_mb: float | None = None

  @property
  def step_ms(self) -> float | None:
    """Milliseconds a step of one member, while all members train."""
    if not self.member_steps:
      return None
    return 1e3 * self.seconds / self.member_steps


class Program:
  """Members of one group, ``way.members`` at a time."""

  def __init__(
    self,
    experiment: build.Experiment,
    feeder: feeding.Feeder,
    way: Way,
    devices: Sequence[jax.Device],
  ):
    """Builds the program; it is compiled when first used.

    Args:
      experiment: of the group.
      feeder: of its data.
      way: how members run.
      devices: of the way 'devices'; others use the first.
    """
    self.way = way
    self._experiment = experiment
    self._feeder = feeder
    used = min(len(devices), way.members) if way.way == 'devices' else 1
    mesh = population.make_mesh(list(devices[:used]))
    self._split = NamedSharding(mesh, PartitionSpec(population.AXIS))
    self._everywhere = NamedSharding(mesh, PartitionSpec())
    self._compiled = None
    self.timing = Timing()
    self._data = None
    if feeder.data is not None:
      self._data = jax.device_put(feeder.data, self._everywhere)
    spread = functools.partial(population.spread, way=way.way, mesh=mesh)
    # On one device: what draws orthogonal matrices for several members on
    # several CPU devices at once was seen to wait for itself forever.
    self._init = jax.jit(jax.vmap(self._make_state))
    advance = spread(population.make_advance(self._make_step, way.length))
    self._advance = jax.jit(
      lambda state, hyper, active, feed, shared: advance(
        (population.Members(state, hyper, active), feed), shared
      ),
      donate_argnums=0,
    )
    eval_step = evaluation.make_eval_step(experiment.model, experiment.tasks)
    self._evaluate = jax.jit(
      spread(lambda member, batch: eval_step(*member, batch))
    )
    self.keep_better = jax.jit(
      population.keep_better, out_shardings=self._split
    )

  def _make_step(self, hyper):
    return members_lib.with_hyper(self._experiment, hyper).make_step()

  def _make_state(self, seed, hyper):
    own = members_lib.with_hyper(self._experiment, hyper)
    state = state_lib.init_state(
      own.model,
      own.tx,
      jax.random.key(seed),
      own.example_batch(),
      None if own.builder is None else own.builder.init,
    )
    return state._replace(step=None)

  def place(self, tree: Any) -> Any:
    """Puts arrays ``[P, ...]`` where the members are."""
    return jax.device_put(tree, self._split)

  def init(
    self, seeds: Sequence[int], hyper: Mapping[str, np.ndarray]
  ) -> population.Members:
    """The members at step 0."""
    hyper = dict(hyper)
    state = self.place(self._init(np.array(seeds, np.uint32), hyper))
    hyper = self.place(hyper)
    active = self.place(np.ones(len(seeds), bool))
    return population.Members(state, hyper, active)

  def shapes(
    self, seeds: Sequence[int], hyper: Mapping[str, np.ndarray]
  ) -> state_lib.TrainState:
    """The shapes of the members' state, placed: to restore a checkpoint."""
    seeds = np.array(seeds, np.uint32)
    shapes = jax.eval_shape(self._init, seeds, dict(hyper))
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._split),
      shapes,
    )

  def advance(
    self, members: population.Members, orders: Any, start: int, number: int
  ) -> tuple[state_lib.TrainState, Any]:
    """Takes some steps; metrics are ``[P, number, ...]``; donates the state."""
    feed = self._feeder.feed(orders, start, number, self.way.length)
    arguments = (
      members.state,
      members.hyper,
      members.active,
      self.place(feed),
      (np.int32(start), np.int32(number), self._data),
    )
    if self._compiled is None:
      self._compile(arguments)
    began = time.perf_counter()
    state, metrics = jax.block_until_ready(self._compiled(*arguments))
    self.timing.seconds += time.perf_counter() - began
    self.timing.member_steps += number * self.way.members
    return state, jax.tree.map(lambda x: x[:, :number], metrics)

  def _compile(self, arguments) -> None:
    began = time.perf_counter()
    self._compiled = self._advance.lower(*arguments).compile()
    self.timing.compile_s = time.perf_counter() - began
    memory = self._compiled.memory_analysis()
    if memory is not None:  # not every back end says it
      self.timing.peak_mb = 1e-6 * (
        memory.argument_size_in_bytes + memory.temp_size_in_bytes
      )

  def evaluate(
    self, params: Any, model_state: Any, split: str
  ) -> list[evaluation.Result]:
    """What each member has come to on a split."""
    return evaluation.evaluate_members(
      lambda params, state, batch: self._evaluate((params, state), batch),
      self._experiment.tasks,
      params,
      model_state,
      self._batches(split),
      self.way.members,
    )

  def _batches(self, split):
    for name, stream in self._experiment.streams.items():
      parts = data.EvaluationBatches(
        self._experiment.data[name].splits[split], stream.evaluation_batch_size
      )
      for batch in parts:
        yield jax.device_put({name: batch}, self._everywhere)


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
    way: _time(Program(experiment, feeder, way, devices), group)
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
    found = [*ways['devices'], way('devices', spread, 1)]
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
  state = state_lib.init_state(
    experiment.model,
    experiment.tx,
    jax.random.key(0),
    experiment.example_batch(),
    None if experiment.builder is None else experiment.builder.init,
  )
  return state._replace(key=None)


def _memory() -> int:
  import os

  stats = jax.local_devices()[0].memory_stats() or {}
  if 'bytes_limit' in stats:
    return stats['bytes_limit']
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def _time(
  program: Program, group: members_lib.Group, repeats: int = 2
) -> float:
  """Seconds a member and step, without compiling."""
  way = program.way
  chosen = pad(group.members, way.members)
  seeds = [member.seed for member in chosen]
  members = program.init(seeds, group.hyper(chosen))
  orders = program._feeder.orders(seeds)
  best = float('inf')
  for i in range(repeats + 1):
    start = time.perf_counter()
    steps = 1 if way.length > 1 else 5
    for _ in range(steps):
      state, metrics = program.advance(members, orders, 0, way.length)
      members = members._replace(state=state)
    jax.block_until_ready(metrics)
    taken = time.perf_counter() - start
    if i:  # the first compiles
      best = min(best, taken / (steps * way.length * way.members))
  return best


def pad(
  members: Sequence[members_lib.Member], size: int
) -> list[members_lib.Member]:
  """The first members, filled up with the last one to a number of them."""
  chosen = list(members[:size])
  return chosen + [chosen[-1]] * (size - len(chosen))
