"""Members of a program against the same runs alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators
from mtl_jax.training import programs, step

STEPS, LENGTH, B = 50, 8, 16
SEEDS = (3, 4, 5, 6)
RATES = (1e-2, 3e-3, 1e-2, 1e200)  # the last one diverges


def make_parts(toy, rate):
  """A model with dropout, and a chain whose rate may be traced."""
  plain = toy.model()

  def features(params, model_state, batch, *, stream, train, key):
    z, model_state = plain.features(
      params, model_state, batch, stream=stream, train=train, key=key
    )
    kept = jax.random.bernoulli(key, 0.8, z.shape)
    return jnp.where(kept, z / 0.8, 0), model_state

  tx = optax.chain(
    combinators.every_k(combinators.pcgrad(), 3, num_tasks=3),
    optax.adam(rate),
  )
  return plain._replace(features=features), toy.tasks(), tx


def make_data(toy):
  batches = [toy.batch(i, B, np.float64) for i in range(6)]
  return {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}


def order(seed):
  """Rows of every step, ``[STEPS, B]``: its own for each member."""
  rng = np.random.default_rng(seed)
  return np.stack([rng.permutation(6 * B)[:B] for _ in range(STEPS)])


def run_alone(toy, arrays, seed, rate):
  model, tasks, tx = make_parts(toy, rate)
  current = step.init_state(model, tx, jax.random.key(seed), None)
  train = jax.jit(step.make_train_step(model, tasks, tx))
  losses = []
  for rows in order(seed):
    batch = {k: v[rows] for k, v in arrays.items()}
    batch['example_mask'] = np.ones(B)
    current, metrics = train(current, {'main': batch})
    losses.append(metrics['losses'])
  return jax.device_get((current.params, np.stack(losses)))


def parts(members, feed):
  """First arguments of `make_advance`'s function."""
  return members.state, (members.hyper, members.active, feed)


def run_members(toy, arrays, way, length=LENGTH, on_device=True):
  mesh = programs.make_mesh()

  def make_step(hyper):
    return step.make_train_step(*make_parts(toy, hyper['rate']))

  def init(seed, rate):
    model, _, tx = make_parts(toy, rate)
    made = step.init_state(model, tx, jax.random.key(seed), None)
    return made._replace(step=None)

  hyper = {'rate': jnp.array(RATES)}
  members = programs.Members(
    jax.vmap(init)(jnp.array(SEEDS), hyper['rate']),
    hyper,
    jnp.ones(len(SEEDS), bool),
  )
  spread = functools.partial(programs.spread, way=way, mesh=mesh)
  advance = jax.jit(
    spread(programs.make_advance(make_step, length, batched=way == 'vmap'))
  )
  orders = np.stack([order(seed) for seed in SEEDS])
  data = {'main': {k: jnp.asarray(v) for k, v in arrays.items()}}
  losses = []
  for start in range(0, STEPS, length):
    number = min(length, STEPS - start)
    rows = np.zeros((len(SEEDS), length, B), int)
    rows[:, :number] = orders[:, start : start + number]
    feed = programs.Feed({'main': rows}, {'main': np.ones(rows.shape[:2])})
    shared = (start, number, data)
    if not on_device:
      feed = feed._replace(
        rows={'main': {k: v[rows] for k, v in arrays.items()}}
      )
      shared = (start, number, None)
    new, metrics = advance(*parts(members, feed), shared)
    members = members._replace(state=new)
    losses.append(metrics['losses'][:, :number])
  return jax.device_get((members.state.params, np.concatenate(losses, 1)))


@pytest.fixture(scope='module')
def alone(toy):
  with jax.enable_x64(True):
    arrays = make_data(toy)
    return [
      run_alone(toy, arrays, *member)
      for member in zip(SEEDS, RATES, strict=True)
    ]


@pytest.mark.parametrize(
  ('way', 'length', 'on_device'),
  [
    pytest.param('vmap', LENGTH, True, marks=pytest.mark.smoke),
    pytest.param('map', LENGTH, True, marks=pytest.mark.slow),
    pytest.param(
      'devices', LENGTH, True, marks=[pytest.mark.smoke, pytest.mark.slow]
    ),
    pytest.param('vmap', 1, True, marks=pytest.mark.slow),
    pytest.param('vmap', LENGTH, False, marks=pytest.mark.slow),
  ],
)
def test_a_member_equals_the_run_alone(toy, alone, way, length, on_device):
  """Own order, dropout, numbers, with a neighbour that diverges."""
  with jax.enable_x64(True):
    params, losses = run_members(toy, make_data(toy), way, length, on_device)
  assert not np.isfinite(losses[-1]).all()
  for i, (expected, expected_losses) in enumerate(alone[:-1]):
    np.testing.assert_allclose(
      losses[i], expected_losses, rtol=1e-10, atol=1e-10
    )
    jax.tree.map(
      lambda x, y, i=i: np.testing.assert_allclose(
        x[i], y, rtol=1e-10, atol=1e-10
      ),
      params,
      expected,
    )


def make_sum(hyper):
  """A step that adds the sum of the batch, times a number of the member."""

  def train(current, batch):
    value = current.params + hyper['by'] * batch['main']['x'].sum()
    return current._replace(step=current.step + 1, params=value), {
      'losses': value
    }

  return train


