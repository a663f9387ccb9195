"""Ranking of a recommender beside simple models: the tables of a run.

Everything is measured on the same targets, from the same histories, over all
items; a hash of the targets says which they are.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import data, evaluation, reporting, tasks as tasks_lib
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import input_tables, log_tasks, recommend
from mtl_jax.recommendation import (
  baselines,
  generated,
  protocols,
  ranking,
)
from mtl_jax.tasks.metrics import item_ranks

MODEL = 'model'
PART = 'test'  # whose targets are measured
GENERATED = 'generated'  # a log whose law is known
DATA = 'data'  # the arm without a placebo
METRICS = ('hr', 'ndcg', 'mrr')
# The baselines that models are compared with, in ranking and by metric.
AGAINST = 'markov'
RATED = ('regression', 'ordinal', 'classification')  # kinds that give ratings
_INTERVAL = 'the interval is 95% over users.'
SIMPLE = {'interests_map': 'own_genres', 'rmse': 'biases_and_recent'}


def split_of(experiment: Any) -> protocols.Split | None:
  """The split log of the stream whose next item is a task, else of the first.

  None if no task is of a log.
  """
  log = log_tasks.of(experiment.settings)
  return None if log is None else log.split


@dataclasses.dataclass(frozen=True)
class Measured:
  """Measures of a model on the targets of a split, M of them in their order.

  Attributes:
    ranks: places of the targets; None if it does not rank items.
    interests: ``[M, G]`` scores of genres, or None.
    rating: ``[M]``, or None.
  """

  ranks: ranking.TargetRanking | None = None
  interests: np.ndarray | None = None
  rating: np.ndarray | None = None


def measure(
  experiment: Any, trees: Sequence[tuple[Any, Any]]
) -> list[Measured]:
  """Measures trained models on the test targets.

  Args:
    experiment: with tasks of a log.
    trees: parameters and state of each model.

  Raises:
    ValueError: if a score is NaN.
  """
  log: Any = log_tasks.of(experiment.settings)
  own = [t for t in experiment.tasks if t.stream == log.stream]
  whole = evaluation.make_predict_step(experiment.model, own)

  @jax.jit
  def step(params, model_state, batch):
    found = whole(params, model_state, batch)
    return {name: x[:, -1] if x.ndim > 2 else x for name, x in found.items()}

  batches = data.EvaluationBatches(
    experiment.data[log.stream].splits[PART],
    experiment.streams[log.stream].evaluation_batch_size,
  )
  measured = []
  for tree in trees:
    params, model_state = jax.tree.map(jnp.asarray, tree)
    predictions = evaluation.predict(
      step,
      own,
      params,
      model_state,
      ({log.stream: batch} for batch in batches),
    )
    measured.append(_measured(experiment, own, predictions, log))
  return measured


def as_rating(task: tasks_lib.Task, values: np.ndarray) -> np.ndarray | None:
  """Ratings ``[M]`` of predictions ``[M, C]``: the mean, of levels.

  None if the classes of the task are no numbers.
  """
  if values.shape[-1] == 1:
    return values[..., 0]
  try:
    levels = np.array([float(x) for x in task.labels])
  except ValueError:
    return None
  return values @ levels if len(levels) == values.shape[-1] else None


def _measured(experiment, own, predictions, log) -> Measured:
  """Predictions of last steps, ``{task: [M, ...]}``, by what they are of."""
  rated = _first(experiment, own, 'rating', RATED)
  genres = _first(experiment, own, 'interests', ('multilabel',))
  return Measured(
    _ranks(predictions[log.item], log.split) if log.item else None,
    genres and predictions[genres.name],
    rated and as_rating(rated, predictions[rated.name]),
  )


def _first(experiment, tasks, label, kinds):
  """The first of the tasks that predicts a label itself, or None."""
  specs = experiment.settings.targets
  return next(
    (
      task
      for task in tasks
      if recommend.label_of(experiment, task) == label
      and specs[task.name].get('kind') in kinds
    ),
    None,
  )


def _ranks(rows, split) -> ranking.TargetRanking:
  """Ranking of predictions of the next item, ``[M, ...]``."""
  k = (rows.shape[1] - item_ranks.FIRST_BEST) // 2
  better = rows[:, item_ranks.BETTER]
  places = ranking.Places(
    np.where(np.isnan(better), -1, better).astype(np.int32),
    np.nan_to_num(rows[:, item_ranks.EQUAL]).astype(np.int32),
  )
  ranking.check_finite(places, MODEL)
  shown = rows[:, item_ranks.FIRST_BEST : item_ranks.FIRST_BEST + k]
  coverage = len(np.unique(shown[shown > 0])) / split.log.num_items
  return _ranking(places, split, k, coverage)


def _ranking(places, split, k, coverage) -> ranking.TargetRanking:
  return ranking.TargetRanking(
    places=places,
    candidates=split.log.num_items,
    coverage=float(coverage),
    coverage_at=k,
    slices=ranking.slices(split, PART),
    users=split.log.user[split.targets(PART)],
  )


def save(path: pathlib.Path, measured: Measured, targets: str) -> None:
  """Keeps what was measured on targets with this hash."""
  ranks = measured.ranks
  arrays = {
    'targets': targets,
    'better': ranks and ranks.places.better,
    'equal': ranks and ranks.places.equal,
    'coverage': ranks and ranks.coverage,
    'top': ranks and ranks.coverage_at,
    'interests': measured.interests,
    'rating': measured.rating,
  }
  known: dict[str, Any] = {key: x for key, x in arrays.items() if x is not None}
  with open(path, 'wb') as file:
    np.savez_compressed(file, **known)


def load(path: pathlib.Path, split: protocols.Split) -> Measured:
  """Reads the file of `save`.

  Raises:
    ValueError: if it is of other targets.
  """
  with np.load(path, allow_pickle=False) as kept:
    arrays = {key: kept[key] for key in kept.files}
  check_targets(path, arrays, split)
  ranks = None
  if 'better' in arrays:
    places = ranking.Places(arrays['better'], arrays['equal'])
    top, coverage = int(arrays['top']), float(arrays['coverage'])
    ranks = _ranking(places, split, top, coverage)
  return Measured(ranks, arrays.get('interests'), arrays.get('rating'))


def check_targets(
  path: pathlib.Path,
  arrays: dict[str, np.ndarray],
  split: protocols.Split,
) -> None:
  """Takes the hash of the targets out of the arrays of a file.

  Raises:
    ValueError: if it is another one.
  """
  known = str(arrays.pop('targets', 'an earlier version, without a hash'))
  if known != split.target_hash(PART):
    raise ValueError(
      f'Expected ranks of the targets {split.target_hash(PART)} in {path}, '
      f'found those of {known}: the data have changed since; take another '
      'workdir.'
    )


@dataclasses.dataclass(frozen=True)
class Compared:
  """Models and baselines on the same targets.

  Attributes:
    outcome: of the baselines.
    models: by name, one of each seed.
    horizon: next events whose genres are the interests.
    k: items that are recommended.
    placebo: of the model, such as vectors of items that are random.
    point: values of a sweep that the data depend on, for titles.
    seen: 'mask' or 'keep', whether items of the history are ranked.
  """

  outcome: baselines.Comparisons
  models: Mapping[str, Sequence[Measured]]
  horizon: int = 10
  k: int = 10
  placebo: str = ''
  point: str = ''
  seen: str = 'keep'

  @property
  def arm(self) -> str:
    """The arm of the log, and the placebo of the model."""
    arm = self.outcome.split.log.arm
    return f'{arm} with {self.placebo}' if self.placebo else arm

  @property
  def data(self) -> str:
    """The data, their arm, and how they are split, for titles."""
    split = self.outcome.split
    told = f'{split.log.name}, {self.arm}, {split.protocol}'
    return f'{told}; {self.point}' if self.point else told

  def rows(self) -> dict[str, dict[str, float]]:
    """``{name: {metric: value}}``: baselines, then models, means of seeds."""
    means = {name: dict(row) for name, row in self.outcome.rows.items()}
    for name, rows in self._rows.items():
      means[name] = {
        metric: float(np.mean([row[metric] for row in rows]))
        for metric in rows[0]
      }
    return means

  @functools.cached_property
  def _rows(self) -> dict[str, list[dict[str, float]]]:
    """Metrics of each seed of the models."""
    return {
      name: [self._row(one) for one in seeds]
      for name, seeds in self.models.items()
    }

  def spread(self, metric: str) -> list[str]:
    """Line on the deviation of a metric over seeds, of each model."""
    return [
      f'{name}: mean of {len(rows)} seeds, whose deviation is '
      f'{np.std([row[metric] for row in rows], ddof=1):.4f}.'
      for name, rows in self._rows.items()
      if len(rows) > 1 and metric in rows[0]
    ]

  def gain(self, name: str, metric: str) -> ranking.Difference | None:
    """Difference of a model to `SIMPLE`, with its interval over users.

    Args:
      name: of the model.
      metric: 'interests_map', or 'rmse', of which squared errors are compared.
    """
    split, users = self.outcome.split, self.outcome.split.log.user
    users = users[split.targets(PART)]
    simple = self.outcome.predictions.get(SIMPLE[metric])
    if simple is None:
      return None
    seeds: Any = self.models[name]
    if metric == 'rmse':
      truth = baselines.ratings_of(split, PART)
      errors = np.mean([(one.rating - truth) ** 2 for one in seeds], axis=0)
      errors = errors - (simple - truth) ** 2
      known = np.isfinite(errors)
      return ranking.interval(errors[known], users[known])
    labels = self._labels

    def measure(rows):
      ours = [
        ranking.macro_average_precision(one.interests[rows], labels[rows])
        for one in seeds
      ]
      theirs = ranking.macro_average_precision(simple[rows], labels[rows])
      return float(np.mean(ours) - theirs)

    return ranking.resampled(measure, users)

  @functools.cached_property
  def _labels(self) -> Any:
    """Genres of the next events ``[M, G]``; None without genres."""
    split = self.outcome.split
    if not split.log.genre_names:
      return None
    return baselines.next_genres(split, PART, self.horizon)

  def _row(self, one):
    split = self.outcome.split
    row = {} if one.ranks is None else one.ranks.table((self.k,))
    if one.rating is not None:
      row |= baselines.rate(one.rating, split, PART)
    if one.interests is not None and self._labels is not None:
      row['interests_map'] = ranking.macro_average_precision(
        one.interests, self._labels
      )
    return row

  def difference(self, name: str, against: str) -> ranking.Difference:
    """NDCG of a model less that of a baseline, with its interval over users."""
    seeds = [one.ranks for one in self.models[name] if one.ranks is not None]
    ours: Any = OfSeeds(seeds)  # it has what is asked of a ranking
    theirs = self.outcome.rankings[against]
    return ranking.difference(ours, theirs, 'ndcg', self.k)


@dataclasses.dataclass(frozen=True)
class OfSeeds:
  """Rankings of one model with several seeds: means over these."""

  rankings: Sequence[ranking.TargetRanking]

  @property
  def users(self) -> np.ndarray | None:
    """Of the targets, ``[M]``."""
    return self.rankings[0].users

  def values(self, metric: str, k: int) -> np.ndarray:
    """A metric of every target, ``[M]``."""
    by_seed = np.stack([one.values(metric, k) for one in self.rankings])
    return by_seed.mean(0, dtype=np.float64)


def compare(
  settings: settings_lib.Settings,
  models: Mapping[str, Sequence[Measured]],
  point: str = '',
) -> Compared:
  """Measured models beside every baseline that the split allows.

  Args:
    settings: of an experiment with tasks of a log.
    models: by name, one of each seed.
    point: values of a sweep that the data depend on.
  """
  log: Any = log_tasks.of(settings)
  split, horizon = log.split, log.horizon
  law = law_of(log.settings, split)
  known = {} if law is None or not log.item else {'law': law.score(split, PART)}
  outcome = baselines.measure(
    split,
    PART,
    ks=(log.k,),
    seen=log.seen,
    horizon=horizon,
    rankers=tuple(baselines.RANKERS) if log.item else (),
    models=known,
  )
  placebo = ''
  if models.keys() <= {MODEL}:  # else each is named by its point
    placebo = _placebo(input_tables.encoder_of(settings, log.stream))
  return Compared(outcome, models, horizon, log.k, placebo, point, log.seen)


def law_of(settings, split) -> generated.Chain | None:
  """The law that the targets of a log follow, if it is known.

  It is where each target comes right after the last event of its history.
  """
  options = settings.get('options', {})
  changed = options.get('repeats', 'keep') != 'keep' or options.get('core', 0)
  if settings.get('log') != GENERATED or changed:
    return None
  if split.log.arm != DATA or not split.rolling:
    return None
  of_reader = ('repeats', 'core')
  return generated.law_of(
    {key: x for key, x in options.items() if key not in of_reader}
  )


def _placebo(spec) -> str:
  """The placebo of an input encoder's vectors; '' if they are none."""
  vectors = spec.get('vectors')
  arm = vectors.get('arm', 'text') if isinstance(vectors, Mapping) else 'text'
  return '' if arm == 'text' else f'{arm} vectors'


