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
from mtl_jax.training import population, state as state_lib


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
    self.feeder = feeder
    self._ready: Any = None
    used = min(len(devices), way.members) if way.way == 'devices' else 1
    mesh = population.make_mesh(list(devices[:used]))
    self._split = NamedSharding(mesh, PartitionSpec(population.AXIS))
    self._everywhere = NamedSharding(mesh, PartitionSpec())
    self._compiled: Any = None
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
      spread(lambda member, batch: eval_step(member[0], member[1], batch))
    )
    self.keep_better = jax.jit(
      population.keep_better, out_shardings=self._split
    )

  def _make_step(self, hyper):
    return members_lib.with_hyper(self._experiment, hyper).make_step()

  def _make_state(self, seed, hyper):
    own = members_lib.with_hyper(self._experiment, hyper)
    state: Any = state_lib.init_state(
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
    state = self._init(np.array(seeds, np.uint32), dict(hyper))
    active = np.ones(len(seeds), bool)
    return population.Members(*self.place((state, dict(hyper), active)))

  def shapes(
    self, seeds: Sequence[int], hyper: Mapping[str, np.ndarray]
  ) -> state_lib.TrainState:
    """The shapes of the members' state, placed: to restore a checkpoint."""
    shapes = jax.eval_shape(self._init, np.array(seeds, np.uint32), dict(hyper))
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._split),
      shapes,
    )

  def advance(
    self, members: population.Members, orders: Any, start: int, number: int
  ) -> tuple[state_lib.TrainState, Any]:
    """Takes some steps; donates the state.

    Returns:
      The state, and metrics ``[P, number, ...]`` on the host.
    """
    arguments = (
      members.state,
      members.hyper,
      members.active,
      self._feed(orders, start),
      (np.int32(start), np.int32(number), self._data),
    )
    compiled = self._compiled or self._compile(arguments)
    began = time.perf_counter()
    state, metrics = compiled(*arguments)
    # The host prepares what comes next while the devices work.
    self._ready = (
      orders,
      start + number,
      self._make_feed(orders, start + number),
    )
    # Cut on the host: as operations on the device, it takes longer than a few
    # small steps.
    metrics = jax.device_get(metrics)
    self.timing.seconds += time.perf_counter() - began
    self.timing.member_steps += number * self.way.members
    return state, jax.tree.map(lambda x: x[:, :number], metrics)

  def _feed(self, orders, start):
    if self._ready is not None:
      same, at, feed = self._ready
      if same is orders and at == start:
        return feed
    return self._make_feed(orders, start)

  def _make_feed(self, orders, start):
    return self.place(self.feeder.feed(orders, start, self.way.length))

  def _compile(self, arguments) -> Any:
    began = time.perf_counter()
    self._compiled = self._advance.lower(*arguments).compile()
    self.timing.compile_s = time.perf_counter() - began
    memory = self._compiled.memory_analysis()
    if memory is not None:  # not every back end says it
      self.timing.peak_mb = 1e-6 * (
        memory.argument_size_in_bytes + memory.temp_size_in_bytes
      )
    return self._compiled

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


def pad(
  members: Sequence[members_lib.Member], size: int
) -> list[members_lib.Member]:
  """The first members, filled up with the last one to a number of them."""
  chosen = list(members[:size])
  return chosen + [chosen[-1]] * (size - len(chosen))
