"""RotoGrad against NumPy, over devices, and with absent tasks."""

import pathlib

import feature_case
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
import sweeps

from mtl_jax.training import parallel
from mtl_jax.training.builders import (
  rotated_heads as rotated_heads_lib,
  rotograd as rotograd_lib,
)

NAMES, WIDTH = feature_case.NAMES, feature_case.WIDTH
REFERENCE = (
  pathlib.Path(__file__).parents[2] / 'data' / 'reference_rotograd.npz'
)
LOWER = np.tril_indices(WIDTH, -1)


def make(**options):
  options = {'num_tasks': 3, 'optimizer': optax.sgd(0.5), **options}
  return rotograd_lib.rotograd(**options)


def turned(state):
  """A state whose rotations are far from the identity."""
  angles = {
    name: jnp.asarray(np.random.default_rng(k).normal(size=len(LOWER[0])))
    for k, name in enumerate(state.params['rotations'])
  }
  return state._replace(params={**state.params, 'rotations': angles})


def skew(angles):
  lower = np.zeros((WIDTH, WIDTH))
  lower[LOWER] = angles
  return lower - lower.T


def slope(angles, inner, reference):
  """Gradient of sum_b ||R v_b - g~_b||^2 with respect to the angles."""
  matrix = scipy.linalg.expm(skew(angles))
  residual = reference @ matrix.T - inner
  by_matrix = 2 * residual.T @ reference
  adjoint = scipy.linalg.expm_frechet(
    skew(angles).T, by_matrix, compute_expm=False
  )
  return adjoint[LOWER] - adjoint.T[LOWER]


class Follower:
  """RotoGrad in NumPy, with plain descent on everything."""

  def __init__(self, params, burn_in, scale, rate=0.1, rotation_rate=0.5):
    self.params = {k: v for k, v in params.items() if k != 'rotations'}
    self.angles = dict(params.get('rotations', {}))
    self.burn_in, self.scale = burn_in, scale
    self.rate, self.rotation_rate = rate, rotation_rate
    self.seen = dict.fromkeys(self.params['heads'], 0)
    self.initial = {}

  def step(self, batch):
    matrices = {n: scipy.linalg.expm(skew(a)) for n, a in self.angles.items()}
    oracle = feature_case.Oracle(self.params, batch, matrices)
    here = [n for n, present in oracle.present.items() if present]
    norms = {n: np.linalg.norm(oracle.outer[n]) for n in here}
    for n in here:
      if self.seen[n] in (0, self.burn_in):
        self.initial[n] = norms[n]
      self.seen[n] += 1
    weights = dict.fromkeys(oracle.names, 0.0)
    ratios = {n: norms[n] / self.initial[n] for n in here}
    common = sum(ratios[n] * norms[n] for n in here) / sum(ratios.values())
    for n in here:
      weights[n] = common / norms[n] if self.scale else 1.0
    for stream in oracle.z:
      self._rotate(
        oracle, [n for n in here if feature_case.STREAMS[n] == stream], norms
      )
    trunk = oracle.trunk(oracle.direction(weights))
    self.params = {
      'trunk': {'w': self.params['trunk']['w'] - self.rate * trunk},
      'heads': {
        n: {k: p - self.rate * oracle.heads[n][k] for k, p in head.items()}
        for n, head in self.params['heads'].items()
      },
    }

  def _rotate(self, oracle, tasks, norms):
    if not tasks or not self.angles:
      return
    length = np.linalg.norm(np.mean([oracle.outer[n] for n in tasks], 0))
    units = [oracle.outer[n] / norms[n] for n in tasks]
    reference = length * np.mean(units, 0)
    for n in tasks:
      self.angles[n] = self.angles[n] - self.rotation_rate * slope(
        self.angles[n], oracle.inner[n], reference
      )


BATCHES = [
  feature_case.make_batch(0),
  feature_case.make_batch(1, absent=('b',)),
  feature_case.make_batch(2, absent=('c',)),
  feature_case.make_batch(3),
]


