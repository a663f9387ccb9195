"""Is a language model worth anything in a recommender? Six arms, five seeds.

python benchmarks/text_recommender.py                   # all that is there
python benchmarks/text_recommender.py --protocols=cold --arms=text,ids
python benchmarks/text_recommender.py --again           # measure again

Trains the arms of configs/rec/movielens_text.py (ids, text, words of the text,
ids + text, and two placebos), each with its seeds, a few minutes on one CPU
core; a finished run is read back. Then two tables in Markdown: of warm films,
where each arm is compared with ids, over users and, paired, over seeds; and of
cold films, which training never saw, ranked among themselves and among all.
"""

import argparse
import json
import pathlib

import numpy as np
from scipy import stats

import mtl_jax
from mtl_jax.experiment import cold_ranking, ranking_report, rankings
from mtl_jax.recommendation import log_settings, ranking

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ROOT / 'configs' / 'rec' / 'movielens_text.py'
ARMS = {
  'ids': 'ids',
  'text': 'text',
  'words': 'words of the text',
  'both': 'ids + text',
  'random': 'ids + random vectors',
  'permuted': 'ids + text of other films',
}
PROTOCOLS = ('warm', 'cold')
K = 10


def main() -> None:
  """Trains what is not there, prints both tables, and keeps their numbers."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', default='runs/text_recommender')
  parser.add_argument('--arms', default=','.join(ARMS))
  parser.add_argument('--protocols', default=','.join(PROTOCOLS))
  parser.add_argument('--seeds', type=int, default=5)
  parser.add_argument('--epochs', type=int, default=0, help='0: of the config')
  parser.add_argument('--again', action='store_true',
                      help='measure what is trained anew')  # fmt: skip
  flags = parser.parse_args()
  mtl_jax.keep_memory()
  kept = {}
  for protocol in flags.protocols.split(','):
    paths = {arm: train(arm, protocol, flags) for arm in flags.arms.split(',')}
    show = warm if protocol == 'warm' else cold
    kept[protocol] = show(paths)
  out = pathlib.Path(flags.workdir) / 'tables.json'
  out.write_text(json.dumps(kept))


def train(arm: str, protocol: str, flags: argparse.Namespace) -> pathlib.Path:
  """The work directory of an arm under a protocol."""
  argument = arm if protocol == 'warm' else f'{arm},cold'
  config = mtl_jax.load_config(f'{CONFIG}:{argument}')
  config.population.seeds = flags.seeds
  # One after the other: a run that was stopped goes on with its next seed.
  config.population.way = 'vmap'
  config.population.members_per_program = 1
  if flags.epochs:
    config.training.epochs = flags.epochs
  workdir = pathlib.Path(flags.workdir) / f'{protocol}_{arm}'
  mtl_jax.run(config, workdir)
  if flags.again:
    rankings.keep_again(workdir)
  return workdir


def warm(paths) -> dict[str, list[float]]:
  """Table of warm films: means over seeds, and the difference to ids."""
  simple = rankings.compared_of(next(iter(paths.values()))).outcome
  arms = {
    arm: [
      one.ranks
      for one in rankings.measured_of(path, simple.split)[ranking_report.MODEL]
    ]
    for arm, path in paths.items()
  }
  print(f'\nWarm films: {len(next(iter(arms.values())))} seeds\n')
  less = f'NDCG@{K} less ids'
  header('', f'HR@{K}', f'NDCG@{K}', f'{less}, over users', 'over seeds')
  kept = {}
  for name in ('popularity', 'markov'):
    hits, gains = (simple.rankings[name].values(x, K) for x in ('hr', 'ndcg'))
    row(name, f'{hits.mean():.4f}', f'{gains.mean():.4f}', '', '')
  for arm, seeds in sorted(arms.items(), key=lambda one: one[0] != 'ids'):
    hits, gains = (
      [float(one.values(x, K).mean()) for one in seeds] for x in ('hr', 'ndcg')
    )
    against, paired = '', ''
    if arm != 'ids' and 'ids' in arms:
      ours, theirs = map(ranking_report.OfSeeds, (seeds, arms['ids']))
      # They have what is asked of a ranking.
      against = str(ranking.difference(ours, theirs, 'ndcg', K))
      paired = by_seed(np.subtract(gains, kept['ids']))
    row(ARMS[arm], spread(hits), spread(gains), against, paired)
    kept[arm] = gains
  return kept


def cold(paths) -> dict[str, dict[str, float]]:
  """Table of cold films: among themselves and among all."""
  kept: dict[str, dict[str, float]] = {}
  config = mtl_jax.load_config(f'{CONFIG}:{next(iter(paths))},cold')
  split = log_settings.make_split(config.data.settings.to_dict())
  for among, told in cold_ranking.AMONG.items():
    print(f'\nCold films among {told.replace("items", "films")}\n')
    header(
      '',
      f'HR@{K}',
      f'HR@{K} less chance',
      f'NDCG@{K}',
      f'HR@{K}, rows permuted',
      'less these, in deviations of one draw',
    )
    for arm, path in paths.items():
      (members,) = rankings.cold_of(path, split).values()
      own = cold_ranking.summarize(split, members, among, K)
      off = own.hit_rate - own.permuted
      row(
        ARMS[arm],
        f'{own.hit_rate:.4f} ± {own.deviation:.4f}',
        str(own.less_chance),
        f'{own.ndcg:.4f}',
        f'{own.permuted:.4f} ± {own.error:.4f}',
        f'{off / own.luck:+.1f}' if own.luck > 0 else '-',
      )
      kept[f'{arm} {among}'] = {
        'hr': own.hit_rate,
        'low': own.less_chance.low + own.chance,
        'high': own.less_chance.high + own.chance,
        'permuted': own.permuted,
        'chance': own.chance,
      }
    print(f'\nHR@{K} of chance: {own.chance:.4f}.')
  return kept


def spread(values) -> str:
  """Mean and deviation over seeds."""
  deviation = np.std(values, ddof=1) if len(values) > 1 else np.nan
  return f'{np.mean(values):.4f} ± {deviation:.4f}'


def by_seed(differences) -> str:
  """Mean and half of its 95% interval over seeds."""
  number = len(differences)
  if number < 2:
    return f'{np.mean(differences):+.4f}'
  error = np.std(differences, ddof=1) / number**0.5
  half = stats.t.ppf(0.975, number - 1) * error
  return f'{np.mean(differences):+.4f} ± {half:.4f}'


def header(*cells) -> None:
  """The first two lines of a table."""
  row(*cells)
  print('|' + '---|' * len(cells))


def row(*cells) -> None:
  """A line of a table."""
  print(f'| {" | ".join(cells)} |'.replace('|  |', '| |'), flush=True)


if __name__ == '__main__':
  main()
