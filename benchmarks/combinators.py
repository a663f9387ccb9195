"""Times of the combinators beside TorchJD and LibMTL, on the same problems.

  python benchmarks/combinators.py --torch=/tmp/reference/bin/python

benchmarks/README.md says how to make that environment, and what the tables
mean; they are written to benchmarks/results/combinators_solve.md, _step.md and
_ways.md. About 20 minutes on 2 CPU cores that do nothing else; ``--quick``
shows in three that it works, with times that mean nothing. Without ``--torch``
only mtl_jax is timed.
"""

import argparse
import itertools
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import residuals
import serving
import workloads

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / 'results'
WAYS = ('stacked', 'layerwise', 'chunked')
LIBRARIES = ('torchjd', 'libmtl')
SPLIT = 'mtl_jax, split'  # a device per core, each with a part of the batch
PARTS = ('solve', 'step', 'ways')
# Of a row of steps; best: the faster of mtl_jax on one device and split.
RATIOS = ('PyTorch / mtl_jax', 'PyTorch / best', 'tuned / best')
PLAN = {
  'rounds': 20,
  'seconds': 3.0,  # for one row of a table, after three rounds
  'limit': 90,  # seconds for one call, with its compilation
  'busy': 0.2,  # cores that others may take before a row and after it
  'again': 2,  # how often a row beside others is measured again
  'problems': 2,
  'solve_sizes': [2, 8, 32, 128],
  'solvers': [
    'mgda',
    'cagrad',
    'nash_mtl',
    'upgrad',
    'fairgrad',
    'dualproj',
    'imtl_g',
    'aligned_mtl',
    'pcgrad',
  ],
  'workloads': workloads.WORKLOADS,
  'steps': [
    ['mlp', [2, 8, 40], ['plain', 'pcgrad', 'mgda', 'upgrad', 'nash_mtl']],
    ['lstm_32', [2, 8], ['plain', 'pcgrad', 'upgrad']],
    ['lstm_256', [2, 8], ['plain', 'pcgrad', 'upgrad']],
    ['cnn_text', [2, 8], ['plain', 'pcgrad', 'upgrad']],
    ['lenet', [2, 8], ['plain', 'pcgrad', 'upgrad']],
    ['transformer', [4], ['plain', 'pcgrad', 'upgrad']],
    ['mmoe', [4], ['plain', 'pcgrad', 'upgrad']],
  ],
}
QUICK = {
  'rounds': 3,
  'seconds': 0.1,
  'again': 0,
  'problems': 1,
  'solve_sizes': [2, 8],
  'solvers': ['mgda', 'nash_mtl', 'pcgrad'],
  'workloads': {
    name: workloads.small(spec) for name, spec in workloads.WORKLOADS.items()
  },
  'steps': [[name, [2], ['plain', 'pcgrad']] for name in workloads.WORKLOADS],
}


