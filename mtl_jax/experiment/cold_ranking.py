"""Ranks of cold items, and of the same model when their rows are permuted.

A model that knows no content gives all users one order of the cold items: many
targets, and one draw. Rows of cold items that change places show what such an
order is worth by luck. As no history holds a cold item, this is the same as
asking for other cold targets, for which nothing is computed twice.

A row that is the sum of a learned one and one of content has the latter alone
here: the learned part of a cold item is what it began with, and that of a new
item, which a model is asked for later, is 0 as well (`new_items`).
"""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import combinators, reporting
from mtl_jax.experiment import (
  input_tables,
  log_tasks,
  ranking_report,
  recommend,
)
from mtl_jax.models import items
from mtl_jax.recommendation import protocols, ranking, windows
from mtl_jax.tasks.metrics import item_ranks

PROTOCOL = 'cold_items'
PERMUTATIONS = 20
AMONG = {'cold': 'cold items', 'all': 'all items'}

# By what they are ranked among; better and equal ones of M targets, first with
# the rows as they are and then permuted, ``[1 + P, 2, M]``.
Ranked = Mapping[str, np.ndarray]


def cold_items(split: protocols.Split) -> np.ndarray:
  """Items that nothing was learned of, ``[V]`` bool."""
  learnt = split.log.item[split.learnt('test')]
  return np.bincount(learnt, minlength=split.log.num_items) == 0


def as_new(experiment: Any, params: Any) -> Any:
  """Parameters in which the learned part of the rows of cold items is 0.

  Those of a model whose rows are not sums, or under another protocol, are as
  they are.

  Args:
    experiment: with tasks of a log.
    params: of one model, or of several with leaves ``[P, ...]``.
  """
  log = log_tasks.of(experiment.settings)
  if log is None or not log.item or log.split.protocol != PROTOCOL:
    return params
  spec = input_tables.encoder_of(experiment.settings, log.stream)
  if spec.get('rows') != 'sum':
    return params
  cold = 1 + np.flatnonzero(cold_items(log.split))

  def forget(path, leaf):
    if not combinators.path_name(path).endswith(items.LEARNED):
      return leaf
    return jnp.asarray(leaf).at[..., cold, :].set(0)

  return jax.tree_util.tree_map_with_path(forget, params)


def measure(
  experiment: Any,
  params: Any,
  model_state: Any,
  *,
  permutations: int = PERMUTATIONS,
  seed: int = 0,
) -> Ranked:
  """Places of the cold targets of the test split.

  Args:
    experiment: with a task of the next item, under the protocol of cold items.
    params: parameters.
    model_state: state of the model.
    permutations: P, of the rows of cold items.
    seed: of the permutations.
  """
  task: Any = experiment.item_task
  split: Any = ranking_report.split_of(experiment)
  label = recommend.label_of(experiment, task)
  source = experiment.data[task.stream].splits['test']
  arrays = dict(source.take(np.arange(len(source))))
  own = arrays[label][:, -1]
  targets = np.stack([own, *_permuted(split, own, permutations, seed)])
  size = experiment.streams[task.stream].evaluation_batch_size
  step = _make_step(experiment, task, label)
  params = as_new(experiment, params)
  params, model_state = jax.tree.map(jnp.asarray, (params, model_state))
  head = recommend.head_of(experiment, task)
  ranked = {}
  for among in AMONG:
    arrays[head['seen']] = _hidden(split, among)
    parts = []
    for start in range(0, len(own), size):
      # The last chunk is filled up, so that one program serves all of them.
      rows = np.resize(np.arange(start, min(start + size, len(own))), size)
      batch = {key: values[rows] for key, values in arrays.items()}
      places = step(params, model_state, batch, targets[:, rows])
      parts.append(np.asarray(places)[..., : len(own) - start])
    ranked[among] = np.concatenate(parts, axis=-1).astype(np.int32)
  return ranked


def _permuted(split, targets, permutations, seed):
  """Other cold targets, ``[P, M]`` numbers of items from 1."""
  cold = np.flatnonzero(cold_items(split))
  rng = np.random.default_rng(seed)
  for _ in range(permutations):
    other = np.arange(split.log.num_items)
    other[cold] = rng.permutation(cold)
    yield other[targets - 1] + 1


def _hidden(split, among):
  """Items that are not ranked for each test target, ``[M, S]``, 0 = none."""
  cold = cold_items(split) if among == 'cold' else None
  own = dataclasses.replace(split, candidates=cold)
  return windows.seen_items(own, 'test', split.targets('test')[:, None])


def _make_step(experiment, task, label):
  model = experiment.model

  @jax.jit
  def step(params, model_state, batch, targets):  # [1 + P, B]
    features, _ = model.features(
      params, model_state, batch, stream=task.stream, train=False, key=None
    )

    def places(target):
      labels = batch[label].at[:, -1].set(target)
      outputs, _ = model.outputs(
        params,
        model_state,
        features,
        {**batch, label: labels},
        tasks=(task.name,),
        train=False,
        key=None,
      )
      rows = task.predict(outputs[task.name])[:, -1]
      return rows[:, jnp.array([item_ranks.BETTER, item_ranks.EQUAL])].T

    batch = jax.tree.map(jnp.asarray, batch)
    return jax.lax.map(places, targets)

  return step


