"""The order of the chain, the second look, epochs, and dropout keys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators, models, tasks as tasks_lib
from mtl_jax.training import engine as engine_lib, step as step_lib

WRONG = {
  'clip_by_global_norm': optax.clip_by_global_norm(1.0),
  'clip': optax.clip(1.0),
  'adam': optax.adam(1e-3),
  'scale': optax.scale(2.0),
  'add_decayed_weights': optax.add_decayed_weights(0.1),
  'trace': optax.trace(0.9),
}


def take_step(toy, tx, steps=1, **kwargs):
  model = toy.model()
  state = step_lib.init_state(model, tx, jax.random.key(0), None)
  step = jax.jit(step_lib.make_train_step(model, toy.tasks(), tx, **kwargs))
  for i in range(steps):
    state, metrics = step(state, {'main': toy.batch(i)})
  return state, metrics


@pytest.mark.parametrize('name', WRONG)
def test_what_stands_before_the_combinator_is_refused(toy, name):
  tx = optax.chain(WRONG[name], combinators.pcgrad(), optax.sgd(0.1))
  with pytest.raises(
    (ValueError, TypeError), match=r'after (it|the combinator) *.*\.'
  ):
    take_step(toy, tx)


def test_a_chain_without_combinator_is_refused(toy):
  with pytest.raises(ValueError, match='Expected a combinator'):
    take_step(toy, optax.identity())
  with pytest.raises((ValueError, TypeError), match='combinator'):
    take_step(toy, optax.sgd(0.1))


def test_errors_inside_a_combinator_are_its_own(toy):
  tx = optax.chain(combinators.weighted_sum([1.0, 2.0]), optax.sgd(0.1))
  with pytest.raises(ValueError, match='Expected 3 weights, one per task, fou'):
    take_step(toy, tx)


class SecondLookState(NamedTuple):
  losses_after: jax.Array


def test_second_look_is_the_loss_after_the_update(toy):
  plain = combinators.weighted_sum()
  looking = optax.GradientTransformationExtraArgs(
    lambda params: SecondLookState(jnp.zeros(3)),
    lambda updates, state, params=None, **extra: (
      plain.update(updates, optax.EmptyState(), **extra)[0],
      state,
    ),
  )
  tx = optax.chain(looking, optax.sgd(0.01))
  state, _ = take_step(toy, tx)
  after = optax.tree.get(state.opt_state, 'losses_after')
  step = step_lib.make_train_step(toy.model(), toy.tasks(), tx)
  _, metrics = jax.jit(step)(state, {'main': toy.batch(0)})
  np.testing.assert_allclose(after, metrics['losses'], rtol=1e-6)


def test_combinators_are_told_step_and_epoch(toy):
  def weights(gradients, state, *, key, step, epoch):
    del key
    return jnp.ones(3), jnp.stack([step, epoch])

  told = combinators.Weighting(lambda params: jnp.zeros(2, int), weights)
  tx = optax.chain(combinators.combine_by(told), optax.sgd(0.1))
  state, _ = take_step(toy, tx, steps=8, steps_per_epoch=3)
  np.testing.assert_array_equal(state.opt_state['method'][0], [7, 2])


def test_dropout_and_combinator_draw_anew_each_step_and_repeat_by_seed():
  heads = {'a': models.LinearHead(2), 'b': models.LinearHead(2)}
  trunk = models.MLP(widths=(16,), dropout=0.5)
  model = models.build_model(models.hard_sharing(), trunk, heads)
  tasks = [tasks_lib.classification(name, 2) for name in heads]
  tx = optax.chain(combinators.pcgrad(), optax.sgd(0.0))
  batch = {
    'inputs': np.ones((8, 4), np.float32),
    'a': np.zeros(8, np.int32),
    'b': np.ones(8, np.int32),
  }
  step = jax.jit(step_lib.make_train_step(model, tasks, tx))

  def losses(seed):
    state = step_lib.init_state(
      model, tx, jax.random.key(seed), {'main': batch}
    )
    found = []
    for _ in range(3):
      state, metrics = step(state, {'main': batch})
      found.append(float(metrics['losses'][0]))
    return found

  assert len(set(losses(0))) == 3
  assert losses(0) == losses(0) != losses(1)


def test_an_absent_task_moves_nothing_of_its_own(toy):
  tx = optax.chain(combinators.pcgrad(), optax.adam(0.1))
  model = toy.model()
  state = step_lib.init_state(model, tx, jax.random.key(0), None)
  before = jax.device_get(state.params)
  batch = toy.batch()
  batch['b'][:] = np.nan
  step = jax.jit(step_lib.make_train_step(model, toy.tasks(), tx))
  state, metrics = step(state, {'main': batch})
  np.testing.assert_array_equal(
    state.params['heads']['b'], before['heads']['b']
  )
  assert np.isfinite(jax.tree.leaves(jax.device_get(metrics))[0]).all()


def test_a_step_builder_is_no_combinator(toy):
  builder = step_lib.from_chain(combinators.weighted_sum())
  for make in (
    lambda: step_lib.make_train_step(toy.model(), toy.tasks(), builder),
    lambda: step_lib.init_state(
      toy.model(), builder, jax.random.key(0), {'main': toy.batch()}
    ),
  ):
    with pytest.raises(ValueError, match='found a StepBuilder; call its own'):
      make()


def test_what_a_method_has_moved_itself_counts(toy):
  """In the state, and in the losses after the update."""
  model, seen = toy.model(), []
  parts = step_lib.StepParts(
    engine=engine_lib.Engine(model, toy.tasks()), optimizer=optax.sgd(0.1)
  )
  state = step_lib.from_chain(combinators.weighted_sum()).init_state(
    model, jax.random.key(0), None, parts.optimizer
  )
  own = {'gate': state.params['gate'] + 2}

  def losses_at(params):
    seen.append(params)
    return jnp.arange(3.0)

  @jax.jit
  def step(state):
    gradients, model_state = parts.engine(
      state.params, {}, {'main': toy.batch()}
    )
    return parts.finish(
      state,
      gradients.combine(jnp.ones(3)),
      gradients=gradients,
      model_state=model_state,
      method=SecondLookState(jnp.zeros(3)),
      own=own,
      losses_at=losses_at,
    )[0]

  after = step(state)
  np.testing.assert_array_equal(after.params['gate'], own['gate'])
  moved = after.params['trunk']['w'] - state.params['trunk']['w']
  assert np.abs(moved).max() > 0
  np.testing.assert_array_equal(
    after.opt_state['method'].losses_after, np.arange(3)
  )
  (looked,) = seen
  assert looked['gate'] is own['gate']
