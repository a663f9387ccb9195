"""Many seeds as one program, beside one run after the other, and PyTorch.

  python benchmarks/population.py --torch=/tmp/reference/bin/python

Milliseconds a step of one member, without compiling, of 16 seeds of the LSTM of
configs/synthetic_sequences.py (batch 32) and of a small MLP (100-16-8-2, batch
128): as a population, by our own runs one after the other in one process, and
by runs of the same network in PyTorch. Then runs a minute for 1 to 256 members.
About 6 minutes on 2 CPU cores that do nothing else; benchmarks/README.md says
how to make the other environment. --out=FILE writes the table as Markdown.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

# As launch.py has it: see there.
os.environ.setdefault('NPROC', str(max(4, 2 * (os.cpu_count() or 1))))

import jax
import numpy as np

import mtl_jax
from mtl_jax import data
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  members as members_lib,
  steppers,
  ways,
)
from mtl_jax.training import programs

HERE = pathlib.Path(__file__).parent
SEEDS = 16
RUN = 1000  # steps of what counts as a run
SIZES = (1, 4, 16, 64, 256)


def make_arrays(steps, number=8000):
  """Inputs and two targets, the same for both libraries."""
  rng = np.random.default_rng(0)
  shape = (number, steps, 8) if steps else (number, 100)
  inputs = rng.normal(size=shape).astype(np.float32)
  flat = inputs.reshape(number, -1)
  return {
    'inputs': inputs,
    'first': rng.integers(0, 10, number).astype(np.int32)
    if steps
    else flat[:, 0] + 0.1 * rng.normal(size=number),
    'second': (flat[:, 0] - flat[:, 1]).astype(np.float32),
  }


def make_group(name, seeds):
  """The workload as a config over arrays."""
  lstm = name == 'lstm'
  arrays = make_arrays(100 if lstm else 0)
  kinds = {
    'first': 'classification' if lstm else 'regression',
    'second': 'regression',
  }
  part = {key: value[:512] for key, value in arrays.items()}
  source = data.from_splits(
    {'train': arrays, 'validation': part, 'test': part}, labels=kinds
  )
  config = mtl_jax.default_config()
  for task, kind in kinds.items():
    config.targets[task] = {'kind': kind}
  trunk = {'name': 'lstm', 'features': 64}
  config.model.trunk = trunk if lstm else {'name': 'mlp', 'widths': (16, 8)}
  config.data.batch_size = 32 if lstm else 128
  config.training.update({'steps': RUN, 'log_every': 50, 'evaluate_every': RUN})
  config.population.seeds = seeds
  settings = settings_lib.from_config(config)
  sources = build.Sources({'main': source})
  (group,) = members_lib.group(
    settings,
    members_lib.list_members(settings),
    lambda settings: build.build(settings, sources=sources),
  )
  return group


def begin(stepper, members, hyper):
  """Members at step 0, placed."""
  seeds = [member.seed for member in members]
  stepper.begin(seeds)
  return programs.Members(
    stepper.init(seeds, hyper),
    stepper.place(hyper),
    stepper.place(np.ones(len(members), bool)),
  )


class Members:
  """A population, advanced a program at a time."""

  def __init__(self, group):
    seeds = len(group.members)
    feeder = steppers.Feeder(group.experiment)
    self.way, self.timed = ways.choose(group, feeder, jax.local_devices())
    self._program = steppers.DeviceProgram(
      group.experiment, self.way, jax.local_devices(), feeder
    )
    chosen = members_lib.pad(group.members, self.way.members)
    self._members = begin(self._program, chosen, group.hyper(chosen))
    # What fills a program up is work for nothing.
    programs = -(-seeds // self.way.members)
    self._useful = seeds / (programs * self.way.members)
    self.time(1)

  @property
  def compile_s(self):
    """Seconds to compile the steps."""
    return self._program.compile_s

  def time(self, repeats):
    """Milliseconds per step and member."""
    before = time.perf_counter()
    for i in range(repeats):
      state, metrics = self._program.advance(
        self._members, i * self.way.length, self.way.length
      )
      self._members = self._members._replace(state=state)
      jax.device_get(metrics)
    taken = time.perf_counter() - before
    steps = repeats * self.way.length * self.way.members * self._useful
    return 1e3 * taken / steps


class Alone:
  """Our runs, one after the other."""

  def __init__(self, experiment, on_device='auto'):
    sections = {'data.on_device': on_device}
    own = settings_lib.with_values(experiment.settings, sections)
    experiment = dataclasses.replace(experiment, settings=own)
    self._stepper = steppers.for_one(experiment, jax.devices()[:1])
    self._members = begin(self._stepper, [members_lib.Member(0, 0)], {})
    self._step = 0
    self.time(self.longest)

  @property
  def longest(self):
    """Steps in one program."""
    return self._stepper.longest

  def time(self, steps):
    """Milliseconds per step."""
    before = time.perf_counter()
    kept, taken = [], 0
    while taken < steps:
      state, metrics = self._stepper.advance(
        self._members, self._step, self.longest
      )
      self._members = self._members._replace(state=state)
      self._step += self.longest
      taken += self.longest
      kept.append(metrics)
    jax.device_get(kept)
    return 1e3 * (time.perf_counter() - before) / taken


class Torch:
  """The same network in the other environment, which times itself."""

  def __init__(self, python, name):
    self._process = subprocess.Popen(
      [python, str(HERE / 'population_torch.py'), name],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self._process.stdout.readline()

  def time(self, steps):
    """Milliseconds a step."""
    self._process.stdin.write(f'{steps}\n')
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())

  def close(self):
    """Ends it."""
    self._process.stdin.close()
    self._process.wait()


def compare(name, python, repeats):
  """Rows of the first table: each is timed in turn, again and again."""
  group = make_group(name, SEEDS)
  experiment = group.experiment
  population = Members(group)
  alone = {
    'one after the other': Alone(experiment),
    'the same, a batch a step': Alone(experiment, 'never'),
  }
  torch = Torch(python, name) if python else None
  steps = 100 if name == 'lstm' else 1000
  programs = max(1, steps // (population.way.length * population.way.members))
  times = {who: [] for who in ('population', *alone, 'PyTorch')}
  for _ in range(repeats):
    times['population'].append(population.time(programs))
    for who, one in alone.items():
      times[who].append(one.time(steps))
    if torch:
      times['PyTorch'].append(torch.time(steps))
  if torch:
    torch.close()
  print(f'{name}: {population.way}', flush=True)
  for way, taken in population.timed.items():
    print(f'  timed: {way}: {taken:.3f} ms', flush=True)
  base = times['population']
  rows = []
  for who, values in times.items():
    if values:
      ratios = [v / b for v, b in zip(values, base, strict=True)]
      rows.append(
        f'| {name} | {who} | {statistics.median(values):.3f} | '
        f'{statistics.median(ratios):.2f} |'
      )
  return rows


def sweep(name):
  """Rows of the second table: runs a minute, compiled and all."""
  rows = []
  for size in SIZES:
    members = Members(make_group(name, size))
    steps = 5000 if name == 'mlp' else 200
    programs = max(1, steps // (members.way.length * members.way.members))
    each = statistics.median(members.time(programs) for _ in range(3))
    rows.append(
      f'| {name} | {size} | {members.way.way}, {members.way.members} | '
      f'{each:.3f} | {60e3 / (each * RUN):,.0f} | {members.compile_s:.1f} |'
    )
    print(rows[-1], flush=True)
  return rows


def main():
  """Prints both tables."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--torch', help='Python of an environment with PyTorch')
  parser.add_argument('--repeats', type=int, default=7)
  parser.add_argument('--out', help='Markdown file to write')
  flags = parser.parse_args()
  mtl_jax.keep_memory()
  mtl_jax.use_all_cores()
  lines = [
    f'{SEEDS} seeds, {len(jax.devices())} devices, jax {jax.__version__}; '
    'medians of ratios taken in turn.',
    '',
    '| network | who | ms a step and run | times the population |',
    '|---|---|---|---|',
  ]
  for name in ('lstm', 'mlp'):
    lines += compare(name, flags.torch, flags.repeats)
  lines += [
    '',
    f'A run is {RUN:,} steps; without evaluation and compiling.',
    '',
    '| network | members | way, at once | ms a step and member | '
    'runs a minute | s to compile |',
    '|---|---|---|---|---|---|',
  ]
  for name in ('lstm', 'mlp'):
    lines += sweep(name)
  text = '\n'.join(lines) + '\n'
  print(text)
  if flags.out:
    pathlib.Path(flags.out).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(flags.out).write_text(text, encoding='utf-8')


if __name__ == '__main__':
  sys.exit(main())
