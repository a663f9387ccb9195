"""Sluices: halves of the trunks of tasks are mixed."""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import linked, options, scope as scope_lib
from mtl_jax.models.sharing.architecture import Sharing


def sluice(
  *,
  per_layer: bool = False,
  own: float = 0.9,
  orthogonality: float = 0.01,
) -> Sharing:
  r"""Trunks of tasks whose halves are mixed, and layers that tasks choose from.

  .. math:: \tilde x_{k,g} = \sum_{j,h} a_{kg,jh} x_{j,h}, \quad
    z_k = \sum_l b_{kl} \tilde x_k^l

  The halves g of a trunk's features, whose width is even, are subspaces. The
  penalty is ``orthogonality`` times :math:`\sum_k \|X_{k,1}^T X_{k,2}\|^2` over
  parameters that end in ``kernel`` and have the width of the features, a column
  a unit. The diagonal of a is ``own`` at first, all else the rest in equal
  parts; b is 1 for the last layer and 0 for those below.

  Every trunk reaches every task, so all of them are shared, and so are mixtures
  below the last. Those of the last layer and b are their task's own.

  Args:
    per_layer: mix after each layer, for an `MLP` of equal widths.
    own: of the diagonal at first, in [0, 1].
    orthogonality: weight of the penalty, >= 0.

  Raises:
    ValueError: for an option out of range; from its `init`, if widths are odd,
      or differ between layers.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1)}
    >>> model = models.build_model(sluice(), models.MLP(widths=(8,)), heads)
    >>> model.shared('mix_0/a'), model.shared('trunks_0/a/Dense_0/kernel')
    (False, True)

  References:
    Ruder et al., Latent multi-task architecture learning, AAAI 2019.
  """
  options.check_number('sluice', 0, 1, own=own)
  options.check_number('sluice', 0, jnp.inf, orthogonality=orthogonality)
  parts_of = linked.Parts('sluice', per_layer)

  def features(scope, batch, tasks):
    everyone, parts = scope.tasks, parts_of(scope.trunk)
    some = jnp.array([everyone.index(t) for t in tasks])
    x: Any = None
    outputs = []  # [R, B, ..., F] of each layer
    for i, module in enumerate(parts):
      x = linked.run_layer(scope, module, i, batch, x)
      last = module is parts[-1]
      x = _mixed(scope, i, tasks if last else everyone, x, own)
      outputs.append(x if last else x[some])
    if len({x.shape for x in outputs}) > 1:
      widths = ', '.join(str(x.shape[-1]) for x in outputs)
      raise ValueError(
        f'sluice: expected layers of one width, found {widths}; make them '
        'equal, or set per_layer to False.'
      )
    if len(parts) == 1:
      return {task: x[k] for k, task in enumerate(tasks)}
    return {
      task: _chosen(scope, task, [y[k] for y in outputs])
      for k, task in enumerate(tasks)
    }

  def penalty(scope, batch, tasks):
    del batch
    total = 0.0
    for i, module in enumerate(parts_of(scope.trunk)):
      width = getattr(module, 'widths', (None,))[-1]
      for task in tasks:
        params = scope_lib.get(scope.params, (f'trunks_{i}', task))
        for path, kernel in jax.tree_util.tree_leaves_with_path(params):
          name = getattr(path[-1], 'key', '')
          total += _overlap(kernel) if _is_last(name, kernel, width) else 0.0
    return orthogonality * total

  def shared(path, trunk, tasks):
    del tasks
    last = len(parts_of(trunk)) - 1
    return path.split('/')[0] not in (f'mix_{last}', 'layers')

  return Sharing(
    features,
    shared,
    penalty=penalty if orthogonality else None,
    check=parts_of.check,
  )


def _mixed(scope, i, rows, x, own):
  """Features ``[R, B, ..., F]`` of the tasks of some rows, by halves."""
  number, width = len(scope.tasks), x.shape[-1]
  if width % 2:
    raise ValueError(
      f'sluice: expected features of an even width, found {width}; change the '
      'size of the trunk.'
    )

  def first(k):
    """``[2, 2 K]``: the halves of task k, of all halves."""
    equal = jnp.full((2, 2 * number), (1 - own) / (2 * number - 1))
    return equal.at[jnp.arange(2), jnp.array([2 * k, 2 * k + 1])].set(own)

  a = jnp.stack(
    [
      scope.param(
        (f'mix_{i}', t), lambda key, t=t: first(scope.tasks.index(t)), over=x
      )
      for t in rows
    ]
  ).reshape(len(rows), 2, number, 2)  # [R, 2, J, 2]
  halves = x.reshape(*x.shape[:-1], 2, width // 2)
  mixed = jnp.einsum('rgjh,j...hf->r...gf', a, halves)
  return mixed.reshape(len(rows), *x.shape[1:])


def _chosen(scope, task, layers):
  """``sum_l b_l x_l`` of a task's features ``[B, ..., F]`` of each layer."""
  first = jnp.zeros(len(layers)).at[-1].set(1.0)
  b = scope.param(('layers', task), lambda key: first, over=layers[0])
  return sum(b[i] * x for i, x in enumerate(layers))


def _is_last(name, kernel, width):
  if name != 'kernel' or kernel.ndim < 2 or kernel.shape[-1] % 2:
    return False
  return width is None or kernel.shape[-1] == width


def _overlap(kernel):
  first, second = jnp.split(kernel.reshape(-1, kernel.shape[-1]), 2, -1)
  return jnp.square(first.T @ second).sum()
