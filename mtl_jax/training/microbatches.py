"""Sums over parts of a batch, one after the other, to hold less at once."""

import jax
import jax.numpy as jnp


class Microbatches:
  """Sums over microbatches, one after the other in a `jax.lax.scan`."""

  def __init__(self, run, batch, model_state, key, number, axis_name):
    self._run = run
    self._axis_name = axis_name
    self._model_state = model_state
    keys = None if key is None else jax.random.split(key, number)
    self._slices = (split(batch, number, 'microbatches'), keys)

  def losses(self, num_tasks):
    """Sums, counts and state of the whole batch, and who shares nothing."""
    zero = self._vary(jnp.zeros(num_tasks))
    alone = []

    def step(carry, part):
      state, sums, counts = carry
      pass_ = self._run(state, part[0], key=part[1])
      alone.append(pass_.alone)
      dtype = sums.dtype
      sums = sums + pass_.sums.astype(dtype)
      counts = counts + pass_.counts.astype(dtype)
      return (pass_.model_state, sums, counts), None

    start = (self._model_state, zero, zero)
    (state, sums, counts), _ = jax.lax.scan(step, start, self._slices)
    return sums, counts, state, alone[0]

  def total(self, of_pass):
    """The sum of ``of_pass(forward pass)`` over the microbatches."""
    first = jax.tree.map(lambda x: x[0], self._slices)
    shapes = jax.eval_shape(
      lambda: of_pass(self._run(self._model_state, first[0], key=first[1]))
    )
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def step(carry, part):
      state, total = carry
      pass_ = self._run(state, part[0], key=part[1])
      total = jax.tree.map(jnp.add, total, of_pass(pass_))
      return (pass_.model_state, total), None

    start = (self._model_state, self._vary(zeros))
    (_, total), _ = jax.lax.scan(step, start, self._slices)
    return total

  def _vary(self, zeros):
    # The carry of a scan must vary over devices as what is added to it does.
    if self._axis_name is None:
      return zeros
    return jax.lax.pcast(zeros, self._axis_name, to='varying')


def split(tree, number, what):
  """Leaves ``[B, ...] -> [number, B / number, ...]``."""

  def leaf(x):
    if x.shape[0] % number:
      raise ValueError(
        f'Expected a batch that divides into {number} {what}, found '
        f'{x.shape[0]} examples (on this device); change data.batch_size or '
        'training.accumulate.'
      )
    # Strided, so that examples on one device stay there under plain jit.
    return jnp.moveaxis(
      x.reshape(x.shape[0] // number, number, *x.shape[1:]), 1, 0
    )

  return jax.tree.map(leaf, tree)
