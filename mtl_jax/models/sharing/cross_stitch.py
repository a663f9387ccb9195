"""Cross-stitch units between the trunks of tasks."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import linked, options, scope as scope_lib
from mtl_jax.models.sharing.architecture import Sharing

Array = jax.Array


def stitched(
  scope: scope_lib.Scope,
  name: str,
  rows: Sequence[str],
  x: Array,
  make: Callable[[int], Array],
) -> Array:
  """``sum_j a_kj x_j`` for the tasks of some rows.

  Args:
    scope: of the model; row k lies at ``<name>/<task>``.
    name: of the unit.
    rows: those wanted, R.
    x: ``[J, B, ..., F]`` of all tasks.
    make: number of a task -> its first row, ``[J]`` or ``[J, F]``.

  Returns:
    ``[R, B, ..., F]``.
  """
  number = scope.tasks.index
  a = jnp.stack(
    [
      scope.param((name, t), lambda key, t=t: make(number(t)), over=x)
      for t in rows
    ]
  )
  if a.ndim == 2:
    return jnp.einsum('rj,j...->r...', a, x)
  return jnp.einsum('rjf,j...f->r...f', a, x)


def cross_stitch(
  *,
  per_layer: bool = False,
  per_unit: bool = False,
  own: float = 0.9,
) -> Sharing:
  r"""A trunk for each task, and units that mix their features.

  .. math:: \tilde x_k = \sum_j a_{kj} x_j

  after the trunk, or after each layer of it. The diagonal of a is ``own`` at
  first, all else ``(1 - own) / (K - 1)``.

  Every trunk reaches every task, so all of them are shared, and so are the
  units below the last one. A row of the last unit is its task's own.

  Args:
    per_layer: a unit after each layer, for an `MLP`.
    per_unit: a matrix a for each unit of the features instead of one.
    own: of the diagonal at first, in [0, 1]; with 1 the tasks' networks start
      apart.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1), 'b': models.LinearHead(1)}
    >>> model = models.build_model(
    ...   cross_stitch(per_layer=True), models.MLP(widths=(8, 8)), heads
    ... )
    >>> [model.shared(f'stitch_{i}/a') for i in (0, 1)]
    [True, False]

  References:
    Misra et al., Cross-stitch networks for multi-task learning, CVPR 2016. The
    first values of a are those that worked best there; its trunks are first
    trained alone.
  """
  options.check_number('cross_stitch', 0, 1, own=own)
  parts_of = linked.Parts('cross_stitch', per_layer)

  def features(scope, batch, tasks):
    everyone, parts = scope.tasks, parts_of(scope.trunk)
    x: Any = None
    for i, module in enumerate(parts):
      x = linked.run_layer(scope, module, i, batch, x)

      def row(k, units=x.shape[-1]):
        number = len(everyone)
        other = (1 - own) / max(number - 1, 1)
        first = jnp.full(number, other).at[k].set(own if number > 1 else 1.0)
        return jnp.repeat(first[:, None], units, 1) if per_unit else first

      rows = tasks if module is parts[-1] else everyone
      x = stitched(scope, f'stitch_{i}', rows, x, row)
    return {task: x[k] for k, task in enumerate(tasks)}

  def shared(path, trunk, tasks):
    del tasks
    return path.split('/')[0] != f'stitch_{len(parts_of(trunk)) - 1}'

  return Sharing(features, shared, check=parts_of.check)
