"""Runs every row of docs/combinators_wrappers.md."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators

PARAMS = {'trunk': jnp.array([1.0, 2.0]), 'heads': jnp.array([0.5, -0.5])}
PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'combinators_wrappers.md'


def losses_fn(params):
  return (params['trunk'] * params['heads'] - 1.0) ** 2


def combine():
  # It draws: its key must reach it through every wrapper.
  return combinators.rlw()


def whole():
  return optax.chain(combine(), optax.sgd(0.1))


def only_trunk():
  return {'trunk': True, 'heads': False}


AFTER = {
  'optax.clip_by_global_norm': lambda: optax.clip_by_global_norm(1.0),
  'optax.adaptive_grad_clip': lambda: optax.adaptive_grad_clip(0.1),
  'optax.centralize': optax.centralize,
  'optax.zero_nans': optax.zero_nans,
  'optax.add_decayed_weights': lambda: optax.add_decayed_weights(0.1),
  'optax.ema': lambda: optax.ema(0.9),
  'optax.inject_hyperparams': lambda: optax.inject_hyperparams(optax.adam)(0.1),
  'optax.masked': lambda: optax.masked(optax.scale(2.0), only_trunk()),
  'optax.partition': lambda: optax.partition(
    {'a': optax.adam(0.1), 'b': optax.sgd(0.1)}, {'trunk': 'a', 'heads': 'b'}
  ),
  'optax.apply_if_finite': lambda: optax.apply_if_finite(optax.adam(0.1), 3),
  'optax.MultiSteps': lambda: optax.MultiSteps(
    optax.adam(0.1), 2
  ).gradient_transformation(),
}

BEFORE = {
  'combinators.scale_by': lambda: combinators.scale_by(
    combinators.dwa_weights(2)
  ),
  'combinators.log_losses': combinators.log_losses,
  'combinators.clip_per_task': lambda: combinators.clip_per_task(1.0),
  'combinators.per_task_momentum': lambda: combinators.per_task_momentum(2),
  'optax.identity': optax.identity,
  'optax.clip_by_global_norm': lambda: optax.clip_by_global_norm(1.0),
  'optax.clip': lambda: optax.clip(1.0),
  'optax.add_decayed_weights': lambda: optax.add_decayed_weights(0.1),
  'optax.scale': lambda: optax.scale(1.0),
  'optax.trace': lambda: optax.trace(0.9),
  'optax.adam': lambda: optax.adam(0.1),
  'combinators.weighted_sum': combinators.weighted_sum,
}

AROUND = {
  'optax.chain': optax.chain,
  'optax.named_chain': lambda tx: optax.named_chain(('all', tx)),
  'optax.inject_hyperparams': lambda tx: optax.inject_hyperparams(
    lambda rate: optax.chain(combine(), optax.sgd(rate))
  )(rate=0.1),
  'optax.with_extra_args_support': optax.with_extra_args_support,
  'optax.contrib.schedule_free': lambda tx: optax.contrib.schedule_free(
    tx, learning_rate=0.1
  ),
  'combinators.skip_nonfinite': combinators.skip_nonfinite,
  'optax.apply_if_finite': lambda tx: optax.apply_if_finite(tx, 3),
  'optax.MultiSteps': lambda tx: optax.MultiSteps(tx, 2),
  'optax.masked': lambda tx: optax.masked(tx, only_trunk()),
  'optax.partition': lambda tx: optax.partition(
    {'a': tx, 'b': optax.sgd(0.1)}, {'trunk': 'a', 'heads': 'b'}
  ),
  'optax.conditionally_transform': lambda tx: optax.conditionally_transform(
    tx, lambda step, **_: step % 2 == 0
  ),
  'optax.flatten': optax.flatten,
  'optax.lookahead': lambda tx: optax.lookahead(tx, 5, 0.5),
  'optax.contrib.sam': lambda tx: optax.contrib.sam(tx, optax.sgd(0.1)),
  'optax.contrib.mechanize': optax.contrib.mechanize,
}


def read_tables():
  """``[{name: works}]``, a table a section."""
  tables = []
  for section in PAGE.read_text().split('\n## ')[1:]:
    rows = re.findall(r'^\| `([^`]+)` \| (yes|no)', section, re.MULTILINE)
    if rows:
      tables.append({name: works == 'yes' for name, works in rows})
  return tables


TABLES = read_tables()
ROWS = [
  (place, name, make, TABLES[i].get(name))
  for i, (place, makes) in enumerate(
    [('after', AFTER), ('before', BEFORE), ('around', AROUND)]
  )
  for name, make in makes.items()
]


def test_the_page_has_these_rows():
  for table, makes in zip(TABLES, (AFTER, BEFORE, AROUND), strict=True):
    assert set(table) == set(makes)


def build(place, make):
  if place == 'after':
    return optax.chain(combine(), make())
  if place == 'before':
    return optax.chain(make(), whole())
  return make(whole())


@pytest.mark.parametrize(
  'place, name, make, works', ROWS, ids=[f'{r[0]} {r[1]}' for r in ROWS]
)
def test_row(place, name, make, works):
  tx = build(place, make)

  @jax.jit
  def step(params, state, key):
    gradients = combinators.task_gradients(
      losses_fn, params, shared=lambda path: path == 'trunk'
    )
    updates, state = tx.update(gradients, state, params, key=key, step=0)
    return optax.apply_updates(params, updates), state

  params, state = PARAMS, tx.init(PARAMS)
  if works:
    for t in range(2):
      params, state = step(params, state, jax.random.key(t))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, PARAMS)
    assert all(np.isfinite(p).all() for p in jax.tree.leaves(params))
    assert not np.allclose(params['trunk'], PARAMS['trunk'])
  else:
    with pytest.raises((TypeError, ValueError, AttributeError)):
      step(params, state, jax.random.key(0))


@pytest.mark.parametrize(
  'name', ['optax.clip_by_global_norm', 'optax.scale', 'optax.adam']
)
def test_the_sentence_of_a_wrong_order(name):
  tx = build('before', BEFORE[name])
  gradients = combinators.task_gradients(losses_fn, PARAMS)
  with pytest.raises(
    (TypeError, AttributeError),
    match='put this transform after the combinator in optax.chain',
  ):
    tx.update(gradients, tx.init(PARAMS), PARAMS)


def test_the_sentence_of_two_combinators():
  tx = build('before', combinators.weighted_sum)
  gradients = combinators.task_gradients(losses_fn, PARAMS)
  with pytest.raises(TypeError, match='found dict; put the combinator at the'):
    tx.update(gradients, tx.init(PARAMS), PARAMS)


def losses_along(tx, steps=20):
  @jax.jit
  def step(params, state, key):
    gradients = combinators.task_gradients(losses_fn, params)
    updates, state = tx.update(gradients, state, params, key=key)
    return optax.apply_updates(params, updates), state

  params, state = PARAMS, tx.init(PARAMS)
  for t in range(steps):
    params, state = step(params, state, jax.random.key(t))
  return params


def test_wrappers_that_add_nothing_change_nothing():
  expected = losses_along(whole())
  for name in (
    'optax.chain',
    'optax.named_chain',
    'optax.inject_hyperparams',
    'combinators.skip_nonfinite',
  ):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
      losses_along(AROUND[name](whole())),
      expected,
    )
