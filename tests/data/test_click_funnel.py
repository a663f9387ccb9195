"""The generated funnel: its shares are integrals, computed by quadrature."""

import numpy as np
import pytest
from scipy import special

from mtl_jax.data import catalogue, loading
from mtl_jax.data.builders import click_funnel

COUNT = 200_000


def expected(correlation):
  """P(click), P(conversion | click), and its mean over all examples."""
  z, weight = np.polynomial.hermite_e.hermegauss(80)
  weight = weight / weight.sum()
  u, v = z[:, None], z[None]
  both = weight[:, None] * weight[None]

  def probability(z):
    return special.expit(-2.0 + 1.5 * (z + np.sin(z)))

  click = probability(u)
  convert = probability(correlation * u + np.sqrt(1 - correlation**2) * v)
  clicks = (both * click).sum()
  return clicks, (both * click * convert).sum() / clicks, (both * convert).sum()


@pytest.mark.parametrize('correlation', [0.0, 0.7, 1.0, -0.5])
def test_shares_are_those_of_the_distribution(correlation):
  data = click_funnel.generate(correlation, 0, COUNT)
  clicks, of_clicked, of_all = expected(correlation)
  # Five standard errors, so that none of them fails by chance.
  np.testing.assert_allclose(data.click.mean(), clicks, atol=5 / COUNT**0.5 / 2)
  clicked = data.click == 1
  np.testing.assert_allclose(
    data.conversion[clicked].mean(),
    of_clicked,
    atol=5 / clicked.sum() ** 0.5 / 2,
  )
  np.testing.assert_allclose(
    data.conversion_probability.mean(), of_all, atol=5 / COUNT**0.5 / 2
  )
  # What makes it hard: clicked examples are others.
  if correlation > 0.5:
    assert of_clicked > of_all + 0.1
  elif correlation == 0:
    np.testing.assert_allclose(of_clicked, of_all)


def test_probabilities_are_those_of_the_events():
  """Among examples of about the same probability, that share has the event."""
  data = click_funnel.generate(0.5, 1, COUNT)
  clicked = data.click == 1
  for probability, event in (
    (data.click_probability, data.click),
    (data.conversion_probability[clicked], data.conversion[clicked]),
  ):
    bins = np.minimum((probability * 10).astype(int), 9)
    for b in range(10):
      p, y = probability[bins == b], event[bins == b]
      assert len(p) > 300
      error = (y.mean() - p.mean()) / (
        p.mean() * (1 - p.mean()) / len(p)
      ) ** 0.5
      assert abs(error) < 5


def test_nobody_converts_without_a_click():
  data = click_funnel.generate(0.5, 0, 5000)
  assert not data.conversion[data.click == 0].any()
  assert (data.conversion_if_clicked[data.click == 0] == -1).all()
  clicked = data.click == 1
  np.testing.assert_array_equal(
    data.conversion_if_clicked[clicked], data.conversion[clicked]
  )


def test_the_dial_leaves_inputs_and_clicks_as_they_are():
  first, second = (click_funnel.generate(r, 3, 1000) for r in (0.0, 0.9))
  np.testing.assert_array_equal(first.inputs, second.inputs)
  np.testing.assert_array_equal(first.click, second.click)
  logits = [special.logit(x.conversion_probability) for x in (first, second)]
  assert np.abs(logits[0] - logits[1]).max() > 1


def test_splits_are_read_back(tmp_path):
  names = ('inputs', 'click', 'conversion', 'conversion_probability')
  data = loading.load(
    'click_funnel',
    {name: name for name in names} | {'bought': 'conversion_if_clicked'},
    settings={'count': 60, 'seed': 2},
    data_dir=tmp_path,
  )
  assert data.info.sizes == {'train': 40, 'validation': 10, 'test': 10}
  made = click_funnel.generate(0.5, 2, 60)
  batch = data.splits['validation'].take(np.arange(10))
  for name in names:
    np.testing.assert_array_equal(batch[name], getattr(made, name)[40:50])
  np.testing.assert_array_equal(
    batch['bought'], made.conversion_if_clicked[40:50]
  )


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'correlation': 1.5}, r'correlation in \[-1, 1\], found 1.5; it is'),
    ({'count': 5}, 'expected count >= 6, found 5; a sixth'),
  ],
)
def test_settings_out_of_range(settings, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    catalogue.make_builder('click_funnel', settings=settings, data_dir=tmp_path)
