"""What benchmarks/census.py and benchmarks/funnel.py print."""

import pathlib
import runpy

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[1] / 'benchmarks'


@pytest.fixture(scope='module')
def census():
  return runpy.run_path(str(FOLDER / 'census.py'))


@pytest.fixture(scope='module')
def funnel():
  return runpy.run_path(str(FOLDER / 'funnel.py'))


def cell(mean, half, n=5):
  return {'mean': mean, 'low': mean - half, 'high': mean + half, 'n': n}


def test_the_grid_has_a_row_an_architecture(census):
  suite = runpy.run_path(str(census['SUITE']))
  summary = {
    'rows': [
      {
        'method': f'{sharing}_{method}',
        'cells': {'income/auc': cell(0.9 + i / 100 + j / 1000, 0.002)},
      }
      for i, sharing in enumerate(['hard', 'cross_stitch'])
      for j, method in enumerate(suite['METHODS'])
    ],
    'single': {'cells': {'income/auc': cell(0.95, 0.0, n=1)}},
  }
  lines = census['grid'](summary, 'income', suite).splitlines()
  assert lines[0].startswith('| income, AUC | equal | uncertainty | PCGrad |')
  assert lines[2].startswith('| Shared-bottom | 0.9000 ± 0.0020 | 0.9010 ±')
  assert lines[3].startswith('| Cross-stitch | 0.9100 ± 0.0020')
  assert lines[4].startswith('| single task | 0.9500 |')
  assert len(lines) == 5 and len({line.count('|') for line in lines}) == 1


def test_published_rows_are_those_of_the_tasks(census):
  first = census['published'](['income', 'never_married'])
  assert '| MMoE | 0.9359 | 0.9927 |' in first and 'AITM' in first
  second = census['published'](['college', 'never_married'])
  assert '| MMoE | 0.8826 | - |' in second and 'AITM' not in second


@pytest.mark.parametrize('kind', ['conditional', 'joint'])
def test_measures_of_the_funnel(funnel, kind):
  rng = np.random.default_rng(0)
  p, q, click_hat, conversion_hat = rng.uniform(0.1, 0.9, (4, 200))
  click = rng.random(200) < p
  truth = {
    'click': click,
    'conversion': click & (rng.random(200) < q),
    'conversion_probability': q,
  }
  found = funnel['measures'](click_hat, conversion_hat, kind, truth)
  errors, joints, above = [], 0.0, 0
  for i in range(200):
    joint = conversion_hat[i]
    conditional = conversion_hat[i] / click_hat[i]
    if kind == 'conditional':
      joint, conditional = click_hat[i] * conversion_hat[i], conversion_hat[i]
    joints += joint
    above += joint > click_hat[i]
    if not click[i]:
      errors.append(100 * (conditional - q[i]))
  expected = {
    'bias': sum(errors) / len(errors),
    'error': sum(map(abs, errors)) / len(errors),
    'pcoc': joints / truth['conversion'].sum(),
    'order': above / 2,
  }
  assert found == pytest.approx(expected)
  assert (found['order'] > 0) == (kind == 'joint')
