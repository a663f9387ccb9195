"""What benchmarks/combinators.py reports: residuals and the table."""

import importlib
import io
import json
import os
import pathlib
import re
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / 'benchmarks'
K = 4


@pytest.fixture(scope='module')
def scripts():
  """The benchmark and the two files beside it."""
  names = (
    'residuals',
    'serving',
    'workloads',
    'combinators',
    'combinators_jax',
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(FOLDER))
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
      del sys.modules[name]


@pytest.fixture(scope='module')
def gramian(scripts):
  plan = {'solve_sizes': [K], 'problems': 1}
  problems = scripts['combinators'].make_problems(plan)
  # That with two camps: constraints are active.
  rows = problems[f'rows_{K}'][1].astype(float)
  return rows @ rows.T


@pytest.mark.parametrize(
  'name',
  sweeps.some(
    [
      'aligned_mtl',
      'cagrad',
      'dualproj',
      'fairgrad',
      'imtl_g',
      'mgda',
      'nash_mtl',
      'upgrad',
    ],
    'mgda',
    'fairgrad',
  ),
)
def test_a_residual_is_zero_at_the_solution_only(scripts, gramian, name):
  residual = scripts['residuals'].RESIDUALS[name]
  weighting = scripts['combinators_jax'].SOLVERS[name]
  with jax.enable_x64(True):
    solve = scripts['combinators_jax'].solver(weighting)
    w = np.asarray(solve(jnp.asarray(gramian), jax.random.key(0)), float)
  # In double precision the ridge of rounding is 1e-10.
  assert abs(residual(gramian, w)) < 1e-6
  other = w * np.array([1.3, 0.8, 1.0, 1.1])
  assert residual(gramian, other) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
  'num, limit',
  [
    (2, 1e-5),
    (8, 1e-5),
    (32, 1e-4),
    (128, 1e-4),
  ],
)
def test_residuals_of_float32(scripts, num, limit):
  """Of the problems of the benchmark, without a ridge, in float64."""
  plan = {**scripts['combinators'].PLAN, 'solve_sizes': [num]}
  gramians = scripts['combinators'].make_problems(plan)[f'gramian_{num}']
  solvers = scripts['combinators_jax'].SOLVERS
  key = jax.random.key(0)

  @jax.jit
  def solve(gramian):
    assert gramian.dtype == jnp.float32
    return {
      name: scripts['combinators_jax'].solver(solvers[name])(gramian, key)
      for name in scripts['residuals'].RESIDUALS
    }

  weights = [solve(gramian) for gramian in gramians]
  for name in scripts['residuals'].RESIDUALS:
    worst = scripts['combinators'].worst_residual(
      name, gramians, [np.asarray(w[name]) for w in weights]
    )
    assert worst < limit, name


def test_every_solver_of_the_plan_is_there(scripts):
  plan, jax_part = scripts['combinators'].PLAN, scripts['combinators_jax']
  assert set(plan['solvers']) == set(jax_part.SOLVERS)
  named = {name for _, _, names in plan['steps'] for name in names}
  assert named == set(jax_part.STEPS)
  used = {workload for workload, _, _ in plan['steps']}
  assert used == set(plan['workloads']) == set(scripts['workloads'].NAMES)
  assert set(plan['solvers']) - set(scripts['residuals'].RESIDUALS) == {
    'pcgrad'
  }


@pytest.mark.parametrize(
  'name',
  sweeps.some(
    ['mlp', 'lstm_32', 'cnn_text', 'lenet', 'transformer', 'mmoe'], 'mlp'
  ),
)
def test_a_step_trains(scripts, name):
  spec = scripts['workloads'].WORKLOADS[name]
  spec = scripts['workloads'].small(spec)
  call = scripts['combinators_jax'].step_call(spec, 2, 'plain')
  first = call()
  for _ in range(20):
    last = call()
  assert sum(last['losses']) < sum(first['losses'])
  assert first['compile_s'] > 0


@pytest.mark.slow
def test_a_step_over_devices_is_that_of_one(scripts):
  spec = scripts['workloads'].small(scripts['workloads'].WORKLOADS['mlp'])
  make = scripts['combinators_jax'].step_call
  alone, split = (make(spec, 2, 'pcgrad', split=x) for x in (False, True))
  for _ in range(3):
    np.testing.assert_allclose(alone()['losses'], split()['losses'], rtol=1e-5)


