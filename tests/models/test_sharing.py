"""What holds for every sharing architecture, around every kind of trunk."""

import functools

import engines
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sharing_cases as cases
import sweeps

from mtl_jax import combinators, models
from mtl_jax.training import parallel, step

WEIGHTS = (0.5, 2.0, 1.5)
close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6)


def losses_of(model, params, model_state, batch, key):
  """Mean losses ``[K]`` by the functions of the model alone."""
  features, _ = model.features(
    params, model_state, batch, stream='main', train=True, key=key
  )
  found = []
  for task in cases.make_tasks():
    outputs, _ = model.outputs(
      params, model_state, features, batch, tasks=(task.name,), train=True,
      key=key,
    )  # fmt: skip
    found.append(task.loss(outputs[task.name], batch).mean())
  return jnp.stack(found)


SGD = optax.sgd(1e-2)


def start_of(tx, params, model_state, key):
  """The state before the first step, without the model's own start."""
  return step.TrainState(
    jnp.zeros((), jnp.int32),
    params,
    model_state,
    {'method': tx.init(params), 'optimizer': SGD.init(params)},
    key,
  )


def ran(name, trunk):
  """All that the tests need, of one program."""
  model, tasks = cases.make_model(name, trunk), cases.make_tasks()
  batch = cases.make_batch(trunk)
  tx = combinators.pcgrad()

  @jax.jit
  def run(params, model_state, key):
    singles = jax.jacrev(functools.partial(losses_of, model))(
      params, model_state, batch, key
    )
    of_tasks, _ = engines.model_gradients(
      model, tasks, params, model_state, {'main': batch}, key=key
    )
    jacobian = of_tasks.jacobian()
    combined = of_tasks.copy().combine(jnp.array(WEIGHTS))
    new, metrics = step.make_train_step(model, tasks, tx, SGD)(
      start_of(tx, params, model_state, key), {'main': batch}
    )
    return params, singles, jacobian, combined, (new.params, metrics)

  key = jax.random.key(0)
  params, model_state = cases.drawn(model, batch)
  return model, jax.device_get(run(params, model_state, key))


@pytest.fixture(scope='module', params=cases.CASES)
def case(request):
  """What came of a case, whose tests run in a row."""
  return ran(*request.param)


def by_path(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def test_shared_is_what_more_than_one_task_reaches(case):
  model, (_, singles, jacobian, _, _) = case
  rows = by_path(jacobian)
  for path, grads in by_path(singles).items():
    reached = sum(bool(np.abs(row).max() > 0) for row in grads)
    assert reached >= 1, path
    assert model.shared(path) == (reached > 1), path
    assert (path in rows) == model.shared(path), path
    if model.shared(path):
      close(rows[path], grads, err_msg=path)


def test_private_parameters_get_the_gradient_of_their_own_task(case):
  model, (_, singles, _, combined, _) = case
  found = by_path(combined)
  for path, grads in by_path(singles).items():
    if model.shared(path):
      close(found[path], np.tensordot(WEIGHTS, grads, 1), err_msg=path)
    else:
      (own,) = [row for row in grads if np.abs(row).max() > 0]
      close(found[path], own, err_msg=path)


def check_step(params, new, metrics):
  """It is finite, and moves every parameter."""
  assert np.isfinite(metrics['losses']).all()
  for path, leaf in by_path(new).items():
    assert np.isfinite(leaf).all(), path
    assert np.abs(leaf - by_path(params)[path]).max() > 0, path


def test_a_step_is_finite_and_moves_every_parameter(case):
  _, (params, _, _, _, after) = case
  check_step(params, *after)


@pytest.mark.slow
@pytest.mark.parametrize('trunk', sorted({t for _, t in cases.PAIRS}))
def test_every_pair_has_outputs(trunk):
  batch, tasks = cases.make_batch(trunk), cases.make_tasks()

  def outputs(model):
    params, state = model.init(jax.random.key(0), {'main': batch})
    features, _ = model.features(
      params, state, batch, stream='main', train=True, key=jax.random.key(1)
    )
    names = tuple(task.name for task in tasks)
    return model.outputs(
      params, state, features, batch, tasks=names, train=True,
      key=jax.random.key(2),
    )[0]  # fmt: skip

  for name, other in cases.PAIRS:
    if other == trunk:
      model = cases.make_model(name, trunk)
      shapes = jax.eval_shape(lambda model=model: outputs(model))
      for task in tasks:
        assert shapes[task.name].shape == (cases.B, task.size), (name, task)


@pytest.mark.parametrize('name', sorted({n for n, _ in cases.UNFIT}))
def test_one_that_scales_inputs_refuses_a_trunk_of_several(name):
  model = cases.make_model(name, 'fusion')
  batch = {'main': cases.make_batch('fusion')}
  with pytest.raises(ValueError, match='a trunk that reads one array'):
    jax.eval_shape(lambda: model.init(jax.random.key(0), batch))


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, trunk', [c.values[0] for c in cases.CASES if c.values[0][1] == 'mlp']
)
def test_a_step_of_a_weighted_sum(name, trunk):
  model, batch = cases.make_model(name, trunk), cases.make_batch(trunk)
  tx = combinators.weighted_sum(WEIGHTS)
  train = jax.jit(step.make_train_step(model, cases.make_tasks(), tx, SGD))
  params, model_state = cases.drawn(model, batch)
  new, metrics = train(
    start_of(tx, params, model_state, jax.random.key(0)), {'main': batch}
  )
  check_step(params, new.params, metrics)


