import itertools
import math
import xml.etree.ElementTree

import numpy as np
import pytest
from readable import assert_readable

from mtl_jax.reporting import plots

LONG = [f'a_rather_long_name_{i}' for i in range(16)]


def series(seed, n=80, scale=1.0):
  values = scale * np.random.default_rng(seed).normal(size=n)
  return np.arange(n) * 50.0, values


@pytest.mark.parametrize('scale', [1e-3, 1.0, 1234.5, 1e7])
def test_learning_curves(scale):
  losses = {'train': series(0, scale=scale), 'validation': series(1, n=5)}
  figure = plots.learning_curves(LONG[0], losses, 'accuracy', series(2, n=5))
  assert_readable(figure)
  left, right = figure.axes
  np.testing.assert_array_equal(left.lines[0].get_ydata(), losses['train'][1])
  assert left.get_xlim() == right.get_xlim()
  assert right.get_title('left').endswith('accuracy on validation')


def test_curves_without_a_value_say_so():
  empty = np.zeros(0), np.zeros(0)
  figure = plots.learning_curves(
    'genre', {'train': series(0), 'validation': empty}, 'score', empty
  )
  assert [text.get_text() for text in figure.axes[1].texts] == ['nothing yet']
  assert not figure.axes[0].texts


def cosines_of(tasks):
  pairs = itertools.combinations(LONG[:tasks], 2)
  return {
    f'{a}, {b}': (x, np.tanh(y))
    for i, (a, b) in enumerate(pairs)
    for x, y in [series(i, n=30)]
  }


@pytest.mark.parametrize('tasks', [2, 4])
def test_lines_of_cosines(tasks):
  cosines = cosines_of(tasks)
  figure = plots.gradient_cosines(cosines)
  assert_readable(figure)
  assert len(figure.axes[0].lines) == len(cosines) + 1  # and the zero


@pytest.mark.parametrize('tasks', [2, 5, 16])
def test_map_of_cosines(tasks):
  cosines = cosines_of(tasks)
  figure = plots.cosine_map(cosines)
  assert_readable(figure)
  grid = figure.axes[0].collections[0].get_array().reshape(len(cosines), -1)
  np.testing.assert_allclose(grid, [y for _, y in cosines.values()])


def test_cosines_of_a_single_look():
  cosines = {f'{i}': (np.array([7.0]), np.array([0.5])) for i in range(9)}
  assert_readable(plots.cosine_map(cosines))


def test_looks_at_different_steps_stay_apart():
  cosines = {
    str(i): (np.array([0.0, 10.0 + i]), np.array([0.1, 0.2])) for i in range(7)
  }
  axes = plots.cosine_map(cosines).axes[0]
  grid = axes.collections[0].get_array().reshape(7, -1)
  np.testing.assert_array_equal(grid.mask.sum(1), 6)


@pytest.mark.parametrize('tasks', [2, 9])
def test_weights_and_shares(tasks):
  values = {name: series(i) for i, name in enumerate(LONG[:tasks])}
  for figure in (plots.task_weights(values), plots.shares('Share of', values)):
    assert_readable(figure)
    for line, (_, y) in zip(figure.axes[0].lines, values.values(), strict=True):
      np.testing.assert_array_equal(line.get_ydata(), y)


@pytest.mark.parametrize('tasks', [2, 9])
def test_norms(tasks):
  norms = {name: series(i) for i, name in enumerate(LONG[:tasks])}
  norms = {name: (x, np.exp(y)) for name, (x, y) in norms.items()}
  figure = plots.gradient_norms(norms)
  assert_readable(figure)
  styles = {(x.get_color(), x.get_linestyle()) for x in figure.axes[0].lines}
  assert len(styles) == tasks


def test_norms_of_zero_have_no_logarithm():
  norms = {'a': (np.arange(3.0), np.zeros(3))}
  assert plots.gradient_norms(norms).axes[0].get_yscale() == 'linear'


@pytest.mark.parametrize('names', [['a', 'b'], LONG[:3], LONG[:9], LONG])
def test_correlations(names):
  matrix = np.corrcoef(np.random.default_rng(0).normal(size=(len(names), 5)))
  matrix[0, 1] = matrix[1, 0] = math.nan
  figure = plots.correlations(names, {'Labels': matrix, 'Residuals': matrix})
  assert_readable(figure)
  image = figure.axes[0].images[0]
  assert image.get_clim() == (-1, 1)
  np.testing.assert_array_equal(image.get_array().filled(np.nan), matrix)
  if len(names) <= 3:
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown[0] == '1.00' and shown[1] == '-'


def test_svg_is_well_formed_and_reproducible():
  def draw():
    return plots.to_svg(plots.gradient_norms({'a': series(0, n=30)}))

  assert xml.etree.ElementTree.fromstring(draw()).tag.endswith('svg')
  assert draw() == draw()