def make_problems(plan):
  """Rows ``[2 problems, K, 2 K]`` with their Gramians.

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
  return problems


def worst_residual(name, gramians, weights):
  """The largest residual over the problems of one size; None without one."""
  if name not in residuals.RESIDUALS or weights is None:
    return None
  return max(
    residuals.RESIDUALS[name](g.astype(np.float64), w.astype(np.float64))
    for g, w in zip(gramians, weights, strict=True)
  )


def measured(plan, timers, share=1):
  """Times in turn, and who else was at work.

  A row beside other work is measured again, as often as the plan says; the last
  counts.

  Args:
    plan: seconds, rounds, and when a machine is busy.
    timers: ``{name: () -> milliseconds}``.
    share: of the seconds.

  Returns:
    The least times, and cores that were busy before and after.
  """
  for _ in range(plan['again'] + 1):
    before = serving.busy_cores()
    times = serving.interleaved(timers, plan['seconds'] * share, plan['rounds'])
    others = before, serving.busy_cores()
    if all(cores is None or cores <= plan['busy'] for cores in others):
      break
  return times, others


def solve_rows(plan, problems, libraries):
  """From a Gramian to weights: times, and residuals beside them."""
  for num in plan['solve_sizes']:
    for name in plan['solvers']:
      times = {library: [] for library in libraries}
      weights = {library: [] for library in libraries}
      gramians = problems[f'gramian_{num}']
      loads = []
      for problem in range(len(gramians)):
        case = {'part': 'solve', 'name': name, 'num': num, 'problem': problem}
        made = make_all(case, libraries)
        timers = {library: timer for library, (_, timer) in made.items()}
        found, others = measured(plan, timers, 1 / len(gramians))
        loads += others
        for library, spent in found.items():
          times[library].append(spent)
          weights[library].append(np.array(made[library][0]))
      row = [str(num), f'`{name}`']
      done = {x for x in libraries if len(times[x]) == len(gramians)}
      row += [
        _number(np.median(times[x]) if x in done else None, '.2f')
        for x in libraries
      ]
      row += [
        _number(
          worst_residual(name, gramians, weights[x]) if x in done else None,
          '.0e',
        )
        for x in libraries
      ]
      yield [*row, _others(loads)]


def step_rows(plan, libraries):
  """Whole training steps, and how they compare."""
  for workload, sizes, names in plan['steps']:
    for num in sizes:
      plain = None
      for name in names:
        case = {'part': 'step', 'workload': workload, 'num': num, 'name': name}
        made = make_all(case, libraries)
        timers = {library: timer for library, (_, timer) in made.items()}
        times, others = measured(plan, timers)
        alone, split = times.get('mtl_jax'), times.get(SPLIT)
        ours = min((x for x in (alone, split) if x), default=None)
        stock = [times[x] for x in LIBRARIES if x in times]
        tuned = [
          times[f'{x} tuned'] for x in LIBRARIES if f'{x} tuned' in times
        ]
        tuned, best = min(tuned, default=None), min(stock, default=None)
        plain = ours if name == 'plain' else plain
        compile_s = made['mtl_jax'][0]['compile_s'] if alone else None
        yield [
          workloads.NAMES[workload],
          str(num),
          name if name == 'plain' else f'`{name}`',
          *(_number(x, '.1f') for x in (alone, split)),
          *(_number(times.get(x), '.1f') for x in LIBRARIES),
          _number(tuned, '.1f'),
          _number(best and alone and best / alone, '.2f'),
          _number(best and ours and best / ours, '.2f'),
          _number(tuned and ours and tuned / ours, '.2f'),
          _number(plain and ours and ours / plain, '.1f'),
          _number(compile_s, '.1f'),
          _others(others),
        ]


def way_rows(plan, libraries):
  """PCGrad's step by each way to the Gramian, and what 'auto' picks."""
  ours = {'mtl_jax': libraries['mtl_jax']}
  for workload, sizes, _ in plan['steps']:
    for num in sizes:
      case = {'workload': workload, 'num': num}
      ((picked, chunk, _), _) = ours['mtl_jax'].make({**case, 'part': 'plan'})
      half = chunk or -(-num // 2)
      timers = {}
      for way in WAYS:
        options = {'gramian': way, 'chunk': half if way == 'chunked' else 0}
        made = ours['mtl_jax'].make(
          {**case, 'part': 'step', 'name': 'pcgrad', **options}
        )
        if made is not None:
          timers[way] = made[1]
      times, others = measured(plan, timers)
      ours['mtl_jax'].ask('clear')
      best = min(times.values(), default=None)
      yield [
        workloads.NAMES[workload],
        str(num),
        *(_number(times.get(x), '.1f') for x in WAYS),
        picked,
        _number(best and times.get(picked) and times[picked] / best, '.2f'),
        _others(others),
      ]


def make_all(case, libraries):
  """The case in each library that has it."""
  made = {}
  for name, library in libraries.items():
    library.ask('clear')
    call = library.make(case)
    if call is not None:
      made[name] = call
  return made


def table(head, rows):
  """Lines of a Markdown table; they are shown as they come."""
  lines = []
  for cells in itertools.chain((head, ['---'] * len(head)), rows):
    lines.append('| ' + ' | '.join(cells) + ' |')
    print(lines[-1], flush=True)
  return lines


def report(plan, problems, libraries, part):
  """One table, as Markdown."""
  if part == 'solve':
    names = [x for x in libraries if x in ('mtl_jax', *LIBRARIES)]
    title = 'From a Gramian to weights, milliseconds, and residuals:'
    head = ['K', 'method', *(f'{x} ms' for x in names)]
    head += [f'{x} KKT' for x in names]
    stock = {name: libraries[name] for name in names}
    rows = solve_rows(plan, problems, stock)
  elif part == 'step':
    title = 'A whole training step, milliseconds:'
    head = ['network', 'K', 'method']
    head += [f'{x} ms' for x in ('mtl_jax', 'split', *LIBRARIES, 'tuned')]
    head += [*RATIOS, 'best / plain']
    head.append('compile s')
    rows = step_rows(plan, libraries)
  else:
    title = "PCGrad's step by each way to the Gramian, milliseconds:"
    head = ['network', 'K', 'stacked', 'layerwise', 'chunked', 'auto']
    head.append('auto / best')
    rows = way_rows(plan, libraries)
  lines = table([*head, 'others'], rows)
  return [title, '', *lines, *(summary(lines) if part == 'step' else ())]


def summary(lines):
  """Lines on the ratios of a table of steps: their geometric means."""
  head, _, *rows = (
    [cell.strip() for cell in line.split('|')[1:-1]] for line in lines
  )
  made = ['']
  for name in RATIOS:
    place = head.index(name)
    ratios = {'plain': [], 'with a method': []}
    for row in rows:
      if row[place] != '-':
        kind = 'plain' if row[2] == 'plain' else 'with a method'
        ratios[kind].append(float(row[place]))
    for kind, values in ratios.items():
      if values:
        made.append(
          f'- {name}, {len(values)} rows {kind}: geometric mean '
          f'{np.exp(np.mean(np.log(values))):.2f}, '
          f'{sum(x < 1 for x in values)} of them below 1'
        )
  return made


def _number(value, form):
  return '-' if value is None else format(value, form)


def _others(cores):
  """The least and the most that others took, in cores."""
  known = [x for x in cores if x is not None]
  return f'{min(known):.1f} to {max(known):.1f}' if known else '-'


def load_note():
  """Line on the load of the machine; times mean nothing beside other work."""
  load, cores = os.getloadavg()[0], os.cpu_count() or 1
  note = f'load {load:.1f} on {cores} cores'
  return note + (': BUSY, times mean nothing' if load > 0.5 * cores else '')


def start(torch, parts, folder):
  """mtl_jax, and the PyTorch libraries as they are and tuned."""
  command = [sys.executable, HERE / 'combinators_jax.py', folder]
  commands = {'mtl_jax': command}
  if 'step' in parts:
    commands[SPLIT] = [*command, 'split']
  for library in LIBRARIES if torch else ():
    command = [torch, HERE / 'combinators_torch.py', folder, library]
    commands[library] = command
    if 'step' in parts:
      commands[f'{library} tuned'] = [*command, 'tuned']
  return {
    library: serving.Library([str(part) for part in command])
    for library, command in commands.items()
  }


def main(arguments=None):
  """Runs all parts and writes the tables."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--torch', help='python with TorchJD and LibMTL')
  parser.add_argument('--quick', action='store_true')
  parser.add_argument('--parts', nargs='+', default=PARTS, choices=PARTS)
  parser.add_argument('--networks', nargs='+', help='some of the steps')
  parser.add_argument('--again', type=int, help='times, for a disturbed row')
  parser.add_argument('--output', type=pathlib.Path, default=RESULTS)
  options = parser.parse_args(arguments)
  plan = {**PLAN, **(QUICK if options.quick else {})}
  if options.again is not None:
    plan['again'] = options.again
  if options.networks:
    plan['steps'] = [x for x in plan['steps'] if x[0] in options.networks]
  options.output.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    problems = make_problems(plan)
    np.savez(folder / 'problems.npz', **problems)
    (folder / 'plan.json').write_text(json.dumps(plan))
    before = load_note()
    libraries = start(options.torch, options.parts, folder)
    notes = [f'- {x}: {libraries[x].version}' for x in libraries]
    notes.append(f'- before: {before}')
    if options.quick:
      notes.append('- `--quick`: these times mean nothing')
    for part in options.parts:
      lines = [*report(plan, problems, libraries, part), '', *notes]
      name = '_'.join(['combinators', part, *(options.networks or ())])
      path = options.output / f'{name}.md'
      path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
      print('\n'.join(notes), f'\nwritten to {path}', flush=True)
  for library in libraries.values():
    library.close()


if __name__ == '__main__':
  main()