class Fake:
  """A library that answers with numbers that are known."""

  def __init__(self, times, result):
    self.times, self.result = times, result

  def ask(self, message):
    assert message == 'clear'

  def make(self, case):
    time = self.times.get(case.get('gramian') or case.get('name'))
    if case['part'] == 'plan':
      return ['stacked', 0, ''], None
    return None if time is None else (self.result, lambda: time)


@pytest.fixture
def calm(scripts, monkeypatch):
  """A machine of which others take no core, or what is asked for."""
  cores = []
  monkeypatch.setattr(
    scripts['serving'], 'busy_cores', lambda: cores.pop(0) if cores else 0.0
  )
  return cores


def test_the_tables_have_all_that_was_measured(scripts, calm, capsys):
  plan = {
    'solve_sizes': [2],
    'solvers': ['mgda', 'pcgrad'],
    'steps': [['mlp', [2], ['plain', 'pcgrad']]],
    'seconds': 1,
    'rounds': 3,
    'busy': 0.2,
    'again': 0,
  }
  problems = {'gramian_2': np.eye(2)[None]}
  ours = {'mgda': 1.5, 'pcgrad': 2, 'plain': 1}
  ours |= {'stacked': 6, 'layerwise': 4, 'chunked': 9}
  half = [0.5, 0.5]
  script = scripts['combinators']
  libraries = {
    'mtl_jax': Fake(ours, half),
    script.SPLIT: Fake({'plain': 4, 'pcgrad': 1}, half),
    'torchjd': Fake({'mgda': 2.5, 'pcgrad': 8}, [1.0, 0.0]),
    'libmtl': Fake({'pcgrad': 5}, half),
    'torchjd tuned': Fake({'pcgrad': 7}, half),
    'libmtl tuned': Fake({'pcgrad': 3}, half),
  }
  lines = script.report(plan, problems, libraries, 'solve')
  libraries['mtl_jax'].result = {'compile_s': 1.25}
  lines += script.report(plan, problems, libraries, 'step')
  lines += script.report(plan, problems, libraries, 'ways')
  network = scripts['workloads'].NAMES['mlp']
  cells = [
    line.strip('| ').split(' | ') for line in lines if line.startswith('|')
  ]
  calmly = '0.0 to 0.0'
  expected = """
    2|`mgda`|1.50|2.50|-|0e+00|1e+00|-
    2|`pcgrad`|2.00|8.00|5.00|-|-|-
    NETWORK|2|plain|1.0|4.0|-|-|-|-|-|-|1.0|1.2
    NETWORK|2|`pcgrad`|2.0|1.0|8.0|5.0|3.0|2.50|5.00|3.00|1.0|1.2
    NETWORK|2|6.0|4.0|9.0|stacked|1.50
  """
  assert [row for row in cells if row[0] in ('2', network)] == [
    [*line.strip().replace('NETWORK', network).split('|'), calmly]
    for line in expected.strip().splitlines()
  ]
  heads = [row for row in cells if row[-1] == 'others']
  assert len(heads) == 3
  assert len(heads[1]) == 14 and heads[1][7:11] == [
    'tuned ms',
    *script.RATIOS,
  ]
  assert network in capsys.readouterr().out


def test_means_are_of_plain_rows_and_of_rows_with_a_method(scripts):
  lines = [
    f'| network | K | method | {" | ".join(scripts["combinators"].RATIOS)} |',
    '| --- | --- | --- | --- | --- | --- |',
    '| mlp | 2 | plain | 0.50 | 1.00 | - |',
    '| mlp | 2 | `pcgrad` | 2.00 | 4.00 | 0.50 |',
    '| mlp | 8 | `pcgrad` | 8.00 | 9.00 | 0.50 |',
  ]
  assert scripts['combinators'].summary(lines) == [
    '',
    '- PyTorch / mtl_jax, 1 rows plain: geometric mean 0.50, 1 of them below 1',
    '- PyTorch / mtl_jax, 2 rows with a method: geometric mean 4.00, 0 of them '
    'below 1',
    '- PyTorch / best, 1 rows plain: geometric mean 1.00, 0 of them below 1',
    '- PyTorch / best, 2 rows with a method: geometric mean 6.00, 0 of them '
    'below 1',
    '- tuned / best, 2 rows with a method: geometric mean 0.50, 2 of them '
    'below 1',
  ]


