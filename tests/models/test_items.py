"""The table of items, its heads, and what a position may know."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models, tasks as tasks_lib
from mtl_jax.training import engine as engine_lib

V, D, B, T = 12, 8, 3, 6


def batch_of(seed=0):
  """Histories padded on the left, and what comes next at each step."""
  rng = np.random.default_rng(seed)
  items = rng.integers(1, V + 1, (B, T))
  items[1, :2] = 0
  following = np.where(items > 0, rng.integers(1, V + 1, (B, T)), -1)
  return {
    'items': jnp.asarray(items),
    'mask': jnp.asarray(items > 0, jnp.float32),
    'ratings': jnp.asarray(np.where(items > 0, 1 + items % 5, 0)),
    'next_item': jnp.asarray(following),
    'rating': jnp.asarray(np.where(following > 0, 3.0 + items % 3, np.nan)),
    'like': jnp.asarray(np.where(following > 0, items % 2, -1)),
  }


def make(sharing=None, trunk=None, tasks=('item', 'rating', 'like'), **head):
  """A model of the three tasks around a causal transformer."""
  heads = {
    'item': models.NextItemHead(V + 1, **head),
    'rating': models.ItemHead(1, widths=(4,)),
    'like': models.LinearHead(1),
  }
  trunk = trunk or models.Transformer(
    features=D, num_heads=2, hidden=8, causal=True, pool='none', mask='mask'
  )
  return models.build_model(
    sharing or models.hard_sharing(),
    trunk,
    {name: heads[name] for name in tasks},
    inputs=models.ItemTable(V + 1, D, categorical={'ratings': 6}),
  )


def run(model, params, state, batch, train=False, key=None):
  features, _ = model.features(
    params, state, batch, stream='main', train=train, key=key
  )
  return model.outputs(
    params,
    state,
    features,
    batch,
    tasks=('item', 'rating', 'like'),
    train=train,
    key=key,
  )[0]


def test_what_comes_after_a_step_changes_no_bit_of_what_is_said_at_it():
  model = make(positions='all')
  batch = batch_of()
  params, state = model.init(jax.random.key(0), {'main': batch})
  step = jax.jit(lambda batch: run(model, params, state, batch))
  before = step(batch)
  t = 3
  other = dict(batch)
  for key in ('items', 'ratings'):
    other[key] = batch[key].at[:, t:].set(batch[key][:, t:][:, ::-1])
  after = step(other)
  for name, x in before.items():
    np.testing.assert_array_equal(x[:, :t], after[name][:, :t], err_msg=name)
  assert (before['item'][:, t:] != after['item'][:, t:]).any()


@pytest.mark.slow
def test_the_last_position_is_ranked_as_among_all():
  batch = batch_of()
  every, last = make(positions='all'), make()
  params, state = every.init(jax.random.key(0), {'main': batch})
  whole = run(every, params, state, batch)['item']
  label = batch['next_item'].at[:, :-1].set(-1)
  found = run(last, params, state, {**batch, 'next_item': label})['item']
  np.testing.assert_allclose(found[:, -1], whole[:, -1], rtol=1e-5)
  assert not found[:, :-1].any()
  # A label at an earlier step is not scored as if there were none.
  bad = run(last, params, state, batch)['item']
  assert np.isnan(bad[0, 0]).all()


@pytest.mark.slow
def test_more_padding_changes_nothing():
  batch = batch_of()
  model = make(positions='all')
  params, state = model.init(jax.random.key(0), {'main': batch})
  wide = {
    key: jnp.pad(x, ((0, 0), (3, 0)), constant_values=0 if key in (
      'items', 'mask', 'ratings') else -1)
    for key, x in batch.items()
  }  # fmt: skip
  narrow, padded = (run(model, params, state, b) for b in (batch, wide))
  real = batch['items'] > 0
  for name, x in narrow.items():
    np.testing.assert_allclose(
      padded[name][:, 3:][real], x[real], rtol=2e-5, atol=2e-5, err_msg=name
    )


def test_frozen_vectors_are_state_and_rows_are_sums(tmp_path):
  vectors = np.random.default_rng(0).normal(size=(V, 3)).astype(np.float32)
  np.save(tmp_path / 'v.npy', vectors)
  both = models.ItemTable(V + 1, D, rows='sum', vectors=str(tmp_path / 'v.npy'))
  variables = both.init(jax.random.key(0), batch_of(), train=False)
  table = both.apply(variables, method='table')
  params = variables['params']
  linear = params['project']['project']
  expected = params['embed']['embedding'][1:] + (
    vectors @ linear['kernel'] + linear['bias']
  )
  np.testing.assert_allclose(table[1:], expected, rtol=1e-5)
  deep = both.clone(widths=(4,))
  shapes = jax.eval_shape(
    lambda: deep.init(jax.random.key(0), batch_of(), train=False)
  )['params']['project']
  assert shapes['hidden_0']['kernel'].shape == (3, 4)
  assert shapes['project']['kernel'].shape == (4, D)
  assert variables['constants']['vectors'].shape == (V + 1, 3)
  with pytest.raises(ValueError, match='expected vectors of 9 items'):
    models.ItemTable(
      10, D, rows='vectors', vectors=str(tmp_path / 'v.npy')
    ).init(jax.random.key(0), batch_of(), train=False)


@pytest.mark.parametrize('rows', ['ids', 'vectors'])
def test_an_id_without_a_row_is_nan(rows, tmp_path):
  np.save(tmp_path / 'v.npy', np.ones((V, 3), np.float32))
  file = str(tmp_path / 'v.npy') if rows == 'vectors' else ''
  table = models.ItemTable(V + 1, D, rows=rows, vectors=file)
  batch = {'items': jnp.array([[V + 1, 1]])}
  variables = table.init(jax.random.key(0), batch, train=False)
  x = table.apply(variables, batch, train=False)
  assert np.isnan(x[0, 0]).all() and not np.isnan(x[0, 1]).any()


def item_tasks(names, sign=1.0):
  loss = tasks_lib.next_item('next_item', V + 1).loss
  return [
    tasks_lib.next_item(name, V + 1, label='next_item')
    if n == 0
    else tasks_lib.Task(
      name=name,
      size=V + 1,
      loss=lambda o, b: sign * loss(o, b),
      mask=lambda b: b['next_item'] >= 0,
    )
    for n, name in enumerate(names)
  ]


def make_twice(negatives):
  """A model of two tasks that are one, which read rows of a table."""
  head = models.NextItemHead(V + 1, negatives=negatives, sampling='uniform')
  return models.build_model(
    models.hard_sharing(),
    models.Transformer(
      features=D, num_heads=1, hidden=8, causal=True, pool='none', mask='mask'
    ),
    {'a': head, 'b': head},
    inputs=models.ItemTable(V + 1, D),
  )


@pytest.mark.slow
@pytest.mark.parametrize('negatives', [0, 1])
def test_one_task_twice_agrees_wholly_and_its_opposite_not_at_all(negatives):
  batch = {'main': batch_of()}
  model = make_twice(negatives)
  params, state = model.init(jax.random.key(0), batch)
  for sign in (1.0, -1.0):
    engine = engine_lib.Engine(model, item_tasks(('a', 'b'), sign))
    at_rows, rows = engine.at_rows(params, batch)
    # The whole softmax reads the whole table.
    read = params if rows is None else rows.take(params)
    gradients, _ = at_rows(read, state, batch, key=jax.random.key(1))
    assert (rows is None) == (negatives == 0)
    g = np.asarray(gradients.gramian(), np.float64)
    cosine = g[0, 1] / np.sqrt(g[0, 0] * g[1, 1])
    np.testing.assert_allclose(cosine, sign, rtol=1e-5)


@pytest.mark.slow
def test_all_items_as_negatives_are_the_whole_softmax():
  batch = batch_of()
  full = make(tasks=('item',))
  every = make(tasks=('item',), negatives=V)
  params, state = full.init(jax.random.key(0), {'main': batch})
  tasks = [tasks_lib.next_item('item', V + 1, label='next_item')]
  found, expected = (
    engine_lib.Engine(model, tasks)(params, state, {'main': batch})[0]
    for model in (every, full)
  )
  np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5)
  pairs = (x.combine(jnp.ones(1)) for x in (found, expected))
  for x, y in zip(*map(jax.tree.leaves, pairs), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.slow
def test_rows_of_a_large_table_give_what_the_table_gives():
  size = 500  # more than a batch reads
  batch = batch_of()
  batch = {'main': {**batch, 'step': jnp.full(B, 3)}}
  head = models.NextItemHead(size, negatives=2, sampling='uniform')
  model = models.build_model(
    models.hard_sharing(),
    models.Transformer(
      features=D, num_heads=1, hidden=8, causal=True, pool='none', mask='mask'
    ),
    {'item': head, 'rating': models.ItemHead(1, widths=(4,))},
    inputs=models.ItemTable(size, D),
  )
  params, state = model.init(jax.random.key(0), batch)
  tasks = [
    tasks_lib.next_item('item', size, label='next_item'),
    tasks_lib.regression('rating', per_step=True),
  ]
  dense = engine_lib.Engine(model._replace(tables=None), tasks)
  engine, rows = engine_lib.Engine(model, tasks).at_rows(params, batch)
  narrow = rows.take(params)
  assert narrow['inputs']['embed']['embedding'].shape[0] < size
  key = jax.random.key(1)
  found, _ = engine(narrow, state, batch, key=key)
  expected, _ = dense(params, state, batch, key=key)
  np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5)
  np.testing.assert_allclose(found.gramian(), expected.gramian(), rtol=1e-5)
  direction = rows.spread(found.combine(jnp.ones(2)), params)
  whole = expected.combine(jnp.ones(2))
  for x, y in zip(*map(jax.tree.leaves, (direction, whole)), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
  # Other items are drawn in another step, and the same ones in parts.
  drawn = head.draw(batch['main'])
  assert (drawn != head.draw({**batch['main'], 'step': jnp.full(B, 4)})).any()
  part = {key: x[1:] for key, x in batch['main'].items()}
  np.testing.assert_array_equal(head.draw(part), drawn[2:])


def test_a_whole_softmax_reads_the_whole_table():
  assert make().tables is None
  assert list(make_twice(1).tables) == ['inputs/embed/embedding']


def test_gradients_of_the_shared_table_are_those_of_inputs_and_head_together():
  batch = batch_of()
  model = make()
  params, state = model.init(jax.random.key(0), {'main': batch})
  tasks = [tasks_lib.next_item('item', V + 1, label='next_item')]
  gradients, _ = engine_lib.Engine(model, tasks)(params, state, {'main': batch})
  found = gradients.combine(jnp.ones(1))['inputs']['embed']['embedding']

  def loss(table):
    tree = {**params, 'inputs': {**params['inputs'], 'embed': {
      'embedding': table}}}  # fmt: skip
    features, _ = model.features(
      tree, state, batch, stream='main', train=True, key=None
    )
    rows = table[1:]
    scores = features @ rows.T
    target = jnp.maximum(batch['next_item'], 1) - 1
    own = jnp.take_along_axis(scores, target[..., None], -1)[..., 0]
    each = jax.nn.logsumexp(scores, -1) - own
    known = batch['next_item'] > 0
    return jnp.where(known, each, 0).sum() / known.sum()

  expected = jax.grad(loss)(params['inputs']['embed']['embedding'])
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
  ('make_module', 'message'),
  [
    (lambda: models.NextItemHead(9, temperature=0.0), 'temperature > 0'),
    (lambda: models.NextItemHead(9, sampling='often'), "'popularity'"),
    (lambda: models.ItemTable(9, rows='sum'), 'file of vectors'),
    (lambda: models.ItemTable(9, categorical={'gaps': 0}), 'how many codes'),
    (lambda: models.ItemHead(1, mix='sum'), "'product'"),
  ],
)
def test_options_out_of_range_are_one_sentence(make_module, message):
  with pytest.raises(ValueError, match=message):
    make_module()


def test_a_head_over_items_needs_a_table_and_features_of_every_step():
  batch = {'main': batch_of()}
  heads = {'item': models.NextItemHead(V + 1)}
  trunk = models.Transformer(
    features=D, num_heads=1, hidden=8, vocab_size=V + 1, inputs='items',
    pool='none',
  )  # fmt: skip
  model = models.build_model(models.hard_sharing(), trunk, heads)
  with pytest.raises(ValueError, match='Expected a table of items'):
    model.init(jax.random.key(0), batch)
  trunk = models.Transformer(features=D, num_heads=1, hidden=8, mask='mask')
  model = models.build_model(
    models.hard_sharing(), trunk, heads, inputs=models.ItemTable(V + 1, D)
  )
  with pytest.raises(ValueError, match="pool of the trunk to 'none'"):
    model.init(jax.random.key(0), batch)
