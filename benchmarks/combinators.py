"""Times of the combinators beside TorchJD and LibMTL, on the same problems.

  python benchmarks/combinators.py --torch=/tmp/reference/bin/python

benchmarks/README.md says how to make that environment, and what the table
means. About 15 minutes on 2 CPU cores that do nothing else; ``--repeats=2
--quick`` shows in two minutes that it works, with times that mean nothing.
Without ``--torch`` only mtl_jax is timed.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import residuals

HERE = pathlib.Path(__file__).parent
LIBRARIES = ('mtl_jax', 'torchjd', 'libmtl')
PLAN = {
  'repeats': 20,
  'limit': 60,  # seconds for one method on one problem
  'solve_sizes': [2, 8, 32, 128],
  'solvers': [
    'mgda',
    'cagrad',
    'nash_mtl',
    'fairgrad',
    'upgrad',
    'dualproj',
    'imtl_g',
    'aligned_mtl',
    'pcgrad',
  ],
  'step_sizes': [2, 8, 40],
  'steps': ['plain', 'pcgrad', 'mgda', 'upgrad', 'nash_mtl'],
  'widths': [512, 512],
  'batch': 256,
  'inputs': 500,
  'problems': 3,
}
QUICK = {
  'limit': 5,
  'solve_sizes': [2, 8],
  'step_sizes': [2],
  'widths': [64],
  'batch': 32,
  'problems': 1,
}


def make_problems(plan):
  """Rows ``[2 problems, K, 2 K]`` with their Gramians, and one batch.

  Half of the rows are standard normal; the others have norms over a decade, and
  two camps of tasks that disagree.
  """
  problems = {}
  for num in plan['solve_sizes']:
    rng = np.random.default_rng(num)
    rows = rng.normal(size=(2 * plan['problems'], num, 2 * num))
    camps = rows[plan['problems'] :]
    camps[:, :, 0] += np.where(np.arange(num) % 2, 1.5, -1.5)
    camps *= np.geomspace(0.3, 3, num)[:, None]
    gramian = rows @ rows.transpose(0, 2, 1)
    problems[f'rows_{num}'] = rows.astype(np.float32)
    problems[f'gramian_{num}'] = gramian.astype(np.float32)
  rng = np.random.default_rng(0)
  most = max(plan['step_sizes'], default=1)
  shape = (plan['batch'], plan['inputs'])
  problems['inputs'] = rng.normal(size=shape).astype(np.float32)
  labels = rng.integers(0, 2, size=(plan['batch'], most))
  problems['labels'] = labels.astype(np.int32)
  return problems


def worst_residual(name, gramians, weights):
  """The largest residual over the problems of one size; None without one."""
  if name not in residuals.RESIDUALS or weights is None:
    return None
  return max(
    residuals.RESIDUALS[name](g.astype(np.float64), w.astype(np.float64))
    for g, w in zip(gramians, weights, strict=True)
  )


def table(plan, problems, results, weights):
  """All rows as text.

  Args:
    plan: what was run.
    problems: ``{name: array}``.
    results: ``{library: {'solve' | 'step': {method_K: milliseconds}}}``.
    weights: ``{library: {method_K: [problems, K]}}``.
  """
  libraries = [name for name in LIBRARIES if name in results]
  head = f'{"":6}{"K":>4}  {"method":12}'
  head += ''.join(f'{f"{name} ms":>12}' for name in libraries)
  lines = [head + ''.join(f'{f"{name} KKT":>13}' for name in libraries)]
  for part, sizes, names in (
    ('solve', plan['solve_sizes'], plan['solvers']),
    ('step', plan['step_sizes'], plan['steps']),
  ):
    for num in sizes:
      for name in names:
        times = [results[x][part].get(f'{name}_{num}') for x in libraries]
        line = f'{part:6}{num:4}  {name:12}'
        line += ''.join(f'{_number(t, ".2f"):>12}' for t in times)
        if part == 'solve':
          gaps = [
            worst_residual(
              name,
              problems[f'gramian_{num}'],
              weights[x].get(f'{name}_{num}'),
            )
            for x in libraries
          ]
          line += ''.join(f'{_number(g, ".0e"):>13}' for g in gaps)
        lines.append(line.rstrip())
  return '\n'.join(lines)


def _number(value, form):
  return '-' if value is None else format(value, form)


def load_note():
  """What else the machine is doing; times mean nothing beside other work."""
  load, cores = os.getloadavg()[0], os.cpu_count() or 1
  note = f'load {load:.1f} on {cores} cores'
  return note + (': BUSY, times mean nothing' if load > 0.5 * cores else '')


def main(arguments=None):
  """Runs both parts, one after the other, and prints one table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--torch', help='python with TorchJD and LibMTL')
  parser.add_argument('--repeats', type=int, default=PLAN['repeats'])
  parser.add_argument('--quick', action='store_true')
  options = parser.parse_args(arguments)
  plan = {**PLAN, **(QUICK if options.quick else {})}
  plan['repeats'] = options.repeats
  notes = [f'before: {load_note()}']
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    problems = make_problems(plan)
    np.savez(folder / 'problems.npz', **problems)
    (folder / 'plan.json').write_text(json.dumps(plan))
    parts = {'jax': sys.executable, 'torch': options.torch}
    results, weights = {}, {}
    for part, python in parts.items():
      if python:
        script = HERE / f'combinators_{part}.py'
        subprocess.run([python, str(script), str(folder)], check=True)
        results |= json.loads((folder / f'{part}.json').read_text())
    for library in results:
      file = {'mtl_jax': 'jax'}.get(library, library)
      weights[library] = dict(np.load(folder / f'{file}.npz'))
  notes += [f'{library}: {results[library]["is"]}' for library in results]
  notes.append(f'after: {load_note()}')
  print(table(plan, problems, results, weights))
  print('\n'.join(notes))


if __name__ == '__main__':
  main()
