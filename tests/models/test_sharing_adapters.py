"""Adapters of low rank: what they add, and what they leave alone."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sharing_cases as cases
import sweeps

from mtl_jax import combinators, models
from mtl_jax.training import step

close = np.testing.assert_allclose


def run(model, params, model_state, batch, *, train=False, key=None):
  """Outputs of all tasks, and the state after."""
  found, model_state = model.features(
    params, model_state, batch, stream='main', train=train, key=key
  )
  return model.outputs(
    params, model_state, found, batch, tasks=('a', 'b', 'c'), train=train,
    key=key,
  )  # fmt: skip


def merged(params, task, scale):
  """The trunk of a task in float64: ``W + scale A B``, by hand."""
  flat = flax.traverse_util.flatten_dict(params['trunk'])
  own = flax.traverse_util.flatten_dict(params['adapters'][task])
  found = {}
  for path, w in flat.items():
    w = np.asarray(w, np.float64)
    if (*path, 'a') in own:
      a, b = (np.asarray(own[*path, x], np.float64) for x in 'ab')
      w = w + scale * (a @ b).reshape(w.shape)
    found[path] = w
  return flax.traverse_util.unflatten_dict(found)


@pytest.mark.parametrize('trunk', sweeps.some(cases.TRUNKS, 'mlp'))
def test_adapters_are_added_to_kernels(trunk):
  model = cases.make_model('lora', trunk, rank=2, alpha=3.0)
  hard, batch = cases.make_model('hard', trunk), cases.make_batch(trunk)

  @jax.jit
  def find(key):
    params, model_state = model.init(key, {'main': batch})
    moved = cases.started(params)
    outputs = [run(model, p, model_state, batch)[0] for p in (params, moved)]
    return params, moved, outputs

  params, moved, (first, found) = jax.device_get(find(jax.random.key(0)))
  # At first all tasks are the trunk's.
  expected = run(hard, params, {}, batch)[0]
  jax.tree.map(lambda x, y: close(x, y, rtol=1e-5, atol=1e-6), first, expected)
  for task in 'abc':
    adapted = flax.traverse_util.flatten_dict(moved['adapters'][task])
    assert {path[-2] for path in adapted} <= {
      'kernel', 'input_kernel', 'recurrent_kernel'
    }  # fmt: skip
    tree = merged(moved, task, 1.5)
    alone = {**params, 'trunk': jax.tree.map(jnp.float32, tree)}
    z = run(hard, {**alone, 'heads': moved['heads']}, {}, batch)[0][task]
    close(found[task], z, rtol=2e-5, atol=2e-5)
    assert np.abs(z - expected[task]).max() > 1e-2


def test_a_perceptron_by_hand():
  heads = {'a': models.LinearHead(1)}
  model = models.build_model(
    models.SHARING['lora'](rank=3), models.MLP(widths=(5, 4)), heads
  )
  batch = cases.make_batch('mlp')
  params, _ = model.init(jax.random.key(2), {'main': batch})
  params = cases.started(params)
  found, _ = model.features(
    params, {}, batch, stream='main', train=False, key=None
  )
  z = np.asarray(batch['inputs'], np.float64)
  tree = merged(params, 'a', 4 / 3)
  for layer in ('Dense_0', 'Dense_1'):
    z = np.maximum(z @ tree[layer]['kernel'] + tree[layer]['bias'], 0)
  close(found['a'], z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('rank', sweeps.some([0, 2], 2))
def test_without_change_it_is_hard_sharing(rank):
  """In training too: what dropout draws, statistics, and all gradients."""
  trunk = models.MLP(widths=(6, 6), norm='batch', dropout=0.5)
  tasks = cases.make_tasks()
  heads = {task.name: models.LinearHead(task.size) for task in tasks}
  batch, key = cases.make_batch('mlp'), jax.random.key(3)

  def find(model):
    params, model_state = model.init(key, {'main': batch})

    def total(params):
      outputs, new = run(model, params, model_state, batch, train=True, key=key)
      losses = [t.loss(outputs[t.name], batch).mean() for t in tasks]
      return sum(losses), (outputs, new)

    gradient, (outputs, new) = jax.grad(total, has_aux=True)(params)
    return gradient, outputs, new['batch_stats']

  hard = jax.jit(
    lambda: find(models.build_model(models.hard_sharing(), trunk, heads))
  )()
  lora = models.build_model(models.SHARING['lora'](rank=rank), trunk, heads)
  gradient, outputs, new = jax.jit(lambda: find(lora))()
  adapters = gradient.pop('adapters', {})
  assert bool(adapters) == bool(rank)

  def same(x, y):
    jax.tree.map(lambda x, y: close(x, y, rtol=1e-4, atol=1e-6), x, y)

  same((gradient, outputs), hard[:2])
  of_tasks = new['statistics'] if rank else {'a': new['trunk']}
  assert set(of_tasks) == set('abc' if rank else 'a')
  for found in of_tasks.values():
    same(found, hard[2]['trunk'])


@pytest.mark.parametrize('rank', sweeps.some([0, 2], 2))
def test_a_frozen_trunk_stays(rank):
  model = cases.make_model('lora', 'mlp', rank=rank, frozen=True)
  batch = {'main': cases.make_batch('mlp')}
  tx, adam = combinators.pcgrad(), optax.adam(1e-2)
  train = step.make_train_step(model, cases.make_tasks(), tx, adam)
  start = step.init_state(model, tx, jax.random.key(0), batch, adam)
  before = jax.device_get(start.params)
  after = jax.jit(lambda s: train(train(s, batch)[0], batch)[0].params)(start)
  same = np.testing.assert_array_equal
  jax.tree.map(same, after['trunk'], before['trunk'])
  assert not model.shared('trunk/Dense_0/kernel')
  for name in ('heads', 'adapters') if rank else ('heads',):
    for new, old in zip(
      jax.tree.leaves(after[name]), jax.tree.leaves(before[name]), strict=True
    ):
      assert np.abs(new - old).max() > 0


def test_what_is_adapted_is_chosen_by_name():
  batch = {'main': cases.make_batch('transformer')}
  for pattern, expected in (
    ('attention_(in|out)/kernel$', {'block_0/attention_in/kernel',
                                    'block_0/attention_out/kernel'}),
    ('embedding$', {'embed/embedding', 'positions/embedding'}),
  ):  # fmt: skip
    model = cases.make_model('lora', 'transformer', adapted=pattern)
    params, _ = jax.eval_shape(
      lambda key, m=model: m.init(key, batch), jax.random.key(0)
    )
    flat = flax.traverse_util.flatten_dict(params['adapters']['a'])
    assert {'/'.join(path[:-1]) for path in flat} == expected


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'rank': -1}, 'lora: expected rank to be a whole number of at least 0'),
    ({'alpha': 0.0}, r'lora: expected alpha in \[1e-12, inf\], found 0.0'),
    ({'adapted': 'Conv'}, "found none by 'Conv'; change adapted"),
  ],
)
def test_wrong_options(changes, message):
  with pytest.raises(ValueError, match=message):
    model = cases.make_model('lora', 'mlp', **changes)
    model.init(jax.random.key(0), {'main': cases.make_batch('mlp')})
