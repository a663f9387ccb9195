"""Pictures of how recommenders rank: by history length, and beside placebos."""

from collections.abc import Sequence
import pathlib

from matplotlib import figure as mpl_figure
import numpy as np

from mtl_jax.experiment import ranking_report
from mtl_jax.recommendation import ranking
from mtl_jax.reporting import ranking_pictures

HISTORY = 'history_'  # what the names of these slices begin with
HISTORIES = 'figures/ranking_history.png'  # in a work directory
DPI = 130


def values(compared: ranking_report.Compared) -> dict[str, np.ndarray]:
  """NDCG of every target, of baselines ``[M]`` and models ``[seeds, M]``."""
  k = compared.k
  by_name = {
    name: np.asarray(ranks.values('ndcg', k))
    for name, ranks in compared.outcome.rankings.items()
  }
  for name, seeds in compared.models.items():
    ranks = [one.ranks for one in seeds if one.ranks is not None]
    if ranks:
      by_name[name] = np.stack([x.values('ndcg', k) for x in ranks])
  return by_name


def by_history(
  compared: ranking_report.Compared,
) -> mpl_figure.Figure | None:
  """NDCG of models and baselines by how long the history is."""
  split = compared.outcome.split
  slices = ranking.slices(split, ranking_report.PART)
  metric = f'NDCG@{compared.k}'
  return ranking_pictures.by_slice(
    values(compared),
    {name: x for name, x in slices.items() if name.startswith(HISTORY)},
    split.log.user[split.targets(ranking_report.PART)],
    metric=metric,
    title=f'{metric} by length of the history ({compared.data})',
  )


def placebos(
  runs: Sequence[ranking_report.Compared],
) -> mpl_figure.Figure | None:
  """NDCG of the same models and baselines with the data and with placebos.

  Args:
    runs: one per arm, of the same data and protocol.

  Raises:
    ValueError: for runs of different data, or two of one arm.
  """
  arms = {}
  for compared in runs:
    log = compared.outcome.split.log
    if _compared_on(compared) != _compared_on(runs[0]):
      raise ValueError(
        f'Expected runs of {_compared_on(runs[0])}, found one of '
        f'{_compared_on(compared)}; give runs that differ in their arm.'
      )
    if compared.arm in arms:
      raise ValueError(
        f'Expected one run per arm, found two of {compared.arm!r}; give one of '
        'them.'
      )
    users = log.user[compared.outcome.split.targets(ranking_report.PART)]
    arms[compared.arm] = {
      name: ranking_pictures.mean_over_users(x, users)
      for name, x in values(compared).items()
    }
  return ranking_pictures.placebo_bars(
    dict(sorted(arms.items(), key=lambda arm: arm[0] != ranking_report.DATA)),
    metric=f'NDCG@{runs[0].k}',
    chance=_chance(runs[0]),
  )


def _chance(compared) -> float:
  """NDCG of a constant model, mean over users."""
  split, part = compared.outcome.split, ranking_report.PART
  targets = split.targets(part)
  items = np.full(len(targets), split.num_ranked(part))
  if compared.seen == 'mask':
    items = split.count_ranked(targets, part)
  gains = np.append(0, np.cumsum(1 / np.log2(np.arange(compared.k) + 2)))
  values = gains[np.minimum(items, compared.k)] / items
  users = split.log.user[targets]
  return ranking_pictures.mean_over_users(values, users).mean


def _compared_on(compared) -> str:
  """Settings that must be the same in runs whose arms are compared."""
  split = compared.outcome.split
  return (
    f'{split.log.name}, {split.protocol}, equal times in {split.log.ties} '
    f'order, at k = {compared.k}'
  )


def write(figure: mpl_figure.Figure, path: pathlib.Path) -> None:
  """Writes a PNG; the same picture gives the same bytes."""
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=DPI, metadata={'Software': None})