def test_a_turn_leaves_its_first_call_out_and_a_row_is_its_least(
  scripts, monkeypatch
):
  serving = scripts['serving']
  now, spent = [0.0], [9, 1, 3, 2]  # seconds of each call
  monkeypatch.setattr(serving.time, 'perf_counter', lambda: now[0])

  def call():
    now[0] += spent.pop(0)

  assert serving.turn(call) == 2000 and not spent
  times = {'a': [3.0, 1.0, 2.0], 'b': [None, 5.0, 4.0]}
  timers = {name: values.copy().pop for name, values in times.items()}
  assert serving.interleaved(timers, 1, 3) == {'a': 1.0, 'b': 4.0}


def test_a_row_beside_other_work_is_measured_again(scripts, calm):
  plan = {'seconds': 0, 'rounds': 3, 'busy': 0.2, 'again': 2}
  times = iter([9.0] * 3 + [1.0] * 3)
  calm += [0.0, 1.4, 0.1, 0.2]
  taken, others = scripts['combinators'].measured(
    plan, {'mtl_jax': lambda: next(times)}
  )
  assert taken == {'mtl_jax': 1.0} and others == (0.1, 0.2)
  # A machine that is never calm says so.
  calm += [1.0] * 6
  _, others = scripts['combinators'].measured(plan, {})
  assert others == (1.0, 1.0) and not calm


def test_who_else_works_is_read_from_the_machine(scripts, monkeypatch):
  serving = scripts['serving']
  if serving._busy() is None:
    pytest.skip('no /proc/stat on this machine')
  ticks = os.sysconf('SC_CLK_TCK')
  # user, nice, system, idle, waiting, interrupts: a second and a half more.
  lines = [f'cpu  {5 * ticks} 0 {ticks} 9 9 0 0 0 0 0\ncpu0']
  lines.append(f'cpu  {6 * ticks} 0 {ticks + ticks // 2} 99 9 0 0 0 0 0\ncpu0')
  monkeypatch.setattr(
    serving.pathlib.Path, 'read_text', lambda path, encoding: lines.pop(0)
  )
  monkeypatch.setattr(serving.time, 'sleep', lambda seconds: None)
  assert serving.busy_cores(1.0) == pytest.approx(1.5)


def test_what_is_slow_or_fails_is_a_dash_and_the_rest_goes_on(
  scripts, monkeypatch, capsys
):
  def make(case):
    if case == 'fails':
      raise ValueError('no')
    return {'none': None, 'waits': lambda: time.sleep(5)}.get(
      case, lambda: [1.0]
    )

  asked = ['version', 'fails', 'none', 'waits', 'good', 0, 'clear', 0]
  lines = ''.join(json.dumps(message) + '\n' for message in asked)
  monkeypatch.setattr(sys, 'stdin', io.StringIO(lines))
  scripts['serving'].serve(make, '1.0', 1)
  found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  spent = found.pop(5)
  assert found == ['1.0', None, None, None, [0, [1.0]], None, None]
  assert 0 <= spent < 1000


def test_a_busy_machine_is_called_so(scripts, monkeypatch):
  script = scripts['combinators']
  monkeypatch.setattr(script.os, 'cpu_count', lambda: 2)
  monkeypatch.setattr(script.os, 'getloadavg', lambda: (3.0, 0, 0))
  assert 'BUSY' in script.load_note()
  monkeypatch.setattr(script.os, 'getloadavg', lambda: (0.1, 0, 0))
  assert 'BUSY' not in script.load_note()


def test_the_readme_names_files_and_commands_that_exist():
  text = (FOLDER / 'README.md').read_text(encoding='utf-8')
  for name in re.findall(r'\]\((.*?)\)', text):
    assert (FOLDER / name).exists(), name
  recipe = (FOLDER / 'make_reference.py').read_text(encoding='utf-8')
  for pinned in re.findall(r"[\w\[\],]+==[\d.]+'?", text):
    assert pinned in recipe, pinned