def tables(compared: Compared) -> list[reporting.ResultTable]:
  """Tables of models and baselines: ranks, their slices, interests, ratings."""
  rows, told = compared.rows(), f'({compared.data})'
  metric = f'{METRICS[0]}@{compared.k}'
  ranked = [name for name, row in rows.items() if metric in row]
  made = [
    _next_item(compared, rows, ranked),
    _slices(compared, rows, ranked),
    _column(
      compared,
      rows,
      f'Interests: genres of the next events {told}',
      'interests_map',
      ('macro average precision', 'less own_genres'),
    ),
    _column(
      compared,
      rows,
      f'Rating of the target {told}',
      'rmse',
      ('RMSE', 'squared error less biases_and_recent'),
    ),
  ]
  # Of what the models are asked: baselines alone tell nothing of them.
  shown = [
    table
    for table in made
    if {row[0] for row in table.rows} & {*compared.models}
  ]
  if shown and not ranked:  # else the first one says what was measured
    _, *spread = shown[0].note.split('\n')
    shown[0] = dataclasses.replace(shown[0], note=_notes(compared, spread))
  return shown


def _next_item(compared, rows, ranked) -> reporting.ResultTable:
  outcome, k = compared.outcome, compared.k
  split = outcome.split
  metrics = [f'{name}@{k}' for name in METRICS]
  metrics += dict.fromkeys(
    x for name in ranked for x in rows[name] if x.startswith('coverage')
  )
  against = AGAINST if AGAINST in outcome.rankings else ''
  cells = []
  for name in ranked:
    row = [name, *(_cell(rows[name], x) for x in metrics)]
    if against and name in compared.models:
      row.append(str(compared.difference(name, against)))
    elif against:
      row.append('-')
    cells.append(row)
  number, candidates = split.log.num_items, split.num_ranked(PART)
  among = f'all {number:,}'
  if candidates < number:
    among = f'{candidates:,} of {number:,}'
  return reporting.ResultTable(
    f'Next item among {among} ({compared.data})',
    ['model', *metrics, *([f'ndcg less {against}'] * bool(against))],
    cells,
    note=_notes(compared, compared.spread(f'ndcg@{k}')),
  )


