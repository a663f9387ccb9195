"""Schedules, decay and groups against formulas."""

import functools
import inspect
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax.training import optimizers

pytestmark = pytest.mark.smoke

PARAMS = {'trunk': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}}


def update(steps=1, params=PARAMS, gradient=0.0, **kwargs):
  """The update of the last of some steps with a constant gradient."""
  name = kwargs.pop('name', 'sgd')
  decay = kwargs.pop('weight_decay', 0.0)
  schedule = kwargs.pop('schedule', lambda step: 0.1)
  tx = optimizers.make_chain(
    optimizers.optimizer_by_name(name, {}, decay),
    schedule,
    **kwargs,
  )
  state = tx.init(params)
  gradients = jax.tree.map(
    lambda p: jnp.full(p.shape, gradient, p.dtype), params
  )
  for _ in range(steps):
    found, state = tx.update(gradients, state, params)
  return found['trunk']


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
def test_weight_decay_is_of_matrices(name):
  found = update(name=name, weight_decay=0.5)
  np.testing.assert_allclose(found['kernel'], -0.1 * 0.5 * np.ones((2, 2)))
  np.testing.assert_array_equal(found['bias'], 0)


@pytest.mark.parametrize('weight_decay', [0.0, jnp.zeros(())])
def test_no_decay_is_none_whatever_optaxs_default(weight_decay):
  by_default, functions = [], (types.FunctionType, functools.partial)
  for name, make in vars(optax).items():
    if not isinstance(make, functions):
      continue
    known = inspect.signature(make).parameters
    if {'learning_rate', 'weight_decay'} <= set(known):
      found = update(name=name, weight_decay=weight_decay)
      for leaf in found.values():
        np.testing.assert_array_equal(leaf, 0, name)
      by_default += [name] * bool(known['weight_decay'].default)
  assert {'adamw', 'lion', 'nadamw', 'adamaxw'} <= set(by_default)


def test_one_weight_decay():
  with pytest.raises(ValueError, match='one weight decay, .* remove one'):
    build('adamw', {'weight_decay': 0.1}, 0.2)
  # By itself it is Optax's, of biases as well.
  tx, params = build('adamw', {'weight_decay': 0.5}), jnp.ones(2)
  found, _ = tx.update(jnp.zeros(2), tx.init(params), params)
  np.testing.assert_allclose(found, -0.1 * 0.5)


def test_adam_takes_decay_as_a_penalty():
  # Through Adam's normalisation its size is lost: one step of the rate.
  found = update(name='adam', weight_decay=1e-3)
  np.testing.assert_allclose(found['kernel'], -0.1, rtol=1e-4)


def test_first_pattern_that_matches_sets_the_rate():
  rates = (('bias', 0.5), ('trunk', 0.1))
  found = update(gradient=1.0, learning_rates=rates)
  np.testing.assert_allclose(found['bias'], -0.05)
  np.testing.assert_allclose(found['kernel'], -0.01, rtol=1e-6)


def test_clipping_is_of_the_global_norm():
  found = update(gradient=1.0, clip_norm=1.0)
  norm = optax.tree.norm(found)
  np.testing.assert_allclose(norm, 0.1, rtol=1e-6)


def test_a_norm_of_zero_clips_nothing_in_a_population():
  both = jax.vmap(lambda norm: update(gradient=3.0, clip_norm=norm))
  found = both(jnp.array([0.0, 1.0]))['kernel']
  alone = update(gradient=3.0)['kernel']
  np.testing.assert_array_equal(found[0], alone)
  np.testing.assert_allclose(found[1], -0.1 / 6**0.5, rtol=1e-6)


def test_frozen_parameters_do_not_decay():
  frozen = optimizers.matcher(['kernel'])
  found = update(weight_decay=0.5, frozen=frozen)
  np.testing.assert_array_equal(found['kernel'], 0)


@pytest.mark.parametrize(
  'name, expected',
  [
    ('constant', [1, 1, 1]),
    ('linear', [1, 0.55, 0.1]),
    ('cosine', [1, 0.55, 0.1]),
    ('exponential', [1, 0.1**0.5, 0.1]),
  ],
)
def test_schedules_at_start_middle_and_end(name, expected):
  schedule = optimizers.make_schedule(
    name, 2.0, 12, warmup_steps=2, end_factor=0.1
  )
  assert float(schedule(0)) == 0
  found = [float(schedule(step)) / 2 for step in (2, 7, 12)]
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_exponential_decay_to_nothing_is_refused():
  with pytest.raises(ValueError, match='end factor > 0 .* found 0'):
    optimizers.make_schedule('exponential', 1.0, 10)


def test_patterns_that_match_nothing_are_named():
  with pytest.raises(ValueError, match="no match for 'trnk'"):
    optimizers.check_patterns('optimizer.frozen', ['trnk'], ['trunk/bias'])


def halved(learning_rate, factor=0.5):
  """An optimizer of the user's, by its dotted name."""
  return optax.chain(optax.scale(factor), optax.sgd(learning_rate))


def without_rate(factor):
  return optax.scale(factor)


def build(name, options=(), decay=0.0):
  return optimizers.optimizer_by_name(name, dict(options), decay)(lambda _: 0.1)


@pytest.mark.parametrize(
  'name, options, size',
  [
    (f'{__name__}.halved', {}, 0.05),
    (f'{__name__}.halved', {'factor': 0.25}, 0.025),
    ('optax.sgd', {}, 0.1),
    ('optax.sign_sgd', {}, 0.1),
  ],
)
def test_an_optimizer_by_its_dotted_name(name, options, size):
  tx = build(name, options)
  found, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2))
  np.testing.assert_allclose(found, -size, rtol=1e-6)


def test_decay_of_the_users_optimizer_is_a_penalty():
  tx = build(f'{__name__}.halved', {}, 0.5)
  params = {'matrix': 2 * jnp.ones((2, 2)), 'bias': jnp.ones(2)}
  zeros = jax.tree.map(jnp.zeros_like, params)
  found, _ = tx.update(zeros, tx.init(params), params)
  np.testing.assert_allclose(found['matrix'], -0.5 * 0.1 * 0.5 * 2, rtol=1e-6)
  np.testing.assert_array_equal(found['bias'], 0)


@pytest.mark.parametrize(
  'name, options, message',
  [
    ('adamm', {}, "an optimizer of Optax, found 'adamm'; use .* or the dotted"),
    ('nowhere.halved', {}, "found 'nowhere.halved'; .* your own with an arg"),
    (f'{__name__}.nothing', {}, 'nothing.; .* your own with an argument'),
    (f'{__name__}.without_rate', {}, 'without_rate.; .* argument learning_ra'),
    (
      f'{__name__}.halved',
      {'facto': 1},
      f"option of {__name__}.halved, found 'facto' .known: learning_rate, fac",
    ),
  ],
)
def test_names_and_options_that_do_not_fit(name, options, message):
  with pytest.raises(ValueError, match=message):
    build(name, options)
