"""Running means of a history, the heads that read them, and later targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models import histories, items as items_lib

V, D, B, T, G = 9, 4, 3, 7, 2
LEVELS = (1.0, 2.0, 3.0, 4.0, 5.0)


def batch_of(seed=0):
  """Histories padded on the left, with ratings of some, and what comes next."""
  rng = np.random.default_rng(seed)
  items = rng.integers(1, V + 1, (B, T))
  items[1, :3] = 0
  ratings = np.where(items > 0, rng.integers(0, 6, (B, T)), 0)
  following = np.where(items > 0, rng.integers(1, V + 1, (B, T)), -1)
  return {'items': items, 'ratings': ratings, 'next_item': following}


def attributes(folder, seed=1):
  rng = np.random.default_rng(seed)
  values = rng.uniform(2, 4, (V + 1, 1 + G)).astype(np.float32)
  values[:, 1:] = rng.integers(0, 2, (V + 1, G))
  values[0, 1:] = (0.3, 0.6)
  path = folder / 'attributes.npy'
  np.save(path, values)
  return values.astype(np.float64), str(path)


def run_head(head, path, batch, features, **inputs):
  """Parameters of a head and its outputs."""
  table = models.ItemTable(V + 1, D, attributes=path, **inputs)
  variables = table.init(jax.random.key(0), batch, train=False)
  batch = {**batch, items_lib.TABLE: table.bind(variables)}
  y, own = head.init_with_output(
    jax.random.key(1), features, batch, train=False
  )
  return variables, own['params'], y


def mean_by_hand(x, known, decay, strength, prior):
  """The mean up to each step of one history, step by step."""
  found, total, weight = [], 0.0, 0.0
  for value, real in zip(x, known, strict=True):
    total, weight = decay * total, decay * weight
    if real:
      total, weight = total + value, weight + 1
    found.append((total + strength * prior) / (weight + strength))
  return np.array(found)


def test_running_means_are_those_of_a_loop_and_see_the_past_alone():
  rng = np.random.default_rng(0)
  x, known = rng.normal(size=(B, T, G)), rng.integers(0, 2, (B, T))
  x[known == 0] = np.nan  # not read
  prior = np.array([0.5, -1.0])
  found = histories.running_means(
    jnp.asarray(x), jnp.asarray(known), (1.0, 0.7), strength=2.0, prior=prior
  )
  for b in range(B):
    for d, decay in enumerate((1.0, 0.7)):
      expected = mean_by_hand(x[b], known[b], decay, 2.0, prior)
      np.testing.assert_allclose(found[b, :, d], expected, rtol=1e-5)
  none = histories.running_means(
    jnp.ones((1, 2, 1)), jnp.zeros((1, 2)), (1.0,), strength=0.0
  )
  assert not none.any()  # nothing is known, and nothing imagined


def test_a_profile_adds_standardized_genre_shares_to_the_state(tmp_path):
  values, path = attributes(tmp_path)
  batch, decays = batch_of(), (1.0, 0.8)
  features = np.random.default_rng(2).normal(size=(B, T, D)).astype(np.float32)
  head = models.ProfileHead(3, decays=decays, strength=2.0)
  _, params, y = run_head(head, path, batch, features)
  kernel = np.asarray(params['Dense_0']['kernel'], np.float64)
  shares = values[0, 1:]
  for b in range(B):
    ids = batch['items'][b]
    means = np.stack(
      [mean_by_hand(values[ids, 1:], ids > 0, g, 2.0, shares) for g in decays],
      axis=1,
    )  # [T, S, G]
    spread = np.sqrt(shares * (1 - shares) + 1e-3)
    past = ((means - shares) / spread).reshape(T, -1)
    expected = np.concatenate([features[b], past], -1) @ kernel
    np.testing.assert_allclose(y[b], expected, rtol=1e-4, atol=1e-4)


def test_a_head_of_an_item_knows_its_mean_and_the_users_residuals(tmp_path):
  values, path = attributes(tmp_path)
  batch, decays = batch_of(), (1.0, 0.5)
  features = np.random.default_rng(2).normal(size=(B, T, D)).astype(np.float32)
  head = models.ItemHead(
    1, widths=(), ratings='ratings', levels=LEVELS, decays=decays, strength=2.0
  )
  variables, params, y = run_head(head, path, batch, features)
  rows = np.asarray(variables['params']['embed']['embedding'], np.float64)
  whole = np.asarray(params['Dense_0']['kernel'], np.float64)
  skip = np.asarray(params['known']['kernel'], np.float64)
  mean = values[:, 0]
  for b in range(B):
    ids, codes = batch['items'][b], batch['ratings'][b]
    given = np.maximum(batch['next_item'][b], 0)
    residual = np.array((0.0, *LEVELS))[codes] - mean[ids]
    known = [mean[given] - mean[0]]
    known += [mean_by_hand(residual, codes > 0, g, 2.0, 0.0) for g in decays]
    known = np.stack(known, -1)
    x = features[b] * rows[given] * D**0.5
    expected = np.concatenate([x, known], -1) @ whole + known @ skip
    np.testing.assert_allclose(y[b], expected, rtol=1e-4, atol=1e-4)


def losses(head, batch, features):
  """Losses of a head in training ``[B, T]``, and the rows of the table."""
  table = models.ItemTable(V + 1, D)
  variables = table.init(jax.random.key(0), batch, train=False)
  batch = {**batch, items_lib.TABLE: table.bind(variables)}
  y = head.apply({}, features, batch, train=True)
  return y[..., 0], np.asarray(table.apply(variables, method='table'))


@pytest.mark.parametrize('negatives', [0, V])
def test_later_events_are_targets_with_their_weights(negatives):
  batch, lags = batch_of(), (1.0, 0.5, 0.25)
  features = np.random.default_rng(3).normal(size=(B, T, D)).astype(np.float32)
  head = models.NextItemHead(V + 1, lags=lags, negatives=negatives)
  found, rows = losses(head, batch, features)
  scores = features.astype(np.float64) @ rows[1:].T
  log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
  for b in range(B):
    for t in range(T):
      later = batch['next_item'][b, t : t + len(lags)]
      if later[0] < 0:
        assert found[b, t] == 0
        continue
      w = np.array(lags[: len(later)])
      expected = -(w * log_p[b, t, later - 1]).sum() / w.sum()
      np.testing.assert_allclose(found[b, t], expected, rtol=1e-5)


def test_one_lag_is_the_next_event_bit_by_bit():
  batch = batch_of()
  features = np.random.default_rng(3).normal(size=(B, T, D)).astype(np.float32)
  one, _ = losses(models.NextItemHead(V + 1), batch, features)
  same, _ = losses(models.NextItemHead(V + 1, lags=(2.0,)), batch, features)
  np.testing.assert_array_equal(one, same)


def test_heads_that_need_attributes_say_so(tmp_path):
  batch = batch_of()
  features = jnp.zeros((B, T, D))
  for head in (
    models.ProfileHead(2),
    models.ItemHead(1, ratings='ratings', levels=LEVELS),
  ):
    with pytest.raises(ValueError, match="model.inputs.attributes to 'log'"):
      run_head(head, '', batch, features)
  np.save(tmp_path / 'short.npy', np.zeros((V, 3), np.float32))
  with pytest.raises(ValueError, match=f'expected attributes of {V} items'):
    run_head(
      models.ProfileHead(2), str(tmp_path / 'short.npy'), batch, features
    )


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: models.NextItemHead(9, lags=()), 'weights of the next events'),
    (lambda: models.NextItemHead(9, lags=(0.0, 1.0)), 'the first above 0'),
    (lambda: models.ProfileHead(2, decays=(1.1,)), r'decays in \(0, 1\]'),
    (lambda: models.ItemHead(1, strength=-1.0), 'strength >= 0'),
  ],
)
def test_options_out_of_range_are_one_sentence(make, message):
  with pytest.raises(ValueError, match=message):
    make()
