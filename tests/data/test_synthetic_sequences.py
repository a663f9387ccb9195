"""The generated sequences: their statistics are what the docstring says."""

import numpy as np
import pytest

from mtl_jax.data import catalogue
from mtl_jax.data.builders import ring_sequences as ring


def generate(relatedness=0.5, seed=0, count=4000, length=20, noise=0.5):
  return ring.generate(relatedness, seed, count, length, noise)


def test_neighbouring_channels_correlate_as_asked():
  rng = np.random.default_rng(0)
  wanted = rng.uniform(-0.49, 0.49, (3, 8))
  x = ring.correlate(rng.standard_normal((3, 200_000, 8)), wanted)
  for i in range(3):
    expected = np.eye(8)
    for j in range(8):
      expected[j, (j + 1) % 8] = expected[(j + 1) % 8, j] = wanted[i, j]
    np.testing.assert_allclose(np.cov(x[i].T), expected, atol=0.02)


def test_factors_are_the_correlations_of_the_sequence():
  data = generate(count=2000, length=400)
  for j in range(8):
    factor = (data.shared, data.private)[j % 2][:, j // 2]
    x, y = data.sequence[..., j], data.sequence[..., (j + 1) % 8]
    measured = (x * y).mean(axis=1)
    np.testing.assert_allclose(
      measured, ring.STRENGTH * factor / np.sqrt(3), atol=0.3
    )
    assert np.corrcoef(measured, factor)[0, 1] > 0.95


@pytest.mark.parametrize('relatedness', [0.0, 0.5, 1.0])
def test_labels_without_noise_are_related_as_the_dial_says(relatedness):
  data = generate(relatedness, noise=0.0, count=20_000, length=1)
  # The direction, recovered from the labels by least squares.
  factors = np.concatenate([data.shared, data.private], axis=1)
  w, residual, *_ = np.linalg.lstsq(factors, data.value, rcond=None)
  assert residual[0] < 1e-5
  rest = np.sqrt(1 - relatedness**2)
  np.testing.assert_allclose(np.linalg.norm(w[:4]), relatedness, atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(w[4:]), rest, atol=1e-5)
  # The class is the decile of the shared part in the same direction.
  direction = w[4:] / rest if relatedness < 0.9 else w[:4]
  rank = np.argsort(np.argsort(data.shared @ direction))
  np.testing.assert_array_equal(data.category, rank // 2000)
  correlation = np.corrcoef(data.shared @ direction, data.value)[0, 1]
  np.testing.assert_allclose(correlation, relatedness, atol=0.03)


def test_moments_and_balance():
  data = generate()
  np.testing.assert_allclose(data.sequence.std(axis=(0, 1)), 1, atol=0.02)
  np.testing.assert_allclose(data.value.std(), 1, atol=0.04)
  np.testing.assert_array_equal(np.bincount(data.category), [400] * 10)
  assert data.sequence.dtype == data.value.dtype == np.float32


def test_the_dial_changes_the_value_only_and_the_seed_everything():
  a, b, other = generate(0.1), generate(0.9), generate(0.1, seed=1)
  for name in ('sequence', 'category', 'shared', 'private'):
    np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert not np.array_equal(getattr(a, name), getattr(other, name))
  assert not np.array_equal(a.value, b.value)


def test_each_task_keeps_its_share_of_the_training_labels():
  data = generate(count=1000)
  hidden = ring.hide_labels(data, 800, 0.25, seed=0)
  known = hidden.category >= 0, ~np.isnan(hidden.value)
  for one, new, old in zip(known, hidden[1:3], data[1:3], strict=True):
    assert one[:800].sum() == 200
    assert one[800:].all()
    np.testing.assert_array_equal(new[one], old[one])
  # Independent draws share a quarter of a quarter.
  assert 20 < (known[0] & known[1])[:800].sum() < 80
  np.testing.assert_array_equal(
    ring.hide_labels(data, 800, 1.0, seed=0).category, data.category
  )


def test_a_built_set_equals_the_generated_one(tmp_path, monkeypatch):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path))
  settings = {'relatedness': 0.25, 'count': 50, 'length': 7, 'seed': 3}
  builder = catalogue.make_builder('synthetic_sequences', settings=settings)
  whole = ring.generate(0.25, 3, 50, 7, 0.5)
  expected = ring.hide_labels(whole, 40, 0.25, 3)
  start = 0
  for split, size in (('train', 40), ('validation', 5), ('test', 5)):
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
    ({'relatedness': 1.5}, r'expected relatedness in \[0, 1\], found 1.5'),
    ({'labelled': 0}, r'expected labelled in \(0, 1\], found 0; it is'),
    ({'count': 3}, 'expected count >= 10, .* found 3, 100 and 0.5'),
  ],
)
def test_settings_out_of_range(settings, message):
  with pytest.raises(ValueError, match=message):
    catalogue.make_builder('synthetic_sequences', settings=settings)
