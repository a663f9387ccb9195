"""What benchmarks/combinators.py reports: residuals and the table."""

import importlib
import io
import json
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


@pytest.mark.parametrize(
  'num, limit',
  [
    (2, 1e-5),
    (8, 1e-5),
    pytest.param(32, 1e-4, marks=pytest.mark.slow),
    pytest.param(128, 1e-4, marks=pytest.mark.slow),
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
  'name', sweeps.some(['mlp', 'lstm_32', 'cnn_text', 'lenet'], 'mlp')
)
def test_a_step_trains(scripts, name):
  spec = scripts['workloads'].WORKLOADS[name]
  spec = scripts['workloads'].small(spec)
  call = scripts['combinators_jax'].step_call(spec, 2, 'plain')
  first = call()
  for _ in range(20):
    last = call()
  assert sum(last) < sum(first)


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


def test_the_tables_have_all_that_was_measured(scripts, capsys):
  plan = {
    'solve_sizes': [2],
    'solvers': ['mgda', 'pcgrad'],
    'steps': [['mlp', [2], ['plain', 'pcgrad']]],
    'seconds': 1,
    'rounds': 3,
  }
  problems = {'gramian_2': np.eye(2)[None]}
  ours = {'mgda': 1.5, 'pcgrad': 2, 'plain': 1}
  ours |= {'stacked': 6, 'layerwise': 4, 'chunked': 9}
  libraries = {
    'mtl_jax': Fake(ours, [0.5, 0.5]),
    'torchjd': Fake({'mgda': 2.5, 'pcgrad': 8}, [1.0, 0.0]),
  }
  script = scripts['combinators']
  lines = script.report(plan, problems, libraries, ['solve', 'step', 'ways'])
  network = scripts['workloads'].NAMES['mlp']
  cells = [
    line.strip('| ').split(' | ') for line in lines if line.startswith('|')
  ]
  assert [row for row in cells if row[0] in ('2', network)] == [
    ['2', '`mgda`', '1.50', '2.50', '0e+00', '1e+00'],
    ['2', '`pcgrad`', '2.00', '8.00', '-', '-'],
    [network, '2', 'plain', '1.0', '-', '-', '1.0'],
    [network, '2', '`pcgrad`', '2.0', '8.0', '4.0', '2.0'],
    [network, '2', '6.0', '4.0', '9.0', 'stacked', '1.50'],
  ]
  assert len({len(row) for row in cells[:4]}) == 1
  assert network in capsys.readouterr().out


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
