"""Feature-wise modulation: one trunk, scaled and shifted for each task."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import tasks as tasks_lib
from mtl_jax.models.sharing import gates, linked
from mtl_jax.models.sharing.architecture import Sharing

Array = jax.Array


def film(
  *,
  per_layer: bool = False,
) -> Sharing:
  r"""One trunk whose features each task scales and shifts for itself.

  .. math:: z_k = \gamma_k \odot f(x) + \beta_k

  or, with layers :math:`f^l`, after each of them:

  .. math:: z_k^l = \gamma_k^l \odot f^l(z_k^{l-1}) + \beta_k^l, \quad
    z_k^0 = x

  :math:`\gamma_k` is 1 and :math:`\beta_k` is 0 at first, so that the tasks
  start with the features of `hard_sharing`. With ``per_layer``, layers above
  the first are run for all tasks as one batch of K B examples, and batch
  statistics are over all of them.

  The trunk is shared; scales and shifts are their task's own, those below the
  last layer too.

  Args:
    per_layer: modulate after each layer, for an `MLP`.

  Raises:
    ValueError: from `build_model`, if a trunk that is no `MLP` is to be
      modulated by layers.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1)}
    >>> model = models.build_model(film(), models.MLP(widths=(8,)), heads)
    >>> model.shared('trunk_0/Dense_0/kernel'), model.shared('film_0/a/scale')
    (True, False)

  References:
    Perez et al., FiLM: Visual reasoning with a general conditioning layer,
    AAAI 2018. There a network makes scales and shifts from a question, in
    front of a layer's activation; here the task is the condition, so that they
    are parameters, and stand behind the layer.
  """
  parts_of = linked.Parts('film', per_layer)

  def features(scope, batch, tasks):
    first, *rest = parts_of(scope.trunk)
    y = scope.call(('trunk_0',), first, batch)[None]
    z = _modulated(scope, 0, tasks, y)
    for i, module in enumerate(rest, start=1):
      number, size = z.shape[:2]
      joined = _repeated(batch, number) | {
        'inputs': z.reshape(number * size, *z.shape[2:])
      }
      y = scope.call((f'trunk_{i}',), module, joined)
      z = _modulated(scope, i, tasks, y.reshape(number, size, *y.shape[1:]))
    return gates.by_task(tasks, z)

  def shared(path, trunk, tasks):
    del trunk, tasks
    return path.startswith('trunk_')

  return Sharing(features, shared, check=parts_of.check)


def _modulated(scope, i, tasks, y):
  """``[K, B, ..., F]`` of ``[K or 1, B, ..., F]``."""
  number, width = len(tasks), y.shape[-1]

  def rows(name, make):
    values = [
      scope.param((f'film_{i}', t, name), lambda key: make(width), over=y)
      for t in tasks
    ]
    return jnp.stack(values).reshape(number, *(1,) * (y.ndim - 2), width)

  return rows('scale', jnp.ones) * y + rows('shift', jnp.zeros)


def _repeated(batch: Mapping[str, Any], number: int) -> dict[str, Array]:
  """Arrays that a dense layer reads besides its inputs, K times."""
  if tasks_lib.EXAMPLE_MASK not in batch:
    return {}
  mask = jnp.asarray(batch[tasks_lib.EXAMPLE_MASK])
  return {tasks_lib.EXAMPLE_MASK: jnp.tile(mask, number)}