@pytest.mark.parametrize(
  'options',
  [{}, {'scale': False}, {'rotate': False}],
  ids=['both', 'rotate', 'scale'],
)
def test_steps_are_those_of_numpy(options):
  with jax.enable_x64(True):
    rotates = options.get('rotate', True)
    found = feature_case.run(
      make(burn_in=2, **options),
      BATCHES,
      change=turned if rotates else lambda state: state,
    )
    follower = Follower(found[0][0], 2, options.get('scale', True))
    for batch, (params, _, _) in zip(BATCHES, found[1:], strict=True):
      follower.step(batch)
      own = {k: v for k, v in params.items() if k != 'rotations'}
      feature_case.close(own, follower.params)
      feature_case.close(params.get('rotations', {}), follower.angles)
    assert found[-1][1].seen.tolist() == [4, 3, 3]
    moved = [
      np.abs(found[-1][0]['rotations'][n] - found[0][0]['rotations'][n]).max()
      for n in NAMES
      if rotates
    ]
    # The only task of its stream agrees with itself.
    assert not rotates or (min(moved[:2]) > 1e-3 and moved[2] < 1e-12)


@pytest.mark.parametrize('name', ['RotoGrad', 'RotateOnly'])
def test_steps_are_those_of_the_authors_code(name):
  with jax.enable_x64(True), np.load(REFERENCE) as stored:
    steps = len(stored['x'])
    batches = [
      {'main': {key: stored[key][i] for key in ('x', 'a', 'b')}}
      for i in range(steps)
    ]

    def change(state):
      heads = {
        n: {k: jnp.asarray(stored[f'0/{n}/{k}']) for k in ('u', 'v')}
        for n in ('a', 'b')
      }
      trunk = {'w': jnp.asarray(stored['0/w'])}
      return state._replace(
        params={**state.params, 'trunk': trunk, 'heads': heads}
      )

    found = feature_case.run(
      make(num_tasks=2, burn_in=2, scale=name == 'RotoGrad'),
      batches,
      names=('a', 'b'),
      change=change,
    )
    for i, (params, _, _) in enumerate(found[1:], 1):
      expected = {k: stored[f'{name}/{i}/{k}'] for k in ('w', 'a/u', 'b/v')}
      rotations = {n: stored[f'{name}/{i}/{n}/rotation'] for n in ('a', 'b')}
      own = {
        'w': params['trunk']['w'],
        'a/u': params['heads']['a']['u'],
        'b/v': params['heads']['b']['v'],
      }
      feature_case.close(own, expected)
      angles = params['rotations']
      feature_case.close(
        {n: scipy.linalg.expm(skew(angles[n])) for n in angles},
        rotations,
      )


@pytest.mark.parametrize('largest', [0.0, 1e-3, 3.0, 25.0])
def test_the_rotation_matrix(largest):
  angles = np.random.default_rng(0).normal(size=len(LOWER[0]))
  angles *= largest / np.linalg.norm(skew(angles), 2)
  expected = scipy.linalg.expm(skew(angles))
  for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-5)):
    with jax.enable_x64(True):
      found = rotated_heads_lib.rotation(
        jnp.asarray(angles.astype(dtype)), WIDTH
      )
    found = np.asarray(found)
    assert found.dtype == dtype
    feature_case.close(found, expected, tolerance)
    feature_case.close(found @ found.T, np.eye(WIDTH), tolerance)


@pytest.mark.slow
def test_rotations_lessen_the_angles_between_gradients():
  # Heads that pull apart; nothing moves but the rotations.
  with jax.enable_x64(True):
    batch = BATCHES[0]
    found = feature_case.run(
      make(optimizer=optax.adam(0.05), scale=False),
      [batch] * 60,
      tx=optax.sgd(0.0),
    )

    def cosine(params):
      matrices = {
        n: scipy.linalg.expm(skew(a)) for n, a in params['rotations'].items()
      }
      oracle = feature_case.Oracle(params, batch, matrices)
      a, b = oracle.outer['a'].ravel(), oracle.outer['b'].ravel()
      return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert cosine(found[-1][0]) > cosine(found[0][0]) + 0.2


@pytest.fixture(scope='module')
def on_one_device(toy):
  return run_toy(toy, 'jit', 1)


def run_toy(toy, mode, devices):
  with jax.enable_x64(True):
    batches = [
      {
        'main': toy.batch(i, 16, np.float64),
        'other': toy.batch(100 + i, 8, np.float64),
      }
      for i in range(4)
    ]
    batches[1]['main']['a'][:] = -1
    return feature_case.run(
      make(burn_in=2),
      batches,
      mode=mode,
      devices=devices,
      tx=optax.adam(1e-2),
      model=toy.model(),
      tasks=toy.tasks(('main', 'other', 'main')),
    )[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
  'mode', sweeps.some(parallel.MODES, smoke=('shard_map',))
)
def test_modes_agree_with_one_device(toy, on_one_device, mode):
  feature_case.close(run_toy(toy, mode, 4), on_one_device)


