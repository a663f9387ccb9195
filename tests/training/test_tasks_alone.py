"""Tasks that no shared parameter changes: each trains as it would alone."""

import engines
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import models, tasks as tasks_lib
from mtl_jax.experiment import methods

RATE = 0.1
OPTIONS = {
  'auto_lambda': {'primary': 'a'},
  'go4align': {'num_groups': 2},
  'trimmed_mean': {'trim': 0},
  'pcd': {'primary': 'a'},
  'metabalance': {'target': 'a'},
}
# These draw by the number of tasks, or are no mean of what is there.
DRAWS = ('rlw', 'rotograd', 'metabalance', 'krum', 'ldc_mtl')
NAMES = sweeps.some(
  methods.METHODS, 'pcgrad', 'uncertainty', 'moco', 'auto_lambda',
)  # fmt: skip


class ProbeHead(nn.Module):
  """A linear head that teaches the trunk nothing."""

  @nn.compact
  def __call__(self, features, batch, *, train):
    del batch, train
    return nn.Dense(1)(stopped(features, jnp.ones(())))


@jax.jit
def stopped(features, scale):
  return jax.lax.stop_gradient(features) * scale


def make(
  names, sharing, method, frozen=lambda path: False, probe='', **changes
):
  """A model, its state, and the step of a method with plain descent."""
  heads = {name: models.LinearHead(1) for name in names}
  if probe:
    heads[probe] = ProbeHead()
  model = models.build_model(sharing, models.MLP(widths=(3,)), heads)
  tasks = tuple(tasks_lib.regression(name) for name in names)
  spec = {'name': method, **OPTIONS.get(method, {})}
  made = methods.make_method(
    spec,
    ['regression'] * len(names),
    model.shared,
    task_names=names,
    virtual_lr=RATE,
  )
  batch = {'main': make_batch()}
  wrapped, sgd = made.wrap(model, tasks), optax.sgd(RATE)
  parts = engines.step_parts(
    model=wrapped, tasks=tasks, tx=sgd, frozen=frozen, **changes
  )
  state = made.init_state(wrapped, jax.random.key(0), batch, sgd)
  return state, jax.jit(made.make_step(parts))


def make_batch():
  rng = np.random.default_rng(0)
  labels = rng.normal(size=(3, 12)).astype(np.float32)
  return {
    'inputs': rng.normal(size=(12, 4)).astype(np.float32),
    **dict(zip('abc', labels, strict=True)),
  }


def descend(trunk, head, label, steps, method, moves=True):
  """Plain descent on one task's squares, by hand."""
  batch = make_batch()
  if method == 'forum':  # It trains on the inner half.
    batch = {key: values[::2] for key, values in batch.items()}

  def loss(parts):
    trunk, head = parts
    z = batch['inputs'] @ trunk['kernel'] + trunk['bias']
    z = jax.nn.relu(z)
    made = z @ head['kernel'] + head['bias']
    return jnp.mean((made[:, 0] - batch[label]) ** 2)

  parts = (trunk, head)
  for _ in range(steps):
    slopes = jax.grad(loss)(parts)
    if not moves:
      slopes = (jax.tree.map(jnp.zeros_like, slopes[0]), slopes[1])
    parts = jax.tree.map(lambda p, g: p - RATE * g, parts, slopes)
  return parts


def own(params, group, task):
  return (
    params['trunks'][f'group_{group}']['Dense_0'],
    params['heads'][task]['Dense_0'],
  )


def close(found, expected):
  assert jax.tree.all(
    jax.tree.map(
      lambda a, b: np.allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )
  ), (found, expected)


