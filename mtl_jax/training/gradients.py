"""Task gradients of a model: over all devices, and over microbatches."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import combinators, tasks as tasks_lib
from mtl_jax.models import base as models_base
from mtl_jax.training import forward as forward_lib

Array = jax.Array


def model_gradients(
  model: models_base.MultiTaskModel,
  tasks: Sequence[tasks_lib.Task],
  params: Any,
  model_state: Any,
  batch: forward_lib.Batch,
  *,
  key: Array | None = None,
  train: bool = True,
  frozen: Callable[[str], bool] = lambda path: False,
  accumulate: int = 1,
  axis_name: str | None = None,
) -> tuple[combinators.TaskGradients, Any]:
  """The lazy task gradients of one batch.

  The loss of a task is its mean over the labelled examples of the whole batch:
  sums and counts are reduced over devices and microbatches first, and divided
  once. Gradients are reduced before the Gramian, which is not linear.

  Args:
    model: pure functions.
    tasks: K of them; all that is ``[K]`` is in this order.
    params: pytree; the same on every device.
    model_state: batch statistics and the like.
    batch: ``{stream: {name: [B, ...]}}``, this device's part of it in the
      manual modes (axis_name given), all of it otherwise.
    key: for dropout, of this step; None where the model draws nothing.
    train: whether the model is in training mode.
    frozen: ``path -> bool``: parameters without gradient.
    accumulate: number M of microbatches. It holds the activations of B / M
      examples at a time and one sum of task gradients ``[K, d]`` if the method
      asks for a Gramian; weights that come from losses cost a second forward
      pass, for the losses of the whole batch must be known first.
    axis_name: mapped axis over devices, or None under plain jit.

  Returns:
    The gradients, and the model state after the (forward) pass.

  Raises:
    ValueError: if the batch does not divide into M microbatches.
  """
  leaves = forward_lib.describe_leaves(params, model.shared, frozen)
  if axis_name is not None:
    # Gradients of parameters that vary are local, whatever shard_map checks;
    # the psum is then always ours. See `reduce` below.
    params = jax.lax.pcast(params, axis_name, to='varying')
    if key is not None:
      key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))

  def reduce(tree):
    # Over the data axis: local sums become sums over the global batch.
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)

  run = functools.partial(
    forward_lib.forward, model, tasks, leaves, params, train=train
  )
  if accumulate == 1:
    pass_ = run(model_state, batch, key=key)
    sums, counts = pass_.sums, pass_.counts
    new_state = pass_.model_state

    def over(of_pass):
      return of_pass(pass_)

  else:
    scan = _Microbatches(run, batch, model_state, key, accumulate, axis_name)
    sums, counts, new_state = scan.losses(len(tasks))
    over = scan.total

  sums, counts = reduce((sums, counts))
  per_example = 1 / jnp.maximum(counts, 1)

  def pullback(v, u):
    v_sum, same = v * per_example, v is u
    u_sum = v_sum if same else u * per_example

    def of_pass(pass_):
      part = forward_lib.pullback(pass_, leaves, v_sum, u_sum)
      return forward_lib.gradient_tree(params, part)

    return reduce(over(of_pass))

  def rows():
    def of_pass(pass_):
      part = forward_lib.rows(pass_, leaves, per_example)
      return forward_lib.rows_tree(params, leaves, part, len(tasks))

    return reduce(over(of_pass))

  gradients = combinators.TaskGradients(
    sums * per_example, counts > 0, counts, pullback=pullback, rows=rows
  )
  return gradients, new_state


class _Microbatches:
  """Sums over microbatches, one after the other in a `jax.lax.scan`."""

  def __init__(self, run, batch, model_state, key, number, axis_name):
    self._run = run
    self._axis_name = axis_name
    self._model_state = model_state
    keys = None if key is None else jax.random.split(key, number)
    split = functools.partial(_split, number=number)
    self._slices = (jax.tree.map(split, batch), keys)

  def losses(self, num_tasks):
    """Sums, counts and model state of the whole batch: forward only."""
    zero = self._vary(jnp.zeros(num_tasks))

    def step(carry, part):
      state, sums, counts = carry
      pass_ = self._run(state, part[0], key=part[1])
      dtype = sums.dtype
      sums = sums + pass_.sums.astype(dtype)
      counts = counts + pass_.counts.astype(dtype)
      return (pass_.model_state, sums, counts), None

    start = (self._model_state, zero, zero)
    (state, sums, counts), _ = jax.lax.scan(step, start, self._slices)
    return sums, counts, state

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


def _split(x, number):
  if x.shape[0] % number:
    raise ValueError(
      f'Expected a batch that divides into {number} microbatches, found '
      f'{x.shape[0]} examples (on this device); change data.batch_size or '
      'training.accumulate.'
    )
  # Strided, so that examples on one device stay there under plain jit.
  return jnp.moveaxis(
    x.reshape(x.shape[0] // number, number, *x.shape[1:]), 1, 0
  )