@pytest.mark.slow
def test_an_absent_task_has_no_influence():
  with jax.enable_x64(True):
    batches = [feature_case.make_batch(i, absent=('b',)) for i in range(3)]
    (_, (with_b, _, _)) = feature_case.run(make(), batches)[0::3]
    (_, (without, _, _)) = feature_case.run(
      make(num_tasks=2), batches, names=('a', 'c')
    )[0::3]
    first = feature_case.run(make(), batches[:1])[0][0]
    feature_case.close(with_b['trunk'], without['trunk'])
    for name in ('a', 'c'):
      feature_case.close(with_b['heads'][name], without['heads'][name])
      feature_case.close(with_b['rotations'][name], without['rotations'][name])
    feature_case.close(with_b['heads']['b'], first['heads']['b'])
    feature_case.close(with_b['rotations']['b'], first['rotations']['b'])


def test_features_of_any_shape_are_rotated_over_their_last_axis():
  # A head that reads the last axis sees the same from a turned trunk.
  with jax.enable_x64(True):
    inner = feature_case.make_model(('a',))
    tasks = feature_case.make_tasks(('a',))
    model = rotated_heads_lib.rotated_heads(inner, tasks)
    x = np.random.default_rng(0).normal(size=(2, 3, 6, feature_case.DIM))
    batch = {'x': jnp.asarray(x)}
    params, _ = model.init(jax.random.key(0), {'main': batch})
    angles = np.random.default_rng(1).normal(size=len(LOWER[0]))
    params['rotations']['a'] = jnp.asarray(angles)
    z, _ = model.features(
      params, {}, batch, stream='main', train=True, key=None
    )
    found, _ = model.outputs(
      params, {}, z, batch, tasks=['a'], train=True, key=None
    )
    turned_z = np.asarray(z) @ scipy.linalg.expm(skew(angles)).T
    head = feature_case.host(params['heads']['a'])
    feature_case.close(found['a'], np.tanh(turned_z @ head['u']) @ head['v'])


def test_the_optimizer_of_the_network_leaves_rotations_alone():
  with jax.enable_x64(True):
    tx = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(1.0))
    found = feature_case.run(
      make(optimizer=optax.sgd(0.0)), BATCHES[:1], tx=tx, change=turned
    )
    feature_case.close(found[0][0]['rotations'], found[1][0]['rotations'])
    # Frozen ones stay, whatever their own optimizer does.
    found = feature_case.run(
      make(),
      BATCHES[:1],
      change=turned,
      frozen=lambda path: path == 'rotations/a',
    )
    before, after = (row[0]['rotations'] for row in found)
    feature_case.close(before['a'], after['a'])
    assert np.abs(before['b'] - after['b']).max() > 1e-3


def test_bad_options_are_named():
  with pytest.raises(ValueError, match='rotate or scale in rotograd, found n'):
    make(rotate=False, scale=False)
  with pytest.raises(ValueError, match='decay in .0, 1., found 2'):
    make(decay=2)
  with pytest.raises(ValueError, match='learning_rate > 0, found 0'):
    make(learning_rate=0)
  with pytest.raises(ValueError, match='found 2 microbatches; set training.a'):
    feature_case.run(make(), BATCHES[:1], accumulate=2)
  with pytest.raises(ValueError, match='4 tasks for rotograd, found 3; build'):
    feature_case.run(make(num_tasks=4), BATCHES[:1])


def test_models_that_do_not_fit_are_named():
  inner, tasks = feature_case.make_model(), feature_case.make_tasks()
  batch = BATCHES[0]

  def init(**changes):
    model = rotated_heads_lib.rotated_heads(inner._replace(**changes), tasks)
    return model.init(jax.random.key(0), batch)

  with pytest.raises(ValueError, match="without 'rotations', found .*tuple"):
    init(init=lambda key, batch: ((), {}))
  with pytest.raises(ValueError, match=r"found \['rotations'\]; use another"):
    init(init=lambda key, batch: ({'rotations': 1}, {}))
  flat = lambda *args, **kwargs: (jnp.ones(8), {})
  with pytest.raises(ValueError, match=r'features \[B, ..., d\], found shape'):
    init(features=flat)
