"""Stored directions of other libraries, and ours for the same problems.

benchmarks/make_reference.py makes the files. Directions are compared relative
to their length.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import combinators

FOLDER = pathlib.Path(__file__).parents[1] / 'data'
SIZES = (2, 3, 5, 16)
LARGEST = max(SIZES)
STEPS = 6
EPOCHS = (0, 0, 1, 2, 2, 3)


def reference(name):
  with np.load(FOLDER / f'reference_{name}.npz') as file:
    return dict(file)


INPUTS, TORCHJD, LIBMTL = map(reference, ('inputs', 'torchjd', 'libmtl'))
# What stands in for the draws of JAX, see `patch_draws`.
DRAWS = {}


def patch_draws(monkeypatch):
  """Draws of JAX become the ones that the libraries were given."""
  for name in ('normal', 'uniform'):
    monkeypatch.setattr(
      jax.random, name, lambda *unused, name=name: DRAWS[name]
    )


def padded(array, *shape):
  """Zeros of this shape, with the array in their first corner."""
  out = np.zeros(shape, array.dtype)
  out[tuple(slice(n) for n in array.shape)] = array
  return out


def arguments(k, t):
  """The arrays of one step, with absent tasks behind those of the problem."""
  rows, values = LARGEST, 2 * LARGEST
  shapes = {
    'rows': (rows, values),
    'losses': (rows,),
    'after': (rows,),
    'parts': (3, rows, values),
    'normal': (rows,),
    'uniform': (values,),
  }
  found = {
    name: padded(INPUTS[f'{name}_{k}'][t], *shape)
    for name, shape in shapes.items()
  }
  return {**found, 'present': np.arange(rows) < k, 'epoch': EPOCHS[t]}


def gradients_of(now):
  whole, *parts = (
    combinators.gradients_from_jacobian(rows, now['losses'], now['present'])
    for rows in (now['rows'], *now['parts'])
  )
  return whole.with_parts(parts)


def run(tx, sizes=SIZES, look=lambda state: ()):
  """``{k: (directions [STEPS, d], looks)}``, the state carried along.

  Smaller problems are padded with absent tasks, so that all are one program.

  Args:
    tx: a combinator of 16 tasks, or a function of their number.
    sizes: numbers of tasks.
    look: what to keep of each state.
  """

  def make_step(tx):
    @jax.jit
    def step(state, now):
      DRAWS.update(normal=now['normal'], uniform=now['uniform'])
      direction, state = tx.update(
        gradients_of(now),
        state,
        jnp.zeros(2 * LARGEST),
        key=jax.random.key(0),
        step=0,
        epoch=now['epoch'],
      )
      if optax.tree.get_all_with_path(state, 'losses_after'):
        after = jnp.where(now['present'], now['after'], 0)
        state = optax.tree.set(state, losses_after=after)
      return direction, state

    return step

  found = {}
  with jax.enable_x64(True):
    step = None
    for k in sizes:
      method = tx(k) if callable(tx) else tx
      if step is None or callable(tx):
        step = make_step(method)
      state = method.init(jnp.zeros(2 * LARGEST))
      directions, looks = [], []
      for t in range(STEPS):
        direction, state = step(state, arguments(k, t))
        directions.append(np.asarray(direction)[: 2 * k])
        looks.append(jax.tree.map(np.asarray, look(state)))
      found[k] = np.array(directions), looks
  return found


def gaps(found, expected):
  """``[...]``, for directions ``[..., d]``."""
  length = np.linalg.norm(expected, axis=-1)
  return np.linalg.norm(found - expected, axis=-1) / length