@pytest.mark.parametrize('method', NAMES)
def test_beside_a_group(method):
  groups = models.SHARING['groups']
  state, step = make('abc', groups(groups=('ac', 'b')), method)
  other, smaller = make('ac', groups(groups=('ac',)), method)
  start = state.params
  two = {
    'trunks': {'group_0': start['trunks']['group_0']},
    'heads': {task: start['heads'][task] for task in 'ac'},
  }
  other = other._replace(params={**other.params, **two})
  for _ in range(3):
    state, metrics = step(state, {'main': make_batch()})
    if method not in DRAWS:
      other, _ = smaller(other, {'main': make_batch()})
  assert (np.asarray(metrics['losses']) > 0).all()
  if method == 'm_config':  # It contains Adam's scaling.
    _, head = own(start, 1, 'b')
    moved = own(state.params, 1, 'b')[1]['kernel'] - head['kernel']
    assert (np.abs(moved) > 0.5 * RATE).all()
  else:
    expected = descend(*own(start, 1, 'b'), 'b', 3, method)
    close(own(state.params, 1, 'b'), expected)
  if method not in DRAWS:
    for task in 'ac':
      close(own(state.params, 0, task), own(other.params, 0, task))


@pytest.mark.parametrize('method', NAMES)
def test_on_a_frozen_trunk(method):
  state, step = make(
    'abc',
    models.hard_sharing(),
    method,
    frozen=lambda path: path.startswith('trunk'),
  )
  start = state.params
  for _ in range(3):
    state, _ = step(state, {'main': make_batch()})
  trunk = start['trunk']['Dense_0']
  close(state.params['trunk']['Dense_0'], trunk)
  for task in 'abc':
    head = start['heads'][task]['Dense_0']
    moved = state.params['heads'][task]['Dense_0']
    if method == 'm_config':
      assert (np.abs(moved['kernel'] - head['kernel']) > RATE).any()
    else:
      close(moved, descend(trunk, head, task, 3, method, moves=False)[1])


@pytest.mark.parametrize('method', ['mgda', 'pcgrad'])
def test_behind_stop_gradient(method):
  """It is no task with a gradient of zero, on which MGDA puts all weight."""
  hard = models.hard_sharing()
  state, step = make('abc', hard, method, probe='c')
  other, smaller = make('ab', hard, method)
  heads = {task: state.params['heads'][task] for task in 'ab'}
  two = {'trunk': state.params['trunk'], 'heads': heads}
  batch = {'main': make_batch()}
  moved, _ = step(state, batch)
  expected, _ = smaller(other._replace(params=two), batch)
  close(moved.params['trunk'], expected.params['trunk'])
  trunk, head = two['trunk']['Dense_0'], state.params['heads']['c']['Dense_0']
  alone = descend(trunk, head, 'c', 1, method, moves=False)[1]
  close(moved.params['heads']['c']['Dense_0'], alone)


def test_weights_that_are_given_count_for_tasks_alone():
  groups = models.SHARING['groups'](groups=('ac', 'b'))
  OPTIONS['weighted_sum'] = {'weights': {'a': 1.0, 'b': 0.0, 'c': 1.0}}
  try:
    state, step = make('abc', groups, 'weighted_sum')
  finally:
    del OPTIONS['weighted_sum']
  moved, _ = step(state, {'main': make_batch()})
  close(own(moved.params, 1, 'b'), own(state.params, 1, 'b'))


@pytest.mark.parametrize(
  ('weight', 'jacobian'), [(0.0, False), (0.25, False), (0.25, True)]
)
def test_weights_in_front_that_are_given_do_too(monkeypatch, weight, jacobian):
  before = [{'name': 'weighted_sum', 'weights': (1.0, weight, 1.0)}]
  before += [{'name': 'per_task_momentum'}] * jacobian
  monkeypatch.setitem(OPTIONS, 'pcgrad', {'before': before})
  groups = models.SHARING['groups'](groups=('ac', 'b'))
  state, step = make('abc', groups, 'pcgrad')
  moved, _ = step(state, {'main': make_batch()})
  start, plain = (
    own(state.params, 1, 'b'),
    descend(*own(state.params, 1, 'b'), 'b', 1, 'pcgrad'),
  )
  expected = jax.tree.map(lambda s, p: s + weight * (p - s), start, plain)
  close(own(moved.params, 1, 'b'), expected)


@pytest.mark.slow
def test_microbatches_agree():
  groups = models.SHARING['groups'](groups=('ac', 'b'))
  found = []
  for accumulate in (1, 2):
    state, step = make('abc', groups, 'mgda', accumulate=accumulate)
    found.append(step(state, {'main': make_batch()})[0].params)
  close(*found)
