"""A small network, its derivatives in NumPy, and a way to run a builder."""

import functools

import engines
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import tasks as tasks_lib
from mtl_jax.models import interface
from mtl_jax.training import parallel

DIM, WIDTH, HIDDEN = 5, 4, 3
NAMES = ('a', 'b', 'c')
STREAMS = {'a': 'main', 'b': 'main', 'c': 'other'}


def make_model(names=NAMES):
  """z = tanh(x W); task k: tanh(z U) v."""

  def init(key, batch):
    del batch
    keys = jax.random.split(key, 1 + 2 * len(NAMES))
    heads = {
      name: {
        'u': jax.random.normal(keys[2 * k + 1], (WIDTH, HIDDEN)),
        'v': jax.random.normal(keys[2 * k + 2], (HIDDEN, 1)),
      }
      for k, name in enumerate(NAMES)
    }
    return {
      'trunk': {'w': jax.random.normal(keys[0], (DIM, WIDTH))},
      'heads': {name: heads[name] for name in names},
    }, {}

  def features(params, state, batch, *, stream, train, key):
    del stream, train, key
    return jnp.tanh(batch['x'] @ params['trunk']['w']), state

  def outputs(params, state, features, batch, *, tasks, train, key):
    del batch, train, key
    heads = params['heads']
    return {
      name: jnp.tanh(features @ heads[name]['u']) @ heads[name]['v']
      for name in tasks
    }, state

  return interface.MultiTaskModel(
    init, features, outputs, lambda path: path.startswith('trunk/')
  )


def make_tasks(names=NAMES):
  return tuple(tasks_lib.regression(n, stream=STREAMS[n]) for n in names)


def make_batch(seed, absent=(), size=8):
  rng = np.random.default_rng(seed)
  found = {}
  for stream, rows in (('main', size), ('other', size // 2)):
    labels = {n: rng.normal(size=rows) * 2 for n in NAMES}
    for k, name in enumerate(NAMES):
      labels[name][k :: 3 + k] = np.nan
      if name in absent:
        labels[name][:] = np.nan
    found[stream] = {'x': rng.normal(size=(rows, DIM)), **labels}
  return found


class Oracle:
  """Losses and derivatives of one batch, in NumPy.

  With rotations R the head of task k reads z R^T.
  """

  def __init__(self, params, batch, rotations=None):
    self.params, self.batch = params, batch
    self.names = tuple(params['heads'])
    w = params['trunk']['w']
    self.z = {s: np.tanh(arrays['x'] @ w) for s, arrays in batch.items()}
    self.r = rotations or {n: np.eye(WIDTH) for n in self.names}
    self.losses, self.heads, self.inner, self.outer = {}, {}, {}, {}
    for name in self.names:
      self._task(name)

  def _task(self, name):
    head, z = self.params['heads'][name], self.z[STREAMS[name]]
    rotated = z @ self.r[name].T
    labels = self.batch[STREAMS[name]][name]
    mask = ~np.isnan(labels)
    self.losses[name] = loss_of(head, rotated, labels)
    hidden = np.tanh(rotated @ head['u'])
    error = np.where(
      mask, (hidden @ head['v'])[:, 0] - np.nan_to_num(labels), 0
    )
    slope = 2 * error[:, None] / max(mask.sum(), 1)
    back = (slope * head['v'][:, 0]) * (1 - hidden**2)
    self.heads[name] = {'u': rotated.T @ back, 'v': hidden.T @ slope}
    self.inner[name] = back @ head['u'].T  # at R z
    self.outer[name] = self.inner[name] @ self.r[name]  # at z

  @property
  def present(self):
    return {
      n: not np.isnan(self.batch[STREAMS[n]][n]).all() for n in self.names
    }

  def trunk(self, directions):
    """The trunk's gradient of a direction at the features of each stream."""
    return sum(
      self.batch[s]['x'].T @ (d * (1 - self.z[s] ** 2))
      for s, d in directions.items()
    )

  def direction(self, weights):
    """``{stream: sum_k w_k dL_k/dz}``."""
    return {
      s: sum(
        [weights[n] * self.outer[n] for n in self.names if STREAMS[n] == s],
        np.zeros_like(z),
      )
      for s, z in self.z.items()
    }


def loss_of(head, rotated, labels):
  mask = ~np.isnan(labels)
  error = (np.tanh(rotated @ head['u']) @ head['v'])[:, 0]
  error = np.where(mask, error - np.nan_to_num(labels), 0)
  return (error**2).sum() / max(mask.sum(), 1)


def host(tree):
  return jax.tree.map(np.asarray, tree)


def start(builder, batch, names=NAMES, tx=None, model=None, tasks=None):
  """Model after wrap, tasks, and a fresh state."""
  tasks = tasks or make_tasks(names)
  model = builder.wrap(model or make_model(names), tasks)
  tx = tx or optax.sgd(0.1)
  state = builder.init_state(model, jax.random.key(3), batch, tx)
  return model, tasks, tx, state


def run(
  builder,
  batches,
  *,
  names=NAMES,
  mode='jit',
  devices=1,
  tx=None,
  model=None,
  tasks=None,
  change=lambda state: state,
  **parts,
):
  """``[(params, method state, metrics)]`` before and after each step."""
  model, tasks, tx, _ = start(builder, batches[0], names, tx, model, tasks)
  mesh = parallel.make_mesh(jax.devices()[:devices])
  make = functools.partial(
    engines.step_parts, model=model, tasks=tasks, tx=tx, **parts
  )
  train = parallel.parallelize(
    lambda axis: builder.make_step(make(axis_name=axis)), mesh, mode
  )
  init = parallel.replicate(
    lambda key: change(builder.init_state(model, key, batches[0], tx)),
    mesh,
  )
  state = init(jax.random.key(3))
  found = [jax.device_get((state.params, state.opt_state['method'], {}))]
  for batch in batches:
    state, metrics = train(state, parallel.shard_batch(batch, mesh))
    found.append(
      jax.device_get((state.params, state.opt_state['method'], metrics))
    )
  return found


def close(x, y, tolerance=1e-10):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y
  )