def small(*every_day):
  """All architectures around an MLP, of which these run every day."""
  entries = [(name, name, {}) for name in cases.ARCHITECTURES]
  entries.append(('branching hard', 'branching', {'draws': 'hard'}))
  return pytest.mark.parametrize(
    'name, changes',
    [
      pytest.param(name, changes, id=i, marks=sweeps.marks(i in every_day))
      for i, name, changes in entries
    ],
  )


# Draws, and adapters of kernels; the penalty of DSelect-k has experts in every
# mode, and tests of norms have those of the batch.
@small('lora')
def test_modes_agree(name, changes):
  def run(mode, devices):
    tasks = cases.make_tasks()
    tx = combinators.pcgrad()
    mesh = parallel.make_mesh(jax.devices()[:devices])
    train = parallel.parallelize(
      lambda axis: step.make_train_step(
        cases.make_model(name, 'mlp', axis, **changes),
        tasks,
        tx,
        SGD,
        axis_name=axis,
      ),
      mesh,
      mode,
    )
    arrays = cases.make_batch('mlp', size=8)
    model = cases.make_model(name, 'mlp', **changes)

    def start(key):
      params, model_state = cases.drawn(model, arrays)
      # Devices draw from keys of their own.
      return start_of(tx, cases.certain(params), model_state, key)

    init = parallel.replicate(start, mesh)
    new, metrics = train(
      init(jax.random.key(0)), parallel.shard_batch({'main': arrays}, mesh)
    )
    return jax.device_get((new.params, metrics['losses']))

  expected = run('jit', 1)
  for mode in ('shard_map', 'pmap'):
    jax.tree.map(close, run(mode, 2), expected)


@small('mmoe')
def test_members_of_a_population_are_runs(name, changes):
  model = cases.make_model(name, 'mlp', **changes)
  tasks = cases.make_tasks()
  tx, batch = combinators.pcgrad(), cases.make_batch('mlp')
  train = step.make_train_step(model, tasks, tx, SGD)

  def run(member):
    return train(start_of(tx, *member), {'main': batch})[0].params

  keys = jax.random.split(jax.random.key(0), 2)
  members = [
    (*cases.drawn(model, batch, seed), key) for seed, key in enumerate(keys)
  ]
  together = jax.tree.map(lambda *x: jnp.stack(x), *members)
  together, alone = jax.jit(lambda all, one: (jax.vmap(run)(all), run(one)))(
    together, members[1]
  )
  jax.tree.map(lambda x, y: close(x[1], y), together, alone)


