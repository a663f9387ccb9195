"""Criteria that choose the checkpoint, and stop a run that gets no better."""

from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import math
from typing import Any

import jax

from mtl_jax import names as names_lib, tasks as tasks_lib
from mtl_jax.evaluation import eval_steps, loops, results
from mtl_jax.models import interface
from mtl_jax.tasks import metrics as metrics_lib

OVERALL = 'overall'


@dataclasses.dataclass(frozen=True)
class Selection:
  """One number of a result, of which more is better.

  Attributes:
    name: 'overall', or ``task/metric``.
    weights: of the tasks' scores in the overall score.
    sign: -1 for a metric of which less is better.
    line: what is to be said of it before training; empty as a rule.
  """

  name: str
  weights: Mapping[str, float]
  sign: int = 1
  line: str = ''

  def __call__(self, result: results.Result) -> float:
    """The number, NaN where it is not defined."""
    if self.name == OVERALL:
      return results.weighted_mean(result.unclipped, self.weights)
    task, _, metric = self.name.rpartition('/')
    return self.sign * result.metrics[task][metric]


def make_selection(
  select: str,
  tasks: Sequence[tasks_lib.Task],
  known: Collection[str],
  undefined: Collection[str] = (),
  split: str = 'validation',
) -> Selection:
  """Reads the setting, and checks that it can choose a checkpoint.

  The overall score leaves tasks out whose score is not defined on the split,
  and says so.

  Args:
    select: 'overall', ``task/metric`` or ``task/loss``. Of losses and errors
      less is better, of other metrics more; '-' or '+' in front says else.
    tasks: of the result.
    known: the names ``task/metric`` that an evaluation gives, of `check`.
    undefined: those that are not defined on the split, of `undefined`.
    split: what it is called.

  Raises:
    ValueError: for an unknown name, with the nearest, or one that is not
      defined on the split.
  """
  name = select.lstrip('+-')
  signs = {'-': -1, '+': 1}
  if name == OVERALL:
    return _overall(tasks, known, undefined, split)
  if name not in known:
    raise ValueError(
      f"Expected training.select to be 'overall' or a metric of a task, found "
      f'{select!r}; {names_lib.nearest(name, [OVERALL, *sorted(known)])}'
    )
  task, _, metric = name.rpartition('/')
  if name in undefined:
    raise ValueError(
      f'Expected a metric to select by that is defined on the {split} split, '
      f'found that {name} is not, whatever is predicted there; set '
      f'training.select to another, such as {task}/loss, or choose another '
      'split.'
    )
  default = -1 if metric in metrics_lib.LOWER_IS_BETTER else 1
  return Selection(name, {}, signs.get(select[0], default))


def _overall(tasks, known, undefined, split) -> Selection:
  weights = {task.name: task.weight for task in tasks if task.weight}
  without = {}
  for task in tasks:
    start = f'{task.name}/'
    own = {
      n.removeprefix(start): math.nan for n in known if n.startswith(start)
    }
    score = results.score_name(task, own)
    if start + score in undefined and weights.pop(task.name, None):
      without[task.name] = score
  if not without:
    return Selection(OVERALL, weights)
  scores = ', '.join(f'{score} of {name}' for name, score in without.items())
  if not weights:
    raise ValueError(
      f'Expected a score to select by that is defined on the {split} split, '
      f'found that {scores} is not, whatever is predicted there; set '
      f'training.select to a loss, such as {next(iter(without))}/loss, or '
      'choose another split.'
    )
  return Selection(
    OVERALL,
    weights,
    line=(
      f'Not defined on the {split} split, whatever is predicted: {scores}. '
      f'Checkpoints are chosen by the score of {", ".join(weights)} alone.'
    ),
  )


def undefined(
  model: interface.MultiTaskModel,
  tasks: Sequence[tasks_lib.Task],
  params: Any,
  model_state: Any,
  batches: Iterable[eval_steps.Batch],
) -> frozenset[str]:
  """The metrics that are NaN on a split, whatever is predicted.

  Such as an AUC where one of the classes is missing. The metrics are computed
  once, of random numbers in place of the model's outputs; the model does not
  run.

  Args:
    model: for the shapes of its outputs.
    tasks: all of them.
    params: parameters, or their shapes.
    model_state: state, or its shapes.
    batches: of the split, padded.

  Returns:
    Names ``task/metric``.
  """
  shapes = jax.eval_shape(lambda: (params, model_state))

  def features(params, model_state, batch, *, stream, train, key):
    del params, key
    own = [task for task in tasks if task.stream == stream]
    heads = tuple({n: 0 for task in own for n in (task.name, *task.reads)})

    def run(params, model_state, batch):
      features, _ = model.features(
        params, model_state, batch, stream=stream, train=train, key=None
      )
      return model.outputs(
        params,
        model_state,
        features,
        batch,
        tasks=heads,
        train=train,
        key=None,
      )[0]

    outputs = jax.eval_shape(run, *shapes, batch)
    keys = jax.random.split(jax.random.key(0), len(heads))
    random = {
      name: jax.random.normal(key, outputs[name].shape)
      for name, key in zip(heads, keys, strict=True)
    }
    return random, model_state

  def outputs(params, model_state, features, batch, *, tasks, train, key):
    del params, batch, train, key
    return {name: features[name] for name in tasks}, model_state

  noise = model._replace(features=features, outputs=outputs, inspect=None)
  step = jax.jit(eval_steps.make_eval_step(noise, tasks))
  metrics = loops.evaluate(step, tasks, (), (), batches).metrics
  return frozenset(
    f'{task}/{name}'
    for task, values in metrics.items()
    for name, value in values.items()
    if math.isnan(value)
  )
