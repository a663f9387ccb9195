"""Checks of a recommender, and lines before it trains: data, protocol, cost."""

from typing import Any

import numpy as np

from mtl_jax import evaluation
from mtl_jax.experiment import log_tasks, ranking_report, recommend
from mtl_jax.models import softmax
from mtl_jax.recommendation import ranking
from mtl_jax.training import loop


def lines(experiment: Any) -> list[str]:
  """Lines before training: the data, the protocol, the cost.

  Raises:
    ValueError: if the head of the next item does not fit the protocol.
  """
  log = log_tasks.of(experiment.settings)
  if log is None:
    return []
  split = log.split
  if not log.item:
    return [split.describe(), *split.log.notes, *split.notes]
  head = recommend.head_of(experiment, experiment.item_task)
  _check_head(head, log, split)
  notes = [*split.log.notes, *split.notes]
  number = split.log.num_items
  stream = experiment.streams[log.stream]
  drawn = head.get('negatives', 0) * stream.batch_size
  if drawn >= number:
    notes.append(
      f'{head["negatives"]} negatives for each of {stream.batch_size} rows are '
      f'as many as the {number:,} items: each is taken once, as in the full '
      'softmax.'
    )
  notes += _about_times(experiment.settings.model.trunk)
  law = ranking_report.law_of(log.settings, split)
  if law is not None:
    best = law.ceiling(log.k, law.states(split))[f'ndcg@{log.k}']
    notes.append(
      f'A model that knows the law of the log is expected to have ndcg@{log.k} '
      f'{best:.4f} on these targets, and no model more.'
    )
  return [split.describe(), *notes, _cost(experiment, log, head, drawn)]


def _check_head(head, log, split) -> None:
  """Raises if a head of the next item does not fit the protocol."""
  for part in ('validation', 'test'):
    ranking.check_seen(split, part, log.seen)
  if split.protocol == 'cold_items' and not head.get('seen'):
    raise ValueError(
      'Expected the head of the next item to leave out warm items under the '
      "protocol cold_items, found no 'seen'; set model.heads."
      f"{log.item}.seen = 'seen'."
    )
  if split.protocol == 'cold_items' and head.get('untrained', True):
    raise ValueError(
      'Expected the head of the next item to train without cold items under '
      'the protocol cold_items, found untrained = True; set model.heads.'
      f'{log.item}.untrained = False.'
    )


def _about_times(trunk) -> list[str]:
  if not trunk.get('times') or trunk.get('moment', 'next') != 'next':
    return []
  if trunk.get('next_times'):
    return ['The trunk is told the time of the target.']
  return [
    'The trunk reads how long a step waits for the next, which the last step '
    'is not told: where targets are measured it is 0; set '
    "model.trunk.next_times = 'next_times', or moment = 'own'."
  ]


def _cost(experiment, log, head, drawn) -> str:
  """Line on the cost of scores; of items that are drawn, or of all."""
  length = experiment.example_batch()[log.stream]['items'].shape[1]
  number = log.split.log.num_items
  items = min(drawn or number, number)
  cost = softmax.softmax_cost(
    experiment.streams[log.stream].batch_size * length,
    items,
    experiment.settings.model.inputs.get('features', 64),
    chunk=items if drawn else head.get('chunk', softmax.CHUNK),
  )
  seen = 'masked' if head.get('seen') else 'ranked too'
  return f'Next item: {cost.text}; items seen before are {seen}.'


def check_scores(experiment: Any, result: evaluation.Result) -> None:
  """Raises if a score of an item was NaN on validation.

  Raises:
    NonFiniteError: with a sentence, as for losses that are not finite.
  """
  task = experiment.item_task
  if task is None or not np.isnan(result.metrics[task.name][task.score]):
    return
  raise loop.NonFiniteError(
    f'Expected finite scores of items, found NaN for task {task.name!r} on the '
    'validation split; in a new --workdir, lower optimizer.learning_rate, or '
    'set optimizer.clip_norm.'
  )