def save(path: pathlib.Path, ranked: Ranked, targets: str) -> None:
  """Keeps the places of targets with this hash."""
  arrays: dict[str, Any] = {**ranked, 'targets': targets}
  with open(path, 'wb') as file:
    np.savez_compressed(file, **arrays)


def load(path: pathlib.Path, split: protocols.Split) -> Ranked:
  """Reads the file of `save`.

  Raises:
    ValueError: if it is of other targets.
  """
  with np.load(path, allow_pickle=False) as kept:
    arrays = {key: kept[key] for key in kept.files}
  ranking_report.check_targets(path, arrays, split)
  return arrays


@dataclasses.dataclass(frozen=True)
class ColdScores:
  """Ranking metrics of a model on cold items, over S seeds and P permutations.

  Attributes:
    chance: HR@k of a random order of the items that are ranked.
    hit_rate: HR@k, mean of targets and seeds.
    ndcg: NDCG@k, likewise.
    deviation: of HR@k over seeds; NaN of one.
    less_chance: HR@k less chance, with its 95% interval over users.
    permuted: HR@k with rows of cold items permuted, mean of S P draws.
    error: standard error of that mean, of the means of seeds: draws of one seed
      have its model in common. Of one seed, of its draws.
    luck: deviation of HR@k over draws of one seed, mean of seeds: what an order
      of cold items that all users share is worth by luck. Seeds of one placebo
      may share theirs, so that their deviation does not show it.
  """

  chance: float
  hit_rate: float
  ndcg: float
  deviation: float
  less_chance: ranking.Difference
  permuted: float
  error: float
  luck: float


def summarize(
  split: protocols.Split, members: Sequence[Ranked], among: str, k: int = 10
) -> ColdScores:
  """Measures of a model of one or more seeds.

  Args:
    split: the targets.
    members: one per seed.
    among: 'cold' or 'all'.
    k: length of the list.
  """
  cold = cold_items(split) if among == 'cold' else None
  own = dataclasses.replace(split, candidates=cold)
  targets = split.targets('test')
  chance = np.minimum(1.0, k / own.count_ranked(targets, 'test'))  # [M]
  hits, gains, permuted = [], [], []
  for ranked in members:
    draws = [ranking.Places(*places) for places in ranked[among]]
    hits.append(np.asarray(ranking.hit_rate(draws[0], k), np.float64))
    gains.append(np.asarray(ranking.ndcg(draws[0], k), np.float64).mean())
    permuted.append([float(ranking.hit_rate(x, k).mean()) for x in draws[1:]])
  users = split.log.user[targets]
  mean = np.mean(hits, axis=0)  # [M]
  draws = permuted[0] if len(members) == 1 else np.mean(permuted, axis=1)
  return ColdScores(
    float(chance.mean()),
    float(mean.mean()),
    float(np.mean(gains)),
    _deviation([float(x.mean()) for x in hits]),
    ranking.interval(mean - chance, users),
    float(np.mean(permuted)),
    _deviation(draws) / max(len(draws), 1) ** 0.5,
    float(np.mean([_deviation(x) for x in permuted])),
  )


def _deviation(values) -> float:
  return float(np.std(values, ddof=1)) if len(values) > 1 else float('nan')


def table(
  split: protocols.Split,
  models: Mapping[str, Sequence[Ranked]],
  k: int = 10,
  data: str = '',
) -> reporting.ResultTable:
  """Table of models that rank cold items, each by its seeds; of which data."""
  cold = int(cold_items(split).sum())
  cells = []
  for among, told in AMONG.items():
    for name, members in models.items():
      scores = summarize(split, members, among, k)
      spread = f' ± {scores.deviation:.4f}' if len(members) > 1 else ''
      cells.append([
        name,
        told,
        f'{scores.chance:.4f}',
        f'{scores.hit_rate:.4f}{spread}',
        f'{scores.ndcg:.4f}',
        str(scores.less_chance),
        f'{scores.permuted:.4f} ± {scores.error:.4f}',
      ])  # fmt: skip
  count = len(split.targets('test'))
  return reporting.ResultTable(
    f'Cold items: {cold:,} of {split.log.num_items:,}, {count:,} targets '
    f'({data or split.log.name})',
    ['model', 'ranked among', 'chance', f'hr@{k}', f'ndcg@{k}',
     'hr less chance', f'hr@{k}, rows permuted'],
    cells,
    note='After ± of hr the deviation over seeds; the interval is 95% over '
    f'users. Rows of cold items permuted: mean of {PERMUTATIONS} permutations '
    'per seed ± its standard error over seeds (of one seed, over '
    'permutations); among cold items it is chance for any model, and content '
    'is what a model has beyond it.',
  )  # fmt: skip
