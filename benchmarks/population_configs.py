"""Shipped configs: four seeds as a population, beside four runs alone.

  python benchmarks/population_configs.py [reviews_cnn ...]

Milliseconds a step of one member, without compiling and evaluating, of the
configs whose data are generated or come with a package (of a study, its first
method): as a population, by the way that `auto` picks, and one after the other
in one process. Some 10 minutes on 2 CPU cores that do nothing else, most of
them compiling. --out=FILE writes the table as Markdown.
"""

import argparse
import pathlib
import statistics
import sys

import jax
import population

import mtl_jax
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build, members as members_lib
from mtl_jax.studies import plan

FEW = 4  # seeds of a shipped config
REPEAT = 200  # milliseconds a repetition takes, at least
CONFIGS = (
  'synthetic_sequences',
  'reviews_cnn',
  'reviews_transformer',
  'movielens_lstm',
  'census_income',
  'digit_pairs_resnet',
  'papers/mmoe_synthetic',
  'papers/multi_fashion',
)


def make_shipped(name, stretch):
  """A config of ours, or its first method; with a few seeds and steps."""
  settings = settings_lib.from_config(
    mtl_jax.load_config(str(population.HERE.parent / 'configs' / f'{name}.py'))
  )
  settings = settings_lib.with_values(
    plan.list_methods(settings)[0].settings,
    {
      'population.seeds': FEW,
      'population.sweep': (),
      'population.way': 'auto',
      'training.steps': 10 * stretch,
      'training.log_every': stretch,
      'training.evaluate_every': 10 * stretch,
    },
  )
  members = members_lib.list_members(settings)
  (group,) = members_lib.group(settings, members, build.build)
  return group


def shipped(names, repeats, stretch):
  """Rows of the table of configs."""
  rows = []
  for name in names:
    try:
      group = make_shipped(name, stretch)
    except (ValueError, ImportError, OSError) as error:
      rows.append(f'| {name} | no data here: {error} | | | | | | |')
      print(rows[-1], flush=True)
      continue
    members = population.Members(group)
    alone = population.Alone(group.experiment)
    for way, taken in members.timed.items():
      print(f'  timed: {way}: {taken:.3f} ms', flush=True)
    sent = population.Alone(group.experiment, 'never')
    programs = max(1, stretch // members.way.length)
    each = members.time(programs) * stretch  # of a stretch and member
    times = 1 + int(REPEAT / (each * members.way.members))

    def timed(f, number, times=times):
      return statistics.fmean(f(number) for _ in range(times))

    taken = [
      (
        timed(members.time, programs),
        timed(alone.time, stretch),
        timed(sent.time, stretch),
      )
      for _ in range(repeats)
    ]
    ours, theirs, by_batch = map(statistics.median, zip(*taken, strict=True))
    ratios = [
      statistics.median(min(others) / mine for mine, *others in taken),
      statistics.median(b / a for _, a, b in taken),
    ]
    rows.append(
      f'| {name} | {members.way} | {ours:.3f} | {alone.longest} | '
      f'{theirs:.3f} | {by_batch:.3f} | {ratios[1]:.2f} | {ratios[0]:.2f} |'
    )
    print(rows[-1], flush=True)
  return rows


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('names', nargs='*', default=CONFIGS)
  parser.add_argument('--repeats', type=int, default=7)
  parser.add_argument(
    '--stretch', type=int, default=20, help='steps between fetched losses'
  )
  parser.add_argument('--out', help='Markdown file to write')
  flags = parser.parse_args()
  mtl_jax.keep_memory()
  mtl_jax.use_all_cores()
  lines = [
    f'{FEW} seeds of shipped configs (of a study, its first method), '
    f'{len(jax.devices())} devices, jax {jax.__version__}; medians of '
    f'{flags.repeats} ratios taken in turn.',
    '',
    'A run alone as it is by default, so many steps in one program, and with a '
    'batch a step; the population against the faster of the two.',
    '',
    '| config | way that `auto` picks | ms a step and member | alone: steps at '
    'once | ms a step | a batch a step, ms | gain of many | gain of the '
    'population |',
    '|---|---|---|---|---|---|---|---|',
    *shipped(flags.names, flags.repeats, flags.stretch),
  ]
  text = '\n'.join(lines) + '\n'
  print(text)
  if flags.out:
    pathlib.Path(flags.out).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(flags.out).write_text(text, encoding='utf-8')


if __name__ == '__main__':
  sys.exit(main())
