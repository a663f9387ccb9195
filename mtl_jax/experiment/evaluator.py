"""What is measured of an experiment: splits, and task gradients."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from mtl_jax import combinators, data, evaluation
from mtl_jax.evaluation import measures
from mtl_jax.experiment import build
from mtl_jax.training import parallel, state as state_lib, step as step_lib


class Evaluator:
  """Evaluates parameters on a split, over all devices."""

  def __init__(self, experiment: build.Experiment, mesh: Any):
    self._experiment = experiment
    self._mesh = mesh
    self._warned = False
    self._step = jax.jit(
      evaluation.make_eval_step(experiment.model, experiment.tasks),
      out_shardings=NamedSharding(mesh, PartitionSpec()),
    )

  def place(self, tree: Any) -> Any:
    """Puts a restored pytree on every device."""
    return parallel.place_replicated(tree, self._mesh)

  def batches(self, split: str) -> Iterator[dict[str, Any]]:
    """The padded batches of all streams, one stream after the other."""
    for name, stream in self._experiment.streams.items():
      size = stream.evaluation_batch_size
      parts = data.EvaluationBatches(
        self._experiment.data[name].splits[split],
        -(-size // self._mesh.size) * self._mesh.size,
        jax.process_index(),
        jax.process_count(),
      )
      for batch in parts:
        yield parallel.shard_batch({name: batch}, self._mesh)

  def evaluate(
    self, params: Any, model_state: Any, split: str
  ) -> evaluation.Result:
    """Metrics, scores and relations on a split."""
    return evaluation.evaluate(
      self._step,
      self._experiment.tasks,
      params,
      model_state,
      self.batches(split),
    )

  def score(
    self, state: state_lib.TrainState, split: str
  ) -> tuple[float, dict[str, float]]:
    """What parameters are selected by, and all metrics under flat names."""
    result = self.evaluate(state.params, state.model_state, split)
    if result.undefined and not self._warned:
      self._warned = True
      print(
        f'The score of {", ".join(result.undefined)} is not defined on the '
        f'{split} split: no checkpoint can be the best by it.',
        flush=True,
      )
    return result.selection, result.scalars()


def make_probe(
  experiment: build.Experiment,
) -> Callable[..., dict[str, float]]:
  """Cosines and norms of the task gradients of the coming step."""
  names = experiment.task_names
  probe = jax.jit(
    step_lib.make_gradient_probe(
      experiment.model, experiment.tasks, frozen=experiment.frozen
    )
  )

  def measure(state, batch):
    found = jax.device_get(probe(state, batch))
    return evaluation.gradient_scalars(
      names, found['gramian'], found['present']
    )

  return measure


def monitored(opt_state: Any) -> combinators.MonitorState | None:
  """The state of the last `combinators.monitor` in an optimizer's state."""

  def is_monitor(x):
    return isinstance(x, combinators.MonitorState)

  found = filter(is_monitor, jax.tree.leaves(opt_state, is_leaf=is_monitor))
  return next(reversed(list(found)), None)


def measure(names: tuple[str, ...], opt_state: Any) -> dict[str, float]:
  """What `combinators.monitor` measured in the last step.

  The measures lie in the state that the step gives back: no second look at
  the gradients is needed, as `make_probe` takes.

  Args:
    names: of the tasks.
    opt_state: of a method with a monitor.
  """
  found = jax.device_get(monitored(opt_state))
  return measures.measure_scalars(names, found.measures, found.groups)


def measure_members(
  names: tuple[str, ...], opt_state: Any
) -> dict[str, np.ndarray]:
  """What the monitor of each member measured, ``{series: [P]}``.

  Args:
    names: of the tasks.
    opt_state: of all members, ``[P, ...]``.

  Returns:
    Nothing if the method has no monitor.
  """
  found = monitored(opt_state)
  if found is None:
    return {}
  parts = jax.device_get((found.measures, found.groups))
  size = len(parts[0].norms)
  rows = [
    measures.measure_scalars(names, *jax.tree.map(lambda x, i=i: x[i], parts))
    for i in range(size)
  ]
  return {key: np.array([row[key] for row in rows]) for key in rows[0]}
