"""How a single run takes its steps: batch by batch, or many in one program."""

from collections.abc import Callable
import dataclasses
import json
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from mtl_jax import data, evaluation
from mtl_jax.experiment import build, feeding
from mtl_jax.models import convolution
from mtl_jax.training import parallel, population


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
  """What the loop calls.

  Attributes:
    batches: the position in the data, with grain's checkpoint protocol.
    draw: ``number -> what the next steps read``, on the devices.
    step: compiled ``(state, drawn) -> (state, metrics)``; donates the state.
    first: ``drawn -> batch`` of its first step.
    longest: steps at once, at most.
  """

  batches: Any
  draw: Callable[[int], Any]
  step: Callable[[Any, Any], tuple[Any, Any]]
  first: Callable[[Any], Any]
  longest: int


def choose(
  experiment: build.Experiment, mesh: Any, *, profile: bool = False
) -> Steps:
  """Many steps in one program where the data may lie on the one device.

  Several devices, the manual modes and a profile take a batch a step. So does,
  by ``data.on_device = 'auto'``, a model with convolutions on a CPU, whose
  back end is slow on these in a loop.
  """
  wanted = stretches_pay(experiment)
  alone = mesh.size == 1 and experiment.settings.training.mode == 'jit'
  if not wanted or not alone or profile:
    return by_batch(experiment, mesh)
  steps = in_stretches(experiment, mesh)
  print(
    f'The training data lie on the device: up to {steps.longest} steps in one '
    'program.',
    flush=True,
  )
  return steps


def stretches_pay(experiment: build.Experiment) -> bool:
  """Whether a run on one device takes many steps in one program."""
  return feeding.on_device(experiment) and not slow_in_loops(experiment)


def slow_in_loops(experiment: build.Experiment) -> bool:
  """Whether steps inside a program's loop, or of several members, are slow.

  Convolutions are, on the CPU; `data.on_device = 'always'` asks for them.
  """
  asked = {stream.on_device for stream in experiment.streams.values()}
  slow = jax.default_backend() == 'cpu' and _has_convolutions(experiment)
  return slow and asked != {'always'}


def by_batch(experiment: build.Experiment, mesh: Any) -> Steps:
  """The host sends the batch of each step, in any parallel mode."""
  batches = data.train_iterator(
    experiment.training_streams(),
    seed=experiment.settings.seed,
    draw=experiment.draw(),
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  return Steps(
    batches=batches,
    draw=lambda number: parallel.shard_batch(next(batches), mesh),
    step=parallel.parallelize(
      experiment.make_step, mesh, experiment.settings.training.mode
    ),
    first=lambda batch: batch,
    longest=1,
  )


def in_stretches(experiment: build.Experiment, mesh: Any) -> Steps:
  """The program of one member of a population, on the one device of a mesh."""
  plan = experiment.plan
  longest = min(plan.log_every, plan.evaluate_every, plan.steps)
  feeder = feeding.Feeder(experiment)
  orders = feeder.orders([experiment.settings.seed])
  everywhere = NamedSharding(mesh, PartitionSpec())
  arrays = jax.device_put(feeder.data, everywhere)
  position = Position()
  advance = population.make_advance(
    lambda hyper: experiment.make_step(), longest
  )

  def run(state, feed, number, arrays):
    start = state.step
    active = jax.numpy.ones((), bool)
    member = population.Members(state._replace(step=None), {}, active)
    state, metrics = advance((member, feed), (start, number, arrays))
    return state._replace(step=start + number), metrics

  compiled = jax.jit(run, donate_argnums=0, out_shardings=everywhere)
  fetch = jax.jit(
    lambda arrays, feed: population.fetch(
      arrays, jax.tree.map(lambda x: x[0], feed)
    )
  )
  ready: dict[int, population.Feed] = {}

  def make_feed(start):
    feed = feeder.feed(orders, start, longest)
    one = jax.tree.map(lambda x: x[0], feed)  # the one member
    return jax.device_put(one, everywhere)

  def draw(number):
    feed = ready.pop(position.step, None) or make_feed(position.step)
    position.step += number
    return feed, np.int32(number)

  def step(state, drawn):
    found = compiled(state, *drawn, arrays)
    # The host prepares what comes next while the device works.
    ready.clear()
    ready[position.step] = make_feed(position.step)
    return found

  return Steps(
    batches=position,
    draw=draw,
    step=step,
    first=lambda drawn: fetch(arrays, drawn[0]),
    longest=longest,
  )


class Position:
  """The number of the next batch, which a checkpoint takes along.

  Written as the iterator of `data.train_iterator` is, so that a run may go on
  either way.
  """

  def __init__(self):
    self.step = 0

  def get_state(self) -> bytes:
    """As grain's handler of checkpoints wants it."""
    return json.dumps({'next_index': self.step}, indent=4).encode()

  def set_state(self, state: bytes) -> None:
    """Goes to where `get_state` was called."""
    self.step = int(json.loads(state)['next_index'])

  def start_prefetch(self) -> None:
    """Nothing is read ahead."""


def _has_convolutions(experiment) -> bool:
  def evaluate():
    model, batch = experiment.model, experiment.example_batch()
    params, model_state = model.init(jax.random.key(0), batch)
    step = evaluation.make_eval_step(model, experiment.tasks)
    return step(params, model_state, batch)

  return convolution.convolves(evaluate)