@pytest.mark.parametrize('length', [4, 1])
def test_who_is_not_active_keeps_its_state(length):
  members = programs.Members(
    step.TrainState(None, jnp.zeros(3), {}, (), jnp.zeros(3)),
    {'by': jnp.array([1.0, 2.0, 3.0])},
    jnp.array([True, False, True]),
  )
  feed = programs.Feed(
    {'main': jnp.zeros((3, length, 2), int)}, {'main': jnp.ones((3, length))}
  )
  data = {'main': {'x': jnp.ones(5)}}
  steps = min(3, length)
  for way, batched in (('vmap', True), ('vmap', False), ('map', False)):
    advance = programs.make_advance(make_sum, length, batched=batched)
    new, metrics = programs.spread(advance, way)(
      *parts(members, feed), (0, steps, data)
    )
    np.testing.assert_array_equal(new.params, steps * np.array([2.0, 0.0, 6.0]))
    assert metrics['losses'].shape == (3, length)
    np.testing.assert_array_equal(metrics['losses'][1], 0)


@pytest.mark.slow
def test_every_kth_step_only_is_not_computed_in_the_others(toy):
  """The number of the step has no axis, so a branch stays a branch."""

  def make_step(hyper):
    del hyper
    return step.make_train_step(*make_parts(toy, 1e-2))

  def init(seed):
    model, _, tx = make_parts(toy, 1e-2)
    made = step.init_state(model, tx, jax.random.key(seed), None)
    return made._replace(step=None)

  members = programs.Members(
    jax.vmap(init)(jnp.arange(2)), {}, jnp.ones(2, bool)
  )
  feed = programs.Feed(
    {'main': np.zeros((2, 2, B), int)}, {'main': np.ones((2, 2))}
  )
  data = {'main': toy.batch(0, B, np.float32)}
  advance = programs.make_advance(make_step, 2, batched=True)
  advance = programs.spread(advance, 'vmap')
  text = jax.jit(advance).lower(*parts(members, feed), (0, 2, data)).as_text()
  assert 'stablehlo.case' in text  # a select, if the step had an axis


def test_a_single_step_stands_in_no_loop_and_no_branch():
  """Convolutions in one take seventeen times as long on the CPU."""

  def lowered(length):
    member = programs.Members(
      step.TrainState(None, jnp.zeros(()), {}, (), jnp.zeros(())),
      {'by': jnp.array(1.0)},
      jnp.array(True),
    )
    feed = programs.Feed(
      {'main': jnp.zeros((length, 2), int)}, {'main': jnp.ones(length)}
    )
    data = {'main': {'x': jnp.ones(5)}}
    advance = programs.make_advance(make_sum, length)
    text = jax.jit(advance).lower(*parts(member, feed), (0, 1, data)).as_text()
    return [f'stablehlo.{name}' in text for name in ('while', 'case')]

  assert lowered(1) == [False, False]
  assert lowered(2) == [True, False]


def test_members_share_the_data():
  """Data that no member owns are in the program once, not once per member."""
  members = programs.Members(
    step.TrainState(None, jnp.zeros(3), {}, (), jnp.zeros(3)),
    {'by': jnp.ones(3)},
    jnp.ones(3, bool),
  )
  feed = programs.Feed(
    {'main': jnp.zeros((3, 4, 2), int)}, {'main': jnp.ones((3, 4))}
  )
  data = {'main': {'x': jnp.ones(4321)}}
  advance = programs.make_advance(make_sum, 4, batched=True)
  lowered = jax.jit(programs.spread(advance, 'vmap')).lower(
    *parts(members, feed), (0, 4, data)
  )
  assert '4321x' in lowered.as_text()
  assert '3x4321' not in lowered.as_text()


@pytest.mark.parametrize('way', ['vmap', 'map'])
def test_one_member_is_the_program_itself(way):
  """Not a batch of one: a run alone costs no more than its own program."""
  seen = []

  def f(member, shared):
    seen.append(member.shape)
    return member + shared

  found = programs.spread(f, way)(jnp.ones((1, 3)), 2.0)
  np.testing.assert_array_equal(found, np.full((1, 3), 3.0))
  assert seen == [(3,)]
  text = str(jax.make_jaxpr(programs.spread(f, way))(jnp.ones((1, 3)), 2.0))
  assert 'scan' not in text and 'while' not in text


def test_records_of_every_third_step_are_those_of_every_step():
  """A path is read inside the program, without the steps between."""
  members = programs.Members(
    step.TrainState(None, jnp.zeros(2), {}, (), jnp.zeros(2)),
    {'by': jnp.array([1.0, 2.0])},
    jnp.ones(2, bool),
  )
  feed = programs.Feed(
    {'main': jnp.zeros((2, 12, 2), int)}, {'main': jnp.ones((2, 12))}
  )
  data = {'main': {'x': jnp.ones(5)}}

  def records(every, number):
    advance = programs.make_advance(
      make_sum,
      12,
      lambda hyper: (
        lambda state, metrics: {
          'params': state.params,
          'losses': metrics['losses'] * hyper['by'],
        }
      ),
      every,
    )
    spread = jax.jit(programs.spread(advance, 'vmap'))
    return spread(*parts(members, feed), (0, number, data))

  last, whole = records(1, 9)
  again, some = records(3, 9)
  np.testing.assert_array_equal(last.params, again.params)
  assert some['params'].shape == (2, 4)
  for name in ('params', 'losses'):
    np.testing.assert_array_equal(some[name][:, :3], whole[name][:, 2:9:3])


def test_unknown_way_is_named():
  with pytest.raises(ValueError, match="vmap, map, devices, found 'pmap'"):
    programs.spread(lambda *x: x, 'pmap')
