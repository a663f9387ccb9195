"""Runs every row of docs/combinators_wrappers.md."""

import copy
import functools
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
  'combinators.scale_by': lambda: combinators.scale_by(combinators.dwa(2)),
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

INSIDE = {
  'combinators.from_gramian': lambda tx: combinators.from_gramian(
    lambda gramian, present: jnp.ones(2)
  ),
  'combinators.every_k': lambda tx: combinators.every_k(tx, 1, 2),
  'copy.copy': copy.copy,
  'copy.deepcopy': copy.deepcopy,
  'optax.with_extra_args_support': optax.with_extra_args_support,
  'tx._replace(init=...)': lambda tx: tx._replace(
    init=lambda params: tx.init(0)
  ),
  # A function that calls it, and has its attributes, is not it.
  'tx._replace(update=...)': lambda tx: tx._replace(
    update=functools.wraps(tx.update)(
      lambda *args, **kw: tx.update(*args, **kw)
    )
  ),
  'optax.chain': optax.chain,
  'optax.named_chain': lambda tx: optax.named_chain(('all', tx)),
  'optax.inject_hyperparams': lambda tx: optax.inject_hyperparams(
    lambda c: combinators.cagrad(c)
  )(c=0.4),
  'combinators.scale_by': combinators.scale_by,
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
    [
      ('after', AFTER),
      ('before', BEFORE),
      ('around', AROUND),
      ('inside', INSIDE),
    ]
  )
  for name, make in makes.items()
]


def test_the_page_has_these_rows():
  for table, makes in zip(TABLES, (AFTER, BEFORE, AROUND, INSIDE), strict=True):
    assert set(table) == set(makes)


def build(place, make):
  if place == 'after':
    return optax.chain(combine(), make())
  if place == 'before':
    return optax.chain(make(), whole())
  if place == 'inside':
    return optax.chain(combinators.smooth(make(combine()), 2), optax.sgd(0.1))
  return make(whole())


@pytest.mark.parametrize(
  'place, name, make, works', ROWS, ids=[f'{r[0]} {r[1]}' for r in ROWS]
)
def test_row(place, name, make, works):
  if place == 'inside' and not works:
    with pytest.raises(TypeError, match='one weight per task, found a tran'):
      build(place, make)
    return
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


def gradients_at(params):
  return combinators.task_gradients(
    losses_fn, params, shared=lambda path: path == 'trunk'
  )


@pytest.mark.parametrize('name', [n for n, works in TABLES[3].items() if works])
def test_a_method_keeps_its_weights(name):
  """Smoothed for the first time, weights are those of the method itself."""
  method = INSIDE[name](combine())
  extra = {'key': jax.random.key(0), 'step': 0}
  directions = [
    tx.update(gradients_at(PARAMS), tx.init(PARAMS), PARAMS, **extra)[0]
    for tx in (method, combinators.smooth(method, 2))
  ]
  jax.tree.map(np.testing.assert_array_equal, *directions)
  assert directions[0]['trunk'].any()


def test_another_init_is_that_of_the_wrapped_method():
  weighting = combinators.Weighting(
    lambda params: jnp.array([1.0, 2.0]), lambda g, state, **_: (state, state)
  )
  tx = combinators.combine_by(weighting)
  tx = tx._replace(init=lambda params: jnp.array([3.0, 4.0]))
  smoothed = combinators.smooth(tx, 2)
  _, state = smoothed.update(gradients_at(PARAMS), smoothed.init(PARAMS))
  np.testing.assert_array_equal(state.weights, [3.0, 4.0])


WRAP = {
  'scale_by': combinators.scale_by,
  'smooth': lambda tx: combinators.smooth(tx, 2),
  'every_k': lambda tx: combinators.every_k(tx, 2, 2),
  'per_group': lambda tx: combinators.per_group(tx, lambda path: path),
  'with_preference': lambda tx: combinators.with_preference(tx, [1.0, 2.0]),
  'combine_by': combinators.combine_by,
}


@pytest.mark.parametrize('name', WRAP)
def test_wrappers_take_methods_with_weights_only(name):
  for make in (combinators.graddrop, lambda: optax.chain(combine())):
    with pytest.raises(TypeError, match='give the method itself, before it'):
      WRAP[name](make())
  tx = WRAP[name](combine())
  assert isinstance(tx, optax.GradientTransformationExtraArgs)
  assert combinators.has_weights(tx) == (name != 'scale_by')


def test_an_array_reaches_a_wrapped_method():
  make = optax.inject_hyperparams(
    lambda decay: combinators.smooth(combinators.mgda(), 2, decay=decay)
  )
  tx = make(decay=0.25)
  states = [tx.init(PARAMS)]
  for scale in (1.0, 3.0):
    params = jax.tree.map(lambda p, s=scale: s * p, PARAMS)
    states.append(tx.update(gradients_at(params), states[-1], params)[1])
  first, second = (
    combinators.weighting_of(combinators.mgda()).weights(
      gradients_at(jax.tree.map(lambda p, s=scale: s * p, PARAMS)),
      optax.EmptyState(),
      key=None,
      step=0,
      epoch=0,
    )[0]
    for scale in (1.0, 3.0)
  )
  np.testing.assert_allclose(
    states[-1].inner_state.weights, 0.25 * first + 0.75 * second, rtol=1e-5
  )
  assert not np.allclose(first, second)
