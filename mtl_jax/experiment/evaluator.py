"""What is measured of an experiment: splits, and task gradients."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from mtl_jax import data, evaluation
from mtl_jax.experiment import build
from mtl_jax.training import parallel, state as state_lib, step as step_lib


class Evaluator:
  """Evaluates parameters on a split, over all devices."""

  def __init__(self, experiment: build.Experiment, mesh: Any):
    self._experiment = experiment
    self._mesh = mesh
    self._replicated = NamedSharding(mesh, PartitionSpec())
    self._step = jax.jit(
      evaluation.make_eval_step(experiment.model, experiment.tasks),
      out_shardings=self._replicated,
    )

  def place(self, tree: Any) -> Any:
    """Puts a restored pytree on every device."""
    return jax.device_put(tree, self._replicated)

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
    """The overall score, and all metrics under flat names."""
    result = self.evaluate(state.params, state.model_state, split)
    return result.overall, result.scalars()


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