MANY = ('omoe', 'mmoe', 'cgc', 'ple', 'dselect_k', 'stem', 'home', 'snr')
MANY += ('branching',)


@pytest.mark.parametrize('name', sweeps.some(MANY, 'mmoe', 'ple'))
@pytest.mark.parametrize('trunk', sweeps.some(cases.CROSSED, 'mlp'))
def test_the_program_does_not_grow_with_the_experts(name, trunk):
  batch = {'main': cases.make_batch(trunk)}
  plain = name in ('omoe', 'mmoe', 'dselect_k', 'snr', 'branching')
  option = 'experts' if plain else 'shared_experts'

  def lines(number):
    model = cases.make_model(name, trunk, **{option: number})
    tx = combinators.pcgrad()
    train = step.make_train_step(model, cases.make_tasks(), tx, SGD)
    start = jax.eval_shape(
      lambda key: step.init_state(model, tx, key, batch, SGD), jax.random.key(0)
    )
    text = jax.jit(train).lower(start, batch).as_text()
    return text.count('dot_general'), len(text.splitlines())

  # The codes of experts have log2 E digits: as many for these two numbers.
  few, many = (40, 63) if name == 'dselect_k' else (8, 64)
  assert lines(few) == lines(many)


@pytest.mark.slow
def test_penalty_is_added_in_every_mode_and_by_accumulation():
  """Its gradient is that of its own function, whatever the method weighs."""
  batch = {'main': cases.make_batch('mlp', size=8)}
  tasks, rate = cases.make_tasks(), 1e-2

  def run(entropy, mode='jit', devices=1, accumulate=1):
    tx = combinators.weighted_sum((0.0, 0.0, 0.0))
    mesh = parallel.make_mesh(jax.devices()[:devices])

    def make(axis):
      model = cases.make_model('dselect_k', 'mlp', axis, entropy=entropy)
      return step.make_train_step(
        model, tasks, tx, SGD, axis_name=axis, accumulate=accumulate
      )

    model = cases.make_model('dselect_k', 'mlp', entropy=entropy)
    init = parallel.replicate(
      lambda key: step.init_state(model, tx, key, batch, SGD), mesh
    )
    start = init(jax.random.key(0))
    params = jax.device_get(start.params)
    new, _ = parallel.parallelize(make, mesh, mode)(
      start, parallel.shard_batch(batch, mesh)
    )
    moved = jax.tree.map(
      lambda new, old: (old - new) / rate, jax.device_get(new.params), params
    )
    return model, params, moved

  model, params, with_it = run(1.0)
  _, _, without = run(0.0)
  expected = jax.jit(
    jax.grad(lambda p: model.penalty(p, {}, batch, train=True, key=None))
  )(params)
  assert max(np.abs(x).max() for x in jax.tree.leaves(expected['gates'])) > 0
  assert not any(np.any(x) for x in jax.tree.leaves(expected['experts']))
  loose = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-4)
  jax.tree.map(lambda x, y, z: loose(x - y, z), with_it, without, expected)
  for options in (
    {'mode': 'jit', 'accumulate': 2},
    {'mode': 'shard_map', 'devices': 2},
    {'mode': 'pmap', 'devices': 2},
  ):
    jax.tree.map(loose, run(1.0, **options)[2], with_it)


def test_a_chain_that_loses_the_penalty():
  model = cases.make_model('dselect_k', 'mlp')
  tx = optax.chain(combinators.pcgrad(), optax.sgd(0.1))
  with pytest.raises(ValueError, match='an optimizer beside the method for a'):
    step.make_train_step(model, cases.make_tasks(), tx)


def test_the_table_names_every_case():
  assert {name for name, _, _ in cases.ARCHITECTURES.values()} == set(
    models.SHARING
  )
  # Each compiled around the MLP or images, and around another trunk.
  compiled = [c.values[0] for c in cases.CASES]
  assert {(name, 'mlp') for name in models.SHARING} <= set(compiled)
  assert {trunk for _, trunk in compiled} >= set(cases.TRUNKS)
