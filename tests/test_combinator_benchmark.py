"""What benchmarks/combinators.py reports: residuals and the table."""

import importlib
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / 'benchmarks'
K = 4


@pytest.fixture(scope='module')
def scripts():
  """The benchmark and the two files beside it."""
  names = ('residuals', 'combinators', 'combinators_jax')
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(FOLDER))
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
      del sys.modules[name]


@pytest.fixture(scope='module')
def gramian(scripts):
  plan = {'solve_sizes': [K], 'step_sizes': [2], 'batch': 3, 'inputs': 2}
  problems = scripts['combinators'].make_problems({**plan, 'problems': 1})
  # That with two camps: constraints are active.
  rows = problems[f'rows_{K}'][1].astype(float)
  return rows @ rows.T


@pytest.mark.parametrize(
  'name',
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


def test_every_solver_of_the_plan_is_there(scripts):
  plan, jax_part = scripts['combinators'].PLAN, scripts['combinators_jax']
  assert set(plan['solvers']) == set(jax_part.SOLVERS)
  assert set(plan['steps']) == set(jax_part.STEPS)
  assert set(plan['solvers']) - set(scripts['residuals'].RESIDUALS) == {
    'pcgrad'
  }


def test_a_step_trains(scripts):
  rng = np.random.default_rng(0)
  problems = {
    'inputs': rng.normal(size=(8, 5)).astype(np.float32),
    'labels': rng.integers(0, 2, size=(8, 2)).astype(np.int32),
  }
  call = scripts['combinators_jax'].step_once('plain', 2, problems, [4])
  _, first = call()
  for _ in range(20):
    _, last = call()
  assert (last['losses'] < first['losses']).all()


def test_the_table_has_all_that_was_measured(scripts):
  script = scripts['combinators']
  plan = {
    'solve_sizes': [2],
    'solvers': ['mgda', 'pcgrad'],
    'step_sizes': [2],
    'steps': ['plain'],
  }
  problems = {'gramian_2': np.eye(2)[None]}
  results = {
    'mtl_jax': {
      'solve': {'mgda_2': 1.5, 'pcgrad_2': 2},
      'step': {'plain_2': 3},
    },
    'torchjd': {'solve': {'mgda_2': 2.5}, 'step': {}},
  }
  weights = {
    'mtl_jax': {'mgda_2': np.array([[0.5, 0.5]])},
    'torchjd': {'mgda_2': np.array([[1.0, 0.0]])},
  }
  text = script.table(plan, problems, results, weights)
  cells = [line.split() for line in text.splitlines()[1:]]
  assert cells == [
    ['solve', '2', 'mgda', '1.50', '2.50', '0e+00', '1e+00'],
    ['solve', '2', 'pcgrad', '2.00', '-', '-', '-'],
    ['step', '2', 'plain', '3.00', '-'],
  ]


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
