"""Feature-wise modulation: one trunk, scaled and shifted for each task."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax import tasks as tasks_lib
from mtl_jax.models import base
from mtl_jax.models.sharing import assemble, gates, linked, run as run_lib

Array = jax.Array


def film(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  per_layer: bool = False,
) -> base.MultiTaskModel:
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
    trunk: of all tasks.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; the others' features are then not run.
    per_layer: modulate after each layer, for an `MLP`.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: if a trunk that is no `MLP` is to be modulated by layers.

  Example:
    >>> from mtl_jax import models
    >>> model = film(models.MLP(widths=(8,)), {'a': models.LinearHead(1)})
    >>> model.shared('trunk_0/Dense_0/kernel'), model.shared('film_0/a/scale')
    (True, False)

  References:
    Perez et al., FiLM: Visual reasoning with a general conditioning layer,
    AAAI 2018. There a network makes scales and shifts from a question, in
    front of a layer's activation; here the task is the condition, so that they
    are parameters, and stand behind the layer.
  """
  parts = linked.layers_of('film', run_lib.place(trunk, axis_name), per_layer)

  def modulated(run, i, tasks, y):
    """``[K, B, ..., F]`` of ``[K or 1, B, ..., F]``."""
    number, width = len(tasks), y.shape[-1]

    def rows(name, make):
      found = [
        run.param((f'film_{i}', t, name), lambda key: make(width), over=y)
        for t in tasks
      ]
      return jnp.stack(found).reshape(number, *(1,) * (y.ndim - 2), width)

    return rows('scale', jnp.ones) * y + rows('shift', jnp.zeros)

  def features(run, batch, tasks):
    y = run.call(('trunk_0',), parts[0], batch)[None]
    z = modulated(run, 0, tasks, y)
    for i, module in enumerate(parts[1:], start=1):
      number, size = z.shape[:2]
      joined = _repeated(batch, number) | {
        'inputs': z.reshape(number * size, *z.shape[2:])
      }
      y = run.call((f'trunk_{i}',), module, joined)
      z = modulated(run, i, tasks, y.reshape(number, size, *y.shape[1:]))
    return gates.by_task(tasks, z)

  return assemble.assemble(
    'film',
    features,
    heads,
    shared=lambda path: path.startswith('trunk_'),
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
  )


def _repeated(batch: Mapping[str, Any], number: int) -> dict[str, Array]:
  """What a dense layer reads of the batch besides its inputs, K times."""
  if tasks_lib.EXAMPLE_MASK not in batch:
    return {}
  mask = jnp.asarray(batch[tasks_lib.EXAMPLE_MASK])
  return {tasks_lib.EXAMPLE_MASK: jnp.tile(mask, number)}
