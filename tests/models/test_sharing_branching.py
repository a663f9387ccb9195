"""Learned branching against float64 NumPy, and its closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from sharing_by_hand import (
  HEADS,
  TASKS,
  close,
  doubles,
  expert_of,
  features_of,
  started,
)
import sharing_cases as cases
import sweeps

from mtl_jax import models
from mtl_jax.models.sharing import concrete


def chosen(params, parents, leaves):
  """Parameters under which the likeliest tree is this one."""

  def certain(index, like):
    return jnp.where(jnp.arange(like.shape[-1]) == index, 9.0, like)

  logits = params['connections_1']['logits']
  rows = [certain(i, row) for i, row in zip(parents, logits, strict=True)]
  connections = {
    task: {'logits': certain(i, params['connections'][task]['logits'])}
    for task, i in leaves.items()
  }
  return {
    **params,
    'connections_1': {'logits': jnp.stack(rows)},
    'connections': connections,
  }


def test_evaluation_reads_the_likeliest_tree():
  model, params, state, batch = started(
    'branching', models.MLP(widths=(4,)), experts=3, level_widths=(5,)
  )
  parents, leaves = (2, 0, 2), {'a': 0, 'b': 1, 'c': 0}
  params = chosen(params, parents, leaves)
  found = features_of(model, params, state, batch)
  with_key = features_of(model, params, state, batch, key=jax.random.key(3))
  jax.tree.map(np.testing.assert_array_equal, found, with_key)
  p, x = doubles(params), np.asarray(batch['inputs'], np.float64)
  for task, leaf in leaves.items():
    below = expert_of(p['experts_0'], parents[leaf])(x)
    close(found[task], expert_of(p['experts_1'], leaf)(below))


def test_connections_have_a_gradient_where_nothing_is_drawn():
  """That of the softmax, at its temperature."""
  model, params, state, batch = started(
    'branching', models.MLP(widths=(4,)), levels=1, experts=3, temperature=0.7
  )
  p, x = doubles(params), np.asarray(batch['inputs'], np.float64)
  outputs = np.stack([expert_of(p['experts_0'], e)(x) for e in range(3)])
  found = jax.grad(lambda q: features_of(model, q, state, batch)['a'].sum())(
    params
  )
  weights = scipy.special.softmax(p['connections']['a']['logits'] / 0.7)
  sums = outputs.sum((1, 2))
  expected = weights * (sums - weights @ sums) / 0.7
  close(found['connections']['a']['logits'], expected)


@pytest.mark.parametrize('trunk', sweeps.some(['mlp', 'transformer'], 'mlp'))
def test_one_expert_is_hard_sharing(trunk):
  batch, module = cases.make_batch(trunk), cases.TRUNKS[trunk]()
  model = models.build_model(
    models.SHARING['branching'](levels=1, experts=1), module, HEADS
  )
  params, state = model.init(jax.random.key(0), {'main': batch})
  options = {'train': True, 'key': jax.random.key(2)}
  found = features_of(model, params, state, batch, **options)
  own = jax.tree.map(lambda x: x[0], params['experts_0'])
  alone = {**own, **params.get('embeddings', {})}
  for task in TASKS:
    close(found[task], module.apply({'params': alone}, batch, train=False))


def test_a_task_trains_its_own_branch_only():
  """From its leaf down; connections get the gradient of the soft choice."""
  model, params, state, batch = started(
    'branching', models.MLP(widths=(4,), activation='gelu'), experts=3,
    level_widths=(5,),
  )  # fmt: skip
  params = chosen(params, (2, 0, 2), {'a': 0, 'b': 1, 'c': 2})

  def gradient(task):
    def loss(p):
      found = features_of(
        model, p, state, batch, train=True, key=jax.random.key(5)
      )
      return (found[task] ** 2).sum()

    return jax.device_get(jax.grad(loss)(params))

  # At these logits this draw takes the likeliest parents.
  for task, leaf, root in (('a', 0, 2), ('b', 1, 0), ('c', 2, 2)):
    found = gradient(task)
    for level, expert in ((0, root), (1, leaf)):
      for kernel in jax.tree.leaves(found[f'experts_{level}']):
        moved = [bool(np.abs(own).max() > 0) for own in kernel]
        assert moved == [e == expert for e in range(3)]
    rows = found['connections_1']['logits']
    moved = [bool(np.abs(row).max() > 0) for row in rows]
    assert moved == [e == leaf for e in range(3)]
    for other in TASKS:
      own = found['connections'][other]['logits']
      assert bool(np.abs(own).max() > 0) == (other == task)


def test_trees_are_drawn_by_their_probabilities():
  """In the features of single batches, by a chi-squared test."""
  model, params, state, batch = started(
    'branching', models.MLP(widths=(4,)), levels=1, experts=3
  )
  x = np.asarray(batch['inputs'], np.float64)
  outputs = [expert_of(doubles(params)['experts_0'], e)(x) for e in range(3)]

  @jax.jit
  @jax.vmap
  def drawn(key):
    return features_of(model, params, state, batch, train=True, key=key)

  n = 3000
  found = drawn(jax.random.split(jax.random.key(0), n))
  for task in TASKS:
    distance = [np.abs(found[task] - o).max((1, 2)) for o in outputs]
    nearest = np.argmin(distance, 0)
    assert np.min(distance, 0).max() < 1e-5  # one expert, and nothing else
    logits = np.asarray(params['connections'][task]['logits'], np.float64)
    expected = n * scipy.special.softmax(logits)
    observed = np.bincount(nearest, minlength=3)
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_one_of_is_a_choice_with_the_gradient_of_a_softmax():
  scores = np.random.default_rng(0).normal(size=(5, 4))
  weights = np.arange(20.0).reshape(5, 4)
  temperature = 0.7
  soft = scipy.special.softmax(scores / temperature, -1)
  close(concrete.one_of(jnp.array(scores), temperature, soft=True), soft)
  value, gradient = jax.value_and_grad(
    lambda s: (weights * concrete.one_of(s, temperature)).sum()
  )(jnp.array(scores))
  close(value, weights[np.arange(5), scores.argmax(-1)].sum())
  mean = (soft * weights).sum(-1, keepdims=True)
  close(gradient, soft * (weights - mean) / temperature)
  hard = concrete.one_of(jnp.array(scores))
  assert set(np.asarray(hard).ravel().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
  'options, message',
  [
    ({'draws': 'Hard'}, "draws to be one of 'hard', 'soft', found 'Hard'"),
    ({'temperature': 0}, 'expected temperature in'),
    ({'experts': 0}, 'expected experts to be a whole number of at least 1'),
    ({'levels': 1.5}, 'expected levels to be a whole number'),
    ({'embeddings': 'one'}, "embeddings to be one of 'shared', 'own'"),
    ({'expert_norm': 'group'}, 'expert_norm to be one of'),
  ],
)
def test_bad_options(options, message):
  with pytest.raises(ValueError, match=f'branching: .*{message}'):
    models.build_model(
      models.SHARING['branching'](**options), models.MLP(widths=(4,)), HEADS
    )
