import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

from mtl_jax import models

SETTINGS = {
  'categorical': {'item': (7, 3), 'age': (4, 2)},
  'multihot': {'genres': 4},
  'numeric': ('rating', 'position'),
}


def draw(*lead):
  rng = np.random.default_rng(0)
  return {
    'item': jnp.asarray(rng.integers(0, 7, lead)),
    'age': jnp.asarray(rng.integers(0, 4, lead)),
    'genres': jnp.asarray(rng.integers(0, 2, (*lead, 5))),
    'rating': jnp.asarray(rng.integers(1, 6, lead)),
    'position': jnp.asarray(rng.normal(size=(*lead, 2)), jnp.float32),
  }


@pytest.mark.parametrize('lead', [(3,), (3, 4)])
def test_features_stand_side_by_side(lead):
  encoder = models.InputEncoder(**SETTINGS, time=len(lead) == 2)
  batch = draw(*lead)
  x, variables = encoder.init_with_output(jax.random.key(0), batch, train=False)
  tables = variables['params']
  expected = np.concatenate(
    [
      tables['embed_age']['embedding'][batch['age']],
      tables['embed_item']['embedding'][batch['item']],
      np.asarray(batch['genres']) @ tables['embed_genres']['kernel'],
      np.asarray(batch['rating'])[..., None],
      batch['position'],
    ],
    axis=-1,
  )
  assert x.dtype == jnp.float32
  np.testing.assert_allclose(x, expected, rtol=1e-6)


def test_ids_outside_their_table_become_nan():
  encoder = models.InputEncoder(categorical={'item': (7, 3)})
  variables = encoder.init(
    jax.random.key(0), {'item': jnp.zeros(1, int)}, train=False
  )
  batch = {'item': jnp.array([6, 7, -1])}
  x = encoder.apply(variables, batch, train=False)
  np.testing.assert_array_equal(np.isnan(x).all(axis=1), [False, True, True])
  assert np.isfinite(x[0]).all()


def test_bfloat16():
  encoder = models.InputEncoder(**SETTINGS, dtype='bfloat16')
  x, variables = encoder.init_with_output(
    jax.random.key(0), draw(3), train=False
  )
  assert x.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(variables)} == {np.dtype('float32')}


@pytest.mark.parametrize('trunk', sweeps.some(['mlp', 'lstm'], 'mlp'))
def test_in_front_of_a_trunk(trunk):
  time = trunk == 'lstm'
  model = models.build_model(
    models.hard_sharing(),
    models.TRUNKS[trunk](),
    {'next': models.LinearHead(3)},
    inputs=models.InputEncoder(**SETTINGS, time=time),
  )
  batch = draw(3, 4) if time else draw(3)
  params, state = jax.jit(model.init)(jax.random.key(0), {'main': batch})

  def features(params):
    return model.features(
      params, state, batch, stream='main', train=False, key=None
    )[0]

  gradient = jax.grad(lambda params: jnp.sin(features(params)).sum())(params)
  assert features(params).shape[0] == 3
  assert set(params['inputs']) == {'embed_age', 'embed_item', 'embed_genres'}
  for leaf in jax.tree.leaves(gradient['inputs']):
    assert np.abs(leaf).max() > 0
  assert model.shared('inputs/embed_item/embedding')


@pytest.mark.parametrize(
  'settings, message',
  [
    ({}, 'expected at least one feature, found none; name them in'),
    (
      {'categorical': {'item': (7,)}},
      r"categorical\['item'\] to be \(cardinality, dim\), both at least 1, "
      r'found \(7,\)',
    ),
    ({'categorical': {'item': (0, 3)}}, r'found \(0, 3\); give these two'),
    ({'multihot': {'genres': 0}}, r"multihot\['genres'\] to be a dim of at"),
    (
      {'numeric': ('ratings',)},
      "expected an array 'ratings' in the batch, found age, genres, item,",
    ),
    (
      {'numeric': ('rating',), 'time': True},
      r"'rating' to have 2 or 3 axes with time=True, found shape \(3,\)",
    ),
    (
      {'categorical': {'genres': (2, 2)}},
      r"'genres' to have 1 axes with time=False, found shape \(3, 5\)",
    ),
  ],
)
def test_bad_input(settings, message):
  with pytest.raises(ValueError, match=message):
    models.InputEncoder(**settings).init(
      jax.random.key(0), draw(3), train=False
    )