def _notes(compared, spread=()) -> str:
  """Notes under the first table: what was measured, and what was not."""
  split = compared.outcome.split
  hashed = f'Test targets {split.target_hash(PART)}'
  first = f'{hashed}; equal times in {split.log.ties} order; {_INTERVAL}'
  return '\n'.join([first, *spread, *split.notes, *compared.outcome.left_out])


def by_arm(runs: Mapping[str, Compared]) -> list[reporting.ResultTable]:
  """Tables of models and baselines under each arm of a log.

  Args:
    runs: by arm, of the same data and protocol.

  Returns:
    A table per kind of task: one row per model, one column per arm.
  """
  rows = {arm: compared.rows() for arm, compared in runs.items()}
  k = next(iter(runs.values())).k
  made = []
  for title, metric in (
    ('Next item', f'ndcg@{k}'),
    ('Interests', 'interests_map'),
    ('Rating', 'rmse'),
  ):
    names = dict.fromkeys(
      name for row in rows.values() for name in row if metric in row[name]
    )
    cells = [
      [name, *(_cell(row.get(name, {}), metric) for row in rows.values())]
      for name in names
    ]
    head = f'{title}, {metric}, by arm'
    made.append(reporting.ResultTable(head, ['model', *rows], cells))
  return [table for table in made if table.rows]


def _cell(row, metric) -> str:
  return f'{row[metric]:.4f}' if metric in row else '-'


def _slices(compared, rows, ranked) -> reporting.ResultTable:
  slices = ranking.slices(compared.outcome.split, PART)
  sizes = {name: int(some.sum()) for name, some in slices.items()}
  names = [name for name, size in sizes.items() if size]
  return reporting.ResultTable(
    f'ndcg@{compared.k} by kind of target, and how many ({compared.data})',
    ['model', *(f'{n.replace("_", " ")} ({sizes[n]:,})' for n in names)],
    [
      [model, *(_cell(rows[model], f'ndcg@{compared.k}/{n}') for n in names)]
      for model in ranked
    ],
  )


def _column(compared, rows, title, metric, heads) -> reporting.ResultTable:
  """Table of one metric, with differences of models to a simple one."""
  cells = []
  for name in [name for name, row in rows.items() if metric in row]:
    less = '-'
    if name in compared.models:
      less = str(compared.gain(name, metric) or '-')
    cells.append([name, f'{rows[name][metric]:.4f}', less])
  notes = [_INTERVAL.capitalize(), *compared.spread(metric)]
  return reporting.ResultTable(
    title, ['model', *heads], cells, note='\n'.join(notes)
  )
