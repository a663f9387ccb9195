"""Sluices: halves of the trunks of tasks are mixed."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  assemble,
  experts as experts_lib,
  linked,
  run as run_lib,
)

Array = jax.Array


def sluice(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  per_layer: bool = False,
  own: float = 0.9,
  orthogonality: float = 0.01,
) -> base.MultiTaskModel:
  r"""Trunks of tasks whose halves are mixed, and layers that tasks choose from.

  .. math:: \tilde x_{k,g} = \sum_{j,h} a_{kg,jh} x_{j,h}, \quad
    z_k = \sum_l b_{kl} \tilde x_k^l

  The halves g of a trunk's features are subspaces. The penalty is
  ``orthogonality`` times :math:`\sum_k \|X_{k,1}^T X_{k,2}\|^2` over
  parameters that end in ``kernel`` and have the width of the features, a
  column a unit. The diagonal of a is ``own`` at first, all else the rest in
  equal parts; b is 1 for the last layer and 0 for those below.

  Every trunk reaches every task, so all of them are shared, and so are mixtures
  below the last. Those of the last layer and b are their task's own.

  Args:
    trunk: of one task; its features have an even width.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; the others' rows are then not run.
    per_layer: mix after each layer, for an `MLP` of equal widths.
    own: of the diagonal at first, in [0, 1].
    orthogonality: weight of the penalty, >= 0.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an option out of range; from its `init`, if widths are odd,
      or differ between layers.

  Example:
    >>> from mtl_jax import models
    >>> model = sluice(models.MLP(widths=(8,)), {'a': models.LinearHead(1)})
    >>> model.shared('mix_0/a'), model.shared('trunks_0/a/Dense_0/kernel')
    (False, True)

  References:
    Ruder et al., Latent multi-task architecture learning, AAAI 2019.
  """
  experts_lib.check_number('sluice', 0, 1, own=own)
  experts_lib.check_number('sluice', 0, jnp.inf, orthogonality=orthogonality)
  parts = linked.layers_of('sluice', run_lib.place(trunk, axis_name), per_layer)
  everyone = tuple(heads)
  last = len(parts) - 1

  def row(k):
    """``[2, 2 K]``: the halves of task k, of all halves."""
    number = 2 * len(everyone)
    first = jnp.full((2, number), (1 - own) / (number - 1))
    return first.at[jnp.arange(2), jnp.array([2 * k, 2 * k + 1])].set(own)

  def mixed(run, i, rows, x):
    width = x.shape[-1]
    if width % 2:
      raise ValueError(
        f'sluice: expected features of an even width, found {width}; change '
        'the size of the trunk.'
      )
    a = jnp.stack(
      [
        run.param(
          (f'mix_{i}', t), lambda key, t=t: row(everyone.index(t)), over=x
        )
        for t in rows
      ]
    ).reshape(len(rows), 2, len(everyone), 2)  # [R, 2, J, 2]
    halves = x.reshape(*x.shape[:-1], 2, width // 2)
    found = jnp.einsum('rgjh,j...hf->r...gf', a, halves)
    return found.reshape(len(rows), *x.shape[1:])

  def features(run, batch, tasks):
    x: Any = None
    seen = []
    for i, module in enumerate(parts):
      x = linked.run_layer(run, module, everyone, i, batch, x)
      x = mixed(run, i, tasks if i == last else everyone, x)
      some = jnp.array([everyone.index(t) for t in tasks])
      seen.append(x if i == last else x[some])
    if len({found.shape for found in seen}) > 1:
      widths = ', '.join(str(found.shape[-1]) for found in seen)
      raise ValueError(
        f'sluice: expected layers of one width, found {widths}; make them '
        'equal, or set per_layer to False.'
      )
    if not last:
      return {task: x[k] for k, task in enumerate(tasks)}
    found = {}
    for k, task in enumerate(tasks):
      first = jnp.zeros(len(parts)).at[last].set(1.0)
      b = run.param(('layers', task), lambda key, b=first: b, over=x)
      found[task] = sum(b[i] * seen[i][k] for i in range(len(parts)))
    return found

  def penalty(run, batch, tasks):
    del batch
    total = 0.0
    for i, module in enumerate(parts):
      width = getattr(module, 'widths', (None,))[-1]
      for task in tasks:
        own_params = run_lib.get(run.params, (f'trunks_{i}', task))
        for path, kernel in jax.tree_util.tree_leaves_with_path(own_params):
          name = getattr(path[-1], 'key', '')
          total += _overlap(kernel) if _is_last(name, kernel, width) else 0.0
    return orthogonality * total

  return assemble.assemble(
    'sluice',
    features,
    heads,
    shared=lambda path: path.split('/')[0] not in (f'mix_{last}', 'layers'),
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
    penalty=penalty if orthogonality else None,
  )


def _is_last(name, kernel, width):
  if name != 'kernel' or kernel.ndim < 2 or kernel.shape[-1] % 2:
    return False
  return width is None or kernel.shape[-1] == width


def _overlap(kernel):
  first, second = jnp.split(kernel.reshape(-1, kernel.shape[-1]), 2, -1)
  return jnp.square(first.T @ second).sum()
