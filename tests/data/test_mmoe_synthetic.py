"""MMoE's synthetic regressions: the definition, and the figure of the paper."""

import numpy as np
import pytest

from mtl_jax.data import catalogue
from mtl_jax.data.builders import mmoe_synthetic as mmoe

# Figure 2 of the paper, read off: the labels' correlation over p.
FIGURE = {
  0.4: 0.055,
  0.5: 0.075,
  0.6: 0.10,
  0.7: 0.135,
  0.8: 0.195,
  0.9: 0.305,
  0.95: 0.445,
  0.98: 0.655,
  1.0: 1.0,
}


def label_correlation(p, variant, count):
  """Mean over eight draws; a single one is off by 0.1."""
  found = []
  for seed in range(8):
    data = mmoe.generate(p, seed, count, variant)
    found.append(np.corrcoef(data.first, data.second)[0, 1])
  return np.mean(found)


def test_labels_correlate_as_in_the_figure_of_the_paper():
  for p, published in FIGURE.items():
    np.testing.assert_allclose(
      label_correlation(p, 'figure', 8000), published, atol=0.05
    )


@pytest.mark.parametrize('variant', ['keras_mmoe', 'ple'])
def test_public_guesses_miss_the_figure(variant):
  assert label_correlation(0.9, variant, 2000) > FIGURE[0.9] + 0.3


@pytest.mark.parametrize('variant', list(mmoe.VARIANTS))
@pytest.mark.parametrize('p', [0.0, 0.3, 1.0])
def test_directions_have_the_cosine_p_and_the_length_c(variant, p):
  w = mmoe.draw_truth(p, 4, variant).directions
  form = mmoe.VARIANTS[variant]
  assert w.shape == (2, form['dimension'])
  scale = form['scale'] ** 2
  expected = scale * np.array([[1, p], [p, 1]])
  np.testing.assert_allclose(w @ w.T, expected, atol=1e-12)


@pytest.mark.parametrize('variant', list(mmoe.VARIANTS))
def test_labels_are_the_definition_and_noise(variant):
  truth = mmoe.draw_truth(0.7, 1, variant)
  data = mmoe.generate(0.7, 1, 3000, variant)
  errors = np.zeros((3000, 2))
  for k, label in enumerate((data.first, data.second)):
    for n in range(3000):
      z = float(data.inputs[n].astype(float) @ truth.directions[k])
      waves = np.sin(truth.frequencies * z + truth.phases)
      errors[n, k] = label[n] - z - waves.sum()
  np.testing.assert_allclose(errors.mean(axis=0), 0, atol=0.01)
  np.testing.assert_allclose(np.cov(errors.T), 0.01 * np.eye(2), atol=1e-3)


def test_waves_are_those_of_the_variant():
  truth = mmoe.draw_truth(0.5, 0, 'figure')
  np.testing.assert_allclose(truth.frequencies, [1.3 * i for i in range(1, 13)])
  for variant, waves in (('keras_mmoe', 5), ('ple', 10)):
    drawn = [mmoe.draw_truth(0.5, s, variant) for s in range(200)]
    frequencies = np.stack([t.frequencies for t in drawn])
    phases = np.stack([t.phases for t in drawn])
    for values in (frequencies, phases):
      assert values.shape == (200, waves)
      np.testing.assert_allclose(values.mean(), 0, atol=0.1)
      np.testing.assert_allclose(values.std(), 1, atol=0.1)


def test_the_dial_changes_the_second_label_only_and_the_seed_everything():
  a, b = mmoe.generate(0.1, 0, 50), mmoe.generate(0.9, 0, 50)
  other = mmoe.generate(0.1, 1, 50)
  for name in ('inputs', 'first'):
    np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
  assert not np.array_equal(a.second, b.second)
  for name in a._fields:
    assert not np.array_equal(getattr(a, name), getattr(other, name))
    assert getattr(a, name).dtype == np.float32
  x = mmoe.generate(0.5, 0, 2000).inputs
  np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.12)
  np.testing.assert_allclose(np.cov(x.T), np.eye(100), atol=0.15)


def test_a_built_set_equals_the_generated_one(tmp_path, monkeypatch):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path))
  settings = {'correlation': 0.25, 'count': 38, 'seed': 3, 'variant': 'ple'}
  builder = catalogue.make_builder('mmoe_synthetic', settings=settings)
  expected = mmoe.generate(0.25, 3, 38, 'ple')
  start = 0
  for split, size in (('train', 32), ('validation', 3), ('test', 3)):
    table = catalogue.from_tfds(builder, split)
    assert table.size == size
    raw = table.read(range(size), expected._fields)
    for name, values in expected._asdict().items():
      part = values[start : start + size]
      np.testing.assert_array_equal(np.array(raw[name]), part)
    start += size


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'correlation': -0.5}, r'correlation in \[0, 1\], found -0.5; it is'),
    ({'count': 3}, 'expected count >= 12, found 3; a twelfth'),
    ({'variant': 'mmoe'}, "one of figure, keras_mmoe, ple, found 'mmoe'"),
  ],
)
def test_settings_out_of_range(settings, message):
  with pytest.raises(ValueError, match=message):
    catalogue.make_builder('mmoe_synthetic', settings=settings)
