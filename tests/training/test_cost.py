"""What a method does not ask for is not computed: counted, not timed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators, models, tasks as tasks_lib
from mtl_jax.training import step as step_lib

TASKS = (
  tasks_lib.classification('genre', 5),
  tasks_lib.regression('rating'),
)
LABELS = {
  'genre': np.zeros(32, np.int32),
  'rating': np.zeros(32, np.float32),
}


def make_case(name):
  rng = np.random.default_rng(0)
  if name == 'mlp':
    trunk = models.MLP(widths=(256, 256))
    batch = {'inputs': rng.normal(size=(32, 100)).astype(np.float32)}
  elif name == 'cnn_text':
    trunk = models.CNNText(vocab_size=500, embed_dim=64, filters=64)
    batch = {'tokens': rng.integers(1, 500, (32, 40)).astype(np.int32)}
  else:
    trunk = models.LSTM(features=32)
    batch = {'inputs': rng.normal(size=(32, 20, 8)).astype(np.float32)}
  heads = {task.name: models.LinearHead(task.size) for task in TASKS}
  return models.build_model(models.hard_sharing(), trunk, heads), {
    'main': batch | LABELS
  }


def ours(model, batch, combinator):
  tx = optax.chain(combinator, optax.adam(1e-3))
  state = jax.eval_shape(
    lambda: step_lib.init_state(model, tx, jax.random.key(0), batch)
  )
  step = jax.jit(step_lib.make_train_step(model, TASKS, tx))
  return step.lower(state, batch)


def plain(model, batch):
  """The same network trained on the sum of losses, by hand."""
  tx = optax.adam(1e-3)
  params, _ = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
  arrays = batch['main']

  def step(params, opt_state):
    def loss(params):
      features, _ = model.features(
        params, {}, arrays, stream='main', train=True, key=None
      )
      outputs, _ = model.outputs(
        params,
        {},
        features,
        arrays,
        tasks=('genre', 'rating'),
        train=True,
        key=None,
      )
      losses = [task.loss(outputs[task.name], arrays).mean() for task in TASKS]
      return sum(losses), jnp.stack(losses)

    gradient, losses = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = tx.update(gradient, opt_state)
    return optax.apply_updates(params, updates), opt_state, losses

  return jax.jit(step).lower(params, jax.eval_shape(tx.init, params))


def flops(lowered):
  return lowered.compile().cost_analysis()['flops']


@pytest.mark.parametrize('name', ['mlp', 'cnn_text'])
def test_equal_weights_cost_one_backward_pass(name):
  model, batch = make_case(name)
  ratio = flops(ours(model, batch, combinators.weighted_sum())) / flops(
    plain(model, batch)
  )
  assert 0.95 < ratio < 1.05


def test_a_gramian_method_costs_k_backward_passes_and_no_more():
  model, batch = make_case('mlp')
  forward = 2 * 32 * (100 * 256 + 256 * 256)
  one = flops(ours(model, batch, combinators.weighted_sum()))
  pcgrad = flops(ours(model, batch, combinators.pcgrad()))
  # A second pass through the trunk: weight gradients, and one input gradient
  # of the upper layer; then K x K products of the rows.
  more = forward + 2 * 32 * 256 * 256
  assert 0.9 * more < pcgrad - one < 1.3 * more


def dots(lowered):
  """Matrix products in the program; a loop's body counts once in both."""
  return lowered.compile().as_text().count(' dot(')


def test_equal_weights_cost_one_backward_pass_through_an_lstm():
  model, batch = make_case('lstm')
  found = dots(ours(model, batch, combinators.weighted_sum()))
  assert found == dots(plain(model, batch)) > 0
  assert dots(ours(model, batch, combinators.pcgrad())) > found


def test_loss_weights_cost_no_pass_more():
  model, batch = make_case('mlp')
  kinds = ['classification', 'regression']
  ratio = flops(ours(model, batch, combinators.uncertainty(kinds))) / flops(
    ours(model, batch, combinators.weighted_sum())
  )
  assert ratio < 1.01


def test_no_recompilation_from_step_to_step():
  model, batch = make_case('mlp')
  tx = optax.chain(combinators.pcgrad(), optax.adam(1e-3))
  state = step_lib.init_state(model, tx, jax.random.key(0), batch)
  step = jax.jit(step_lib.make_train_step(model, TASKS, tx))
  for _ in range(3):
    state, _ = step(state, batch)
  assert step._cache_size() == 1
