"""The stepper of a run: P members as one program on the device.

`data_parallel` has the other one. Both implement `loop.Stepper`, and decide
where state and batches lie.
"""

from collections.abc import Mapping, Sequence
import functools
import time
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from mtl_jax import data, evaluation
from mtl_jax.experiment import build, data_parallel
from mtl_jax.training import checkpoints, jaxprs, parallel, programs

ON_DEVICE = {'auto': None, 'always': True, 'never': False}
DEVICE_LIMIT = 2**30  # bytes of training data on a device, if 'auto'
HOST_LIMIT = 2**28  # bytes of examples that are sent at once


class Feeder:
  """The batches of each member by its own order of the data.

  Attributes:
    data: ``{stream: {name: [N, ...]}}`` on the host, of streams that are to be
      on the device; None if examples are sent instead.
  """

  def __init__(self, experiment: build.Experiment):
    self._streams = experiment.training_streams()
    self._draw = experiment.draw()
    self.data = None
    if on_device(experiment):
      self.data = {
        name: stream.source.take(np.arange(len(stream.source)))
        for name, stream in self._streams.items()
      }

  def longest(self, members: int) -> int | None:
    """The most steps whose examples may be sent at once; None = any."""
    if self.data is not None:
      return None
    example = sum(
      value.nbytes * stream.batch_size
      for stream in self._streams.values()
      for value in stream.source.take(np.zeros(1, int)).values()
    )
    return max(1, HOST_LIMIT // max(1, example * members))

  def orders(self, seeds: Sequence[int]) -> list[Any]:
    """The order of each member, as `data.train_rows` has it."""
    return [
      data.train_rows(self._streams, seed=seed, draw=self._draw)
      for seed in seeds
    ]

  def feed(
    self, orders: Sequence[Any], start: int, length: int
  ) -> programs.Feed:
    """The rows of some steps, ``[P, length, B]``, or their examples.

    Args:
      orders: of the members, from `orders`.
      start: the first step.
      length: how many.
    """
    drawn = [order(start, length) for order in orders]
    rows = {
      name: np.array([own[name].rows for own in drawn], np.int32)
      for name in self._streams
    }
    present = {
      name: np.array([own[name].drawn for own in drawn], np.float32)
      for name in self._streams
    }
    if self.data is None:
      rows = {name: self._read(name, x) for name, x in rows.items()}
    return programs.Feed(rows, present)

  def _read(self, name, rows) -> Mapping[str, np.ndarray]:
    examples = self._streams[name].source.take(rows.reshape(-1))
    return {
      key: value.reshape(*rows.shape, *value.shape[1:])
      for key, value in examples.items()
    }


class DeviceProgram:
  """P members as one compiled program of many steps, on one device or several.

  The training data lie on the device, or are sent in chunks of steps.
  """

  def __init__(
    self,
    experiment: Any,
    way: programs.Way,
    devices: Sequence[jax.Device],
    feeder: Feeder | None = None,
  ):
    """Builds the program; it is compiled when it is first used.

    Args:
      experiment: a `trainable.Trainable`, of all members.
      way: how they run.
      devices: of the way 'devices'; others use the first.
      feeder: of the training data; None where a step reads none.
    """
    self.way, self.longest = way, way.length
    self._experiment = experiment
    self._feeder = feeder
    self._orders: Any = ()
    self._ready: Any = None
    self._compiled: Any = None
    self.compile_s, self.peak_mb = 0.0, None
    used = min(len(devices), way.members) if way.way == 'devices' else 1
    self._several = used > 1
    mesh = programs.make_mesh(list(devices[:used]))
    self._split = NamedSharding(mesh, PartitionSpec(programs.AXIS))
    self._everywhere = NamedSharding(mesh, PartitionSpec())
    self._data = None
    if feeder is not None and feeder.data is not None:
      self._data = jax.device_put(feeder.data, self._everywhere)
    spread = functools.partial(programs.spread, way=way.way, mesh=mesh)
    # On one device: what draws orthogonal matrices for several members on
    # several CPU devices at once was seen to wait for itself forever.
    self._init = jax.jit(
      programs.spread(
        lambda member, _: experiment.make_state(*member), way='vmap'
      )
    )
    self._advance = jax.jit(
      spread(
        programs.make_advance(
          lambda hyper: experiment.make_step(hyper=hyper),
          way.length,
          experiment.make_record,
          experiment.plan.record_every,
          batched=way.way != 'map' and way.members > used,
        )
      ),
      donate_argnums=0,
    )
    self._keep_better = jax.jit(programs.keep_better, out_shardings=self._split)
    self._spread = spread

  def begin(self, seeds: Sequence[int]) -> None:
    """Sets whose orders of the data the next steps follow."""
    self._orders = self._feeder.orders(seeds) if self._feeder else ()
    self._ready = None

  def place(self, tree: Any) -> Any:
    """Puts arrays ``[P, ...]`` where the members are."""
    return jax.device_put(tree, self._split)

  def init(self, seeds: Sequence[int], hyper: Mapping[str, Any]) -> Any:
    """The states of the members at step 0, ``[P, ...]``."""
    member = (np.array(seeds, np.uint32), dict(hyper))
    return self.place(self._init(member, None))

  def shapes(self, seeds: Sequence[int], hyper: Mapping[str, Any]) -> Any:
    """The shapes of the same, placed: to restore a checkpoint."""
    member = (np.array(seeds, np.uint32), dict(hyper))
    return checkpoints.abstract(
      jax.eval_shape(self._init, member, None), self._split
    )

  def compile(self, members: programs.Members, start: int) -> None:
    """Compiles the steps, so that they can be timed."""
    if self._compiled is not None:
      return
    arguments = self._arguments(members, start, 0)
    began = time.perf_counter()
    self._compiled = self._advance.lower(*arguments).compile()
    self.compile_s = time.perf_counter() - began
    memory = self._compiled.memory_analysis()
    if memory is not None:  # not every back end says it
      self.peak_mb = 1e-6 * (
        memory.argument_size_in_bytes + memory.temp_size_in_bytes
      )

  def advance(
    self, members: programs.Members, start: int, number: int
  ) -> tuple[Any, Any]:
    """As `loop.Stepper` has it."""
    self.compile(members, start)
    if self._several:
      # On CPU, programs in flight on several devices share a pool of threads,
      # and may deadlock.
      jax.block_until_ready(members.state)
    result = self._compiled(*self._arguments(members, start, number))
    # The host prepares what comes next while the devices work.
    self._ready = (start + number, self._make_feed(start + number))
    return result

  def _arguments(self, members, start, number):
    at, feed = self._ready or (None, None)
    if at != start:
      feed = self._make_feed(start)
      self._ready = (start, feed)
    shared = (np.int32(start), np.int32(number), self._data)
    return members.state, (members.hyper, members.active, feed), shared

  def _make_feed(self, start):
    if self._feeder is None:
      return programs.Feed({}, {})
    return self.place(self._feeder.feed(self._orders, start, self.longest))

  def probe(self, members: programs.Members, start: int) -> dict[str, Any]:
    """Gramian ``[P, K, K]`` and presence ``[P, K]`` of the coming step."""
    state, (_, _, feed), shared = self._arguments(members, start, 0)
    return jax.device_get(self._probe(state, feed, shared))

  @functools.cached_property
  def _probe(self):
    probe = self._experiment.make_probe()

    def of_member(state, feed, shared):
      start, _, arrays = shared
      batch = programs.fetch(arrays, jax.tree.map(lambda x: x[0], feed))
      return probe(state._replace(step=start), batch)

    return jax.jit(self._spread(of_member))

  def keep_better(self, better: np.ndarray, new: Any, old: Any) -> Any:
    """As `loop.Stepper` has it."""
    return self._keep_better(self.place(better), new, old)

  def evaluate(
    self, params: Any, model_state: Any, split: str
  ) -> list[evaluation.Result]:
    """The result of each member on a split."""
    return evaluation.evaluate_members(
      self._evaluate,
      self._experiment.tasks,
      params,
      model_state,
      (
        jax.device_put(batch, self._everywhere)
        for batch in self._experiment.evaluation_batches(split)
      ),
      self.way.members,
    )

  @functools.cached_property
  def _evaluate(self):
    return jax.jit(self._spread(self._experiment.make_eval_step()))


Stepper = DeviceProgram | data_parallel.DataParallel


def for_one(
  experiment: build.Experiment,
  devices: Sequence[jax.Device],
  *,
  profile: bool = False,
) -> Stepper:
  """Stepper of a run alone.

  Many steps in one program where the data may lie on the one device. Several
  devices, the manual modes and a profile take a batch per step. So does, by
  ``data.on_device = 'auto'``, a model with convolutions on a CPU, whose back
  end is slow on these in a loop.
  """
  alone = len(devices) == 1 and experiment.settings.training.mode == 'jit'
  alone = alone and not profile and on_device(experiment)
  if not alone or slow_in_loops(experiment):
    mesh = parallel.make_mesh(devices)
    return data_parallel.DataParallel(experiment, mesh)
  way = programs.Way('vmap', 1, experiment.plan.longest)
  feeder = Feeder(experiment)
  return DeviceProgram(experiment, way, devices, feeder)


def slow_in_loops(experiment: build.Experiment) -> bool:
  """Whether steps inside a program's loop, or of several members, are slow.

  Convolutions are, on the CPU; `data.on_device = 'always'` asks for them.
  """
  asked = {stream.on_device for stream in experiment.streams.values()}
  if jax.default_backend() != 'cpu' or asked == {'always'}:
    return False

  def evaluate():
    batch = experiment.example_batch()
    params, model_state = experiment.model.init(jax.random.key(0), batch)
    return experiment.make_eval_step()(params, model_state, batch)

  return jaxprs.convolves(evaluate)


def on_device(experiment: build.Experiment) -> bool:
  """Whether the training data of all streams are to lie on the device.

  Raises:
    ValueError: if a setting is not known.
  """
  for name, stream in experiment.training_streams().items():
    section = experiment.streams.get(name)
    chosen = section.on_device if section else 'auto'
    if chosen not in ON_DEVICE:
      raise ValueError(
        f'Expected on_device to be one of {", ".join(ON_DEVICE)}, found '
        f'{chosen!r}; set it in the data of stream {name!r}.'
      )
    fits = ON_DEVICE[chosen]
    if fits is None:
      one = stream.source.take(np.zeros(1, int))
      size = sum(x.nbytes for x in one.values()) * len(stream.source)
      fits = size <= DEVICE_LIMIT
    if not fits:
      return False
  return True
