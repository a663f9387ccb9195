"""The stepper of one member whose batch is split over devices."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from mtl_jax import combinators, data, evaluation
from mtl_jax.experiment import build
from mtl_jax.training import checkpoints, parallel, programs

# Fields of a state that may be split; its step and key are whole.
SPLIT = ('params', 'model_state', 'opt_state')


class DataParallel:
  """One member, a step per call, its batch split over all devices of a mesh.

  `state_sharding` decides where the state lies: whole on every device, or with
  some of its arrays split over an axis of the mesh that the batch is not.
  """

  longest = 1
  compile_s, peak_mb = 0.0, None

  def __init__(
    self,
    experiment: build.Experiment,
    mesh: Any,
    spec_of: Callable[[str], PartitionSpec] | None = None,
  ):
    """Builds the step.

    Args:
      experiment: of the member.
      mesh: of devices, from `parallel.make_mesh`; it may have further axes.
      spec_of: ``path -> spec`` of the arrays of parameters, model state and
        optimizer, such as ``params/trunk/w``, the moments of it and their
        count; None for a state that is whole on every device, as all modes but
        'jit' need it.
    """
    self.way = programs.Way(experiment.settings.training.mode, 1, 1)
    self._experiment, self._mesh = experiment, mesh
    self._spec_of = spec_of
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

    self._sharding = None
    if spec_of is not None:
      shapes = jax.eval_shape(
        lambda: programs.as_members(experiment.make_state(0, {}))
      )
      # The number of the step is no array of members.
      self._sharding = self.state_sharding(shapes)._replace(
        step=parallel.whole(mesh)
      )
    self._step = parallel.parallelize(
      make_step, mesh, self.way.way, self._sharding
    )

  def state_sharding(self, tree: Any) -> Any:
    """Shardings of arrays ``[1, ...]``: whole, but for fields of a state.

    Args:
      tree: a state, a mapping of some of its fields, or arrays of none.
    """
    spec_of = self._spec_of
    if spec_of is None:
      return parallel.whole(self._mesh)

    def of_leaf(path, _):
      name = combinators.path_name(path)
      if name.split('/')[0] not in SPLIT:
        return parallel.whole(self._mesh)
      return NamedSharding(self._mesh, PartitionSpec(None, *spec_of(name)))

    return jax.tree_util.tree_map_with_path(of_leaf, tree)

  def begin(self, seeds: Sequence[int]) -> None:
    """Sets whose order of the data the next steps follow."""
    (self._seed,) = seeds
    self._drawn = (-1, None)

  def place(self, tree: Any) -> Any:
    """Puts host arrays ``[1, ...]`` where `state_sharding` has them."""
    return parallel.place(tree, self._mesh, self.state_sharding(tree))

  def init(self, seeds: Sequence[int], hyper: Mapping[str, Any]) -> Any:
    """The state of the member at step 0, ``[1, ...]``."""
    del hyper
    return self._make_state(seeds)()

  def shapes(self, seeds: Sequence[int], hyper: Mapping[str, Any]) -> Any:
    """The shapes of the same, placed: to restore a checkpoint."""
    del hyper
    shapes = jax.eval_shape(self._make_state(seeds))
    return checkpoints.abstract(shapes, self.state_sharding(shapes))

  def _make_state(self, seeds):
    make = self._experiment.make_state
    return parallel.replicate(
      lambda: programs.as_members(make(seeds[0], {})),
      self._mesh,
      self._sharding,
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
    sharding = self.state_sharding(old)
    pick = jax.jit(programs.keep_better, out_shardings=sharding)
    return pick(self.place(better), new, old)

  def evaluate(
    self, params: Any, model_state: Any, split: str
  ) -> list[evaluation.Result]:
    """The result of the member on a split."""
    devices = self._mesh.shape[parallel.AXIS]
    batches = self._experiment.evaluation_batches(split, devices)
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

    return jax.jit(of_one, out_shardings=parallel.whole(self._mesh))
