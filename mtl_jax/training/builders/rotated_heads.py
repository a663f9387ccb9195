"""A model whose heads read rotated features."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import tasks as tasks_lib
from mtl_jax.models import interface
from mtl_jax.training.builders import features as features_lib

NAME = 'rotations'  # of the rotations among the parameters
_DEGREE, _SQUARINGS = 12, 6


def rotation(angles: jax.Array, size: int) -> jax.Array:
  r"""The rotation :math:`\exp(A)` of a skew-symmetric A.

  By a Taylor polynomial of A / 64, squared six times: products alone, many
  times faster than the linear solve of `jax.scipy.linalg.expm` and its
  derivative. Exact to rounding for spectral norms of A (the largest angle) up
  to 25 in float64, and up to 60 in float32.

  Args:
    angles: ``[size (size - 1) / 2]``, the entries of A below its diagonal.
    size: d.

  Returns:
    ``[size, size]``: orthogonal, with determinant 1.

  Example:
    >>> rotation(jnp.array([jnp.pi / 2]), 2).round(4) + 0.0
    Array([[ 0., -1.],
           [ 1.,  0.]], dtype=float32)
  """
  lower = jnp.zeros((size, size), angles.dtype)
  lower = lower.at[np.tril_indices(size, -1)].set(angles)
  small = (lower - lower.T) / 2**_SQUARINGS
  result = eye = jnp.eye(size, dtype=angles.dtype)
  # Horner's rule: I + X (I + X / 2 (I + X / 3 (...))).
  for k in range(_DEGREE, 0, -1):
    result = eye + _product(small, result) / k
  for _ in range(_SQUARINGS):
    result = _product(result, result)
  return result


def _product(x, y):
  # Not in the lower precision of accelerators: errors double with a squaring.
  return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)


def rotated_heads(
  model: interface.MultiTaskModel, tasks: Sequence[tasks_lib.Task]
) -> interface.MultiTaskModel:
  """The model with a rotation of the features in front of each head.

  Its parameters have one entry more, ``rotations/<task>``: angles as in
  `rotation`, for every array of the features, over its last axis; 0 at first,
  where the model is what it was. They are not shared, and losses have no
  gradient with respect to them.

  Args:
    model: whose parameters are a dict.
    tasks: whose heads are rotated.

  Raises:
    ValueError: from its `init`, if the parameters are no dict, or have a
      ``rotations`` already; if features have no axis but that of examples.
  """

  def init(key, batch):
    params, state = model.init(key, batch)
    if not isinstance(params, dict) or NAME in params:
      raise ValueError(
        f'Expected parameters in a dict without {NAME!r}, found '
        f'{sorted(params) if isinstance(params, dict) else type(params)}; '
        'use another name there, or another method.'
      )
    streams = {task.stream for task in tasks}
    shapes = features_lib.shapes(model, {name: batch[name] for name in streams})
    angles = {
      task.name: jax.tree.map(
        lambda z: jnp.zeros(z.shape[-1] * (z.shape[-1] - 1) // 2),
        shapes[task.stream],
      )
      for task in tasks
    }
    return {**params, NAME: angles}, state

  def outputs(params, model_state, features, batch, *, tasks, **kwargs):
    inner = {k: v for k, v in params.items() if k != NAME}
    results = {}
    for task in tasks:
      angles = jax.lax.stop_gradient(params[NAME][task])
      rotated = jax.tree.map(_rotate, features, angles)
      own, model_state = model.outputs(
        inner, model_state, rotated, batch, tasks=(task,), **kwargs
      )
      results.update(own)
    return results, model_state

  def of_inner(function) -> Any:
    def call(params, *args, **kwargs):
      inner = {k: v for k, v in params.items() if k != NAME}
      return function(inner, *args, **kwargs)

    return None if function is None else call

  def shared(path):
    return path.split('/')[0] != NAME and model.shared(path)

  return interface.MultiTaskModel(
    init,
    of_inner(model.features),
    outputs,
    shared,
    of_inner(model.penalty),
    of_inner(model.inspect),
    tables=model.tables,
  )


def _rotate(z, angles):
  matrix = rotation(angles, z.shape[-1])
  return jnp.einsum('ij,...j->...i', matrix, z).astype(z.dtype)
