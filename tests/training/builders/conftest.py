"""The network of the oracle as a model of ours, and how it is run."""

import functools

import bilevel_oracle as oracle
import engines
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import tasks as tasks_lib
from mtl_jax.models import interface
from mtl_jax.training import parallel

NAMES = ('a', 'b', 'c')


def make_model(num_tasks=3):
  def init(key, batch):
    del batch
    keys = jax.random.split(key)
    w = jax.random.normal(keys[0], (oracle.DIM, oracle.WIDTH))
    heads = jax.random.normal(keys[1], (num_tasks, oracle.WIDTH))
    names = NAMES[:num_tasks]
    heads = dict(zip(names, heads, strict=True))
    return {'trunk': {'w': w}, 'heads': heads}, {}

  def features(params, state, batch, *, stream, train, key):
    del stream, train, key
    return jnp.tanh(batch['x'] @ params['trunk']['w']), state

  def outputs(params, state, features, batch, *, tasks, train, key):
    del batch, train, key
    found = {n: (features @ params['heads'][n])[:, None] for n in tasks}
    return found, state

  return interface.MultiTaskModel(
    init, features, outputs, lambda path: path.startswith('trunk/')
  )


def make_batch(seed, size, absent=(), num_tasks=3, dtype=np.float64):
  """``({'x': ..., task: ...}, the same for the oracle)``."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(size, oracle.DIM)).astype(dtype)
  y = rng.normal(size=(num_tasks, size)).astype(dtype)
  y[1, ::3] = np.nan
  y[list(absent)] = np.nan
  ours = {'x': x, **dict(zip(NAMES, y, strict=False))}
  return ours, {'x': x, 'y': y}


def rows_of(batch, rows):
  return {'x': batch['x'][rows], 'y': batch['y'][:, rows]}


def to_oracle(params):
  params = jax.device_get(params)
  heads = np.array(list(params['heads'].values()))
  return np.concatenate([params['trunk']['w'].ravel(), heads.ravel()])


@functools.cache
def compiled(builder, tx, mode, devices, num_tasks, x64, parts):
  """Mesh, init and step; the same for runs of the same things."""
  del x64  # the compiled step differs by it
  mesh = parallel.make_mesh(jax.devices()[:devices])
  model = make_model(num_tasks)
  tasks = [tasks_lib.regression(name) for name in NAMES[:num_tasks]]
  make = functools.partial(
    engines.step_parts, model=model, tasks=tasks, tx=tx, **dict(parts)
  )
  step = parallel.parallelize(
    lambda axis: builder.make_step(make(axis_name=axis)), mesh, mode
  )

  def init(key):
    return builder.init_state(model, key, None, tx)

  return mesh, parallel.replicate(init, mesh), step


_SGD = optax.sgd(0.05)


def run(
  builder,
  batches,
  tx=None,
  *,
  mode='jit',
  devices=1,
  num_tasks=3,
  start=None,
  x64=True,
  **parts,
):
  """Takes steps; the start and the end as host arrays."""
  with jax.enable_x64(x64):
    key = (builder, tx or _SGD, mode, devices, num_tasks, x64)
    mesh, init, step = compiled(*key, tuple(parts.items()))
    if start is None:
      state = init(jax.random.key(3))
    else:
      state = parallel.place(start, mesh)
    first = jax.tree.map(np.array, jax.device_get(state._replace(key=None)))
    for batch in batches:
      state, metrics = step(state, parallel.shard_batch(batch, mesh))
    end = jax.tree.map(np.array, jax.device_get(state._replace(key=None)))
    return first, end, jax.device_get(metrics)


class Net:
  """The functions above, as one fixture."""

  model = staticmethod(make_model)
  batch = staticmethod(make_batch)
  rows = staticmethod(rows_of)
  flat = staticmethod(to_oracle)
  run = staticmethod(run)
  names = NAMES


@pytest.fixture(scope='session')
def net():
  return Net()
