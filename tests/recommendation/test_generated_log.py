"""The generated log: its law, the dial, and the ceiling that nothing passes."""

import numpy as np
import pytest

from mtl_jax.recommendation import baselines, generated, protocols, ranking

SMALL = dict(items=12, genres=3, sharpness=1.5)


@pytest.fixture(scope='module')
def chain():
  return generated.make_chain(**SMALL)


@pytest.fixture(scope='module')
def log(chain):
  return generated.sample(chain, users=600, length=30)


def test_events_follow_the_transition_matrix(chain, log):
  np.testing.assert_allclose(chain.transition.sum(1), 1)
  np.testing.assert_allclose(
    chain.stationary(),
    np.linalg.matrix_power(chain.transition, 500)[0],
    atol=1e-9,
  )
  item = log.item.reshape(600, 30)
  counts = np.zeros((12, 12))
  np.add.at(counts, (item[:, :-1].ravel(), item[:, 1:].ravel()), 1)
  often = np.bincount(item[:, :-1].ravel(), minlength=12)[:, None]
  error = counts / often - chain.transition
  scale = np.sqrt(chain.transition * (1 - chain.transition) / often)
  assert np.abs(error / scale).max() < 4.5
  assert log.tied == 0
  first = np.bincount(item[:, 0], minlength=12) / 600
  np.testing.assert_allclose(first, chain.stationary(), atol=0.07)


def test_the_dial_turns_ratings_and_leaves_the_chain():
  logits = None
  for dial in (-1.0, 0.0, 0.5, 1.0):
    chain = generated.make_chain(items=150, agreement=dial)
    if logits is not None:
      np.testing.assert_array_equal(np.log(chain.transition), logits)
    logits = np.log(chain.transition)
    affinity = logits - logits.mean(1, keepdims=True)
    rating = chain.rating - chain.rating.mean(1, keepdims=True)
    found = np.corrcoef(affinity.ravel(), rating.ravel())[0, 1]
    assert found == pytest.approx(dial, abs=0.1)


def test_ratings_and_genres_are_the_chains(chain, log):
  item = log.item.reshape(600, 30)
  mean = chain.rating[item[:, :-1], item[:, 1:]]
  rest = log.rating.reshape(600, 30)[:, 1:] - mean
  assert rest.std() == pytest.approx(chain.noise, rel=0.02)
  assert abs(rest.mean()) < 0.02
  number = {name: i for i, name in enumerate(log.genre_names)}
  for g in range(3):
    held = chain.genres[:, g]
    if held.any():
      np.testing.assert_array_equal(log.genres[:, number[f'g{g}']], held)


def test_the_probability_of_interests_is_exact(chain):
  # All paths of three steps, by hand.
  p = chain.transition
  states = np.array([0, 5])
  found = chain.interests(states, 3)
  for row, a in enumerate(states):
    paths = p[a][:, None, None] * p[:, :, None] * p[None]
    for g in range(3):
      has = chain.genres[:, g] > 0
      some = has[:, None, None] | has[None, :, None] | has[None, None]
      assert found[row, g] == pytest.approx(paths[some].sum(), rel=1e-9)


def test_the_ceiling_is_what_the_law_reaches_and_nothing_passes(chain, log):
  split = protocols.leave_one_out(log)
  best = ranking.rank(chain.score(split), split, seen='keep')
  ceiling = chain.ceiling(3, chain.states(split))
  for name in ranking.METRICS:
    values = best.values(name, 3)
    scatter = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - ceiling[f'{name}@3']) < 4 * scatter
  whole = chain.ceiling(3)
  assert whole['ndcg@3'] == pytest.approx(ceiling['ndcg@3'], abs=0.03)
  # Counting what follows what comes close; popularity and chance do not.
  expected = {}
  states = chain.states(split)
  for name, options in (('markov', dict(last=1, lags=1)), ('popularity', {})):
    scores = baselines.RANKERS[name](split, **options)(split.targets('test'))
    order = np.argsort(-scores, axis=1)[:, :3]
    gains = np.take_along_axis(chain.transition[states], order, 1)
    expected[name] = (gains @ (1 / np.log2([2, 3, 4]))).mean()
  assert expected['popularity'] < expected['markov'] <= ceiling['ndcg@3'] + 1e-9
  assert expected['markov'] > 0.9 * ceiling['ndcg@3']


def test_settings_make_a_log_and_bad_ones_are_refused():
  made = generated.make(users=20, length=6, ties='item', **SMALL)
  assert (made.num_users, len(made), made.ties) == (20, 120, 'item')
  again = generated.make(users=20, length=6, ties='item', **SMALL)
  np.testing.assert_array_equal(made.item, again.item)
  other = generated.make(users=20, length=6, data_seed=1, **SMALL)
  assert other.num_items != made.num_items or (made.item != other.item).any()
  with pytest.raises(ValueError, match=r'agreement in \[-1, 1\], found 2'):
    generated.make_chain(agreement=2)
  with pytest.raises(ValueError, match='expected items >= 2'):
    generated.make_chain(items=1)
