"""The stepper of one member whose batch is split over devices."""

from collections.abc import Iterator, Mapping, Sequence
import functools
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from mtl_jax import data, evaluation
from mtl_jax.experiment import build
from mtl_jax.training import checkpoints, parallel, programs


class DataParallel:
  """One member, a step per call, its batch split over all devices of a mesh.

  State and parameters are whole on every device; `state_sharding` is where
  that is decided.
  """

  longest = 1
  compile_s, peak_mb = 0.0, None

  def __init__(self, experiment: build.Experiment, mesh: Any):
    """Builds the step.

    Args:
      experiment: of the member.
      mesh: of devices, from `parallel.make_mesh`.
    """
    self.way = programs.Way(experiment.settings.training.mode, 1, 1)
    self._experiment, self._mesh = experiment, mesh
    self._iterator: Iterator[Any] = iter(())
    self._drawn: tuple[int, Any] = (-1, None)  # step, its batch
    self._seed = 0

    def make_step(axis_name):
      step = experiment.make_step(axis_name)

      def alone(state, batch):
        one = programs.one_of(state._replace(step=None))
        new, metrics = step(one._replace(step=state.step), batch)
        new = programs.as_members(new._replace(step=None))
        return new, jax.tree.map(lambda x: x[None, None], metrics)

      return alone

    self._step = parallel.parallelize(make_step, mesh, self.way.way)
    self._keep_better = jax.jit(
      programs.keep_better, out_shardings=self.state_sharding()
    )

  def state_sharding(self) -> NamedSharding:
    """Sharding of each leaf of a state."""
    return NamedSharding(self._mesh, PartitionSpec())

  def begin(self, seeds: Sequence[int]) -> None:
    """Sets whose order of the data the next steps follow."""
    (self._seed,) = seeds
    self._drawn = (-1, None)

  def place(self, tree: Any) -> Any:
    """Puts host arrays ``[1, ...]`` on every device."""
    return parallel.place_replicated(tree, self._mesh)

  def init(self, seeds: Sequence[int], hyper: Mapping[str, Any]) -> Any:
    """The state of the member at step 0, ``[1, ...]``."""
    del hyper
    return self._make_state(seeds)()

  def shapes(self, seeds: Sequence[int], hyper: Mapping[str, Any]) -> Any:
    """The shapes of the same, placed: to restore a checkpoint."""
    del hyper
    shapes = jax.eval_shape(self._make_state(seeds))
    return checkpoints.abstract(shapes, self.state_sharding())

  def _make_state(self, seeds):
    make = self._experiment.make_state
    return parallel.replicate(
      lambda: programs.as_members(make(seeds[0], {})), self._mesh
    )

  def compile(self, members: programs.Members, start: int) -> None:
    """Is done by the first step."""

  def advance(
    self, members: programs.Members, start: int, number: int
  ) -> tuple[Any, Any]:
    """As `loop.Stepper` has it, for one step."""
    del number
    batch = self._batch(start)
    state, metrics = self._step(
      members.state._replace(step=np.int32(start)), batch
    )
    return state, metrics

  def _batch(self, step):
    at, batch = self._drawn
    if at != step:
      if at != step - 1 or batch is None:
        self._iterator = data.train_iterator(
          self._experiment.training_streams(),
          start=step,
          seed=self._seed,
          draw=self._experiment.draw(),
          process_index=jax.process_index(),
          process_count=jax.process_count(),
        )
      batch = parallel.shard_batch(next(self._iterator), self._mesh)
      self._drawn = (step, batch)
    return batch

  def probe(self, members: programs.Members, start: int) -> dict[str, Any]:
    """Gramian ``[1, K, K]`` and presence ``[1, K]`` of the coming step."""
    state = members.state._replace(step=np.int32(start))
    return jax.device_get(self._probe(state, self._batch(start)))

  @functools.cached_property
  def _probe(self):
    probe = self._experiment.make_probe()

    def of_one(state, batch):
      one = programs.one_of(state._replace(step=None))
      measured = probe(one._replace(step=state.step), batch)
      return programs.as_members(measured)

    return jax.jit(of_one)

  def keep_better(self, better: np.ndarray, new: Any, old: Any) -> Any:
    """As `loop.Stepper` has it."""
    return self._keep_better(self.place(better), new, old)

  def evaluate(
    self, params: Any, model_state: Any, split: str
  ) -> list[evaluation.Result]:
    """The result of the member on a split."""
    batches = self._experiment.evaluation_batches(split, self._mesh.size)
    return [
      evaluation.evaluate(
        self._evaluate,
        self._experiment.tasks,
        params,
        model_state,
        (parallel.shard_batch(batch, self._mesh) for batch in batches),
      )
    ]

  @functools.cached_property
  def _evaluate(self):
    step = self._experiment.make_eval_step()

    def of_one(params, model_state, batch):
      return step(*programs.one_of((params, model_state)), batch)

    return jax.jit(of_one, out_shardings=self.state_sharding())
