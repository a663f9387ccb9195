"""Cross-stitch units between the trunks of tasks."""

from collections.abc import Callable, Mapping, Sequence
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


def stitched(
  run: run_lib.Run,
  name: str,
  tasks: Sequence[str],
  rows: Sequence[str],
  x: Array,
  make: Callable[[int], Array],
) -> Array:
  """``sum_j a_kj x_j`` for the tasks of some rows.

  Args:
    run: of the model; row k lies at ``<name>/<task>``.
    name: of the unit.
    tasks: J of them, of x.
    rows: those wanted, R.
    x: ``[J, B, ..., F]``.
    make: number of a task -> its first row, ``[J]`` or ``[J, F]``.

  Returns:
    ``[R, B, ..., F]``.
  """
  a = jnp.stack(
    [
      run.param((name, t), lambda key, t=t: make(tasks.index(t)), over=x)
      for t in rows
    ]
  )
  if a.ndim == 2:
    return jnp.einsum('rj,j...->r...', a, x)
  return jnp.einsum('rjf,j...f->r...f', a, x)


def cross_stitch(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  per_layer: bool = False,
  per_unit: bool = False,
  own: float = 0.9,
) -> base.MultiTaskModel:
  r"""A trunk for each task, and units that mix what they found.

  .. math:: \tilde x_k = \sum_j a_{kj} x_j

  after the trunk, or after each layer of it. The diagonal of a is ``own`` at
  first, all else ``(1 - own) / (K - 1)``.

  Every trunk reaches every task, so all of them are shared, and so are the
  units below the last one. A row of the last unit is its task's own.

  Args:
    trunk: of one task.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; the others' rows are then not run.
    per_layer: a unit after each layer, for an `MLP`.
    per_unit: a matrix a for each unit of the features instead of one.
    own: of the diagonal at first, in [0, 1]; with 1 the tasks' networks start
      apart.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1), 'b': models.LinearHead(1)}
    >>> model = cross_stitch(models.MLP(widths=(8, 8)), heads, per_layer=True)
    >>> [model.shared(f'stitch_{i}/a') for i in (0, 1)]
    [True, False]

  References:
    Misra et al., Cross-stitch networks for multi-task learning, CVPR 2016. The
    first values of a are those that it found to work best; there the trunks
    are first trained alone.
  """
  experts_lib.check_number('cross_stitch', 0, 1, own=own)
  trunk = run_lib.place(trunk, axis_name)
  parts = linked.layers_of('cross_stitch', trunk, per_layer)
  everyone = tuple(heads)
  last = len(parts) - 1

  def features(run, batch, tasks):
    x: Any = None
    for i, module in enumerate(parts):
      x = linked.run_layer(run, module, everyone, i, batch, x)

      def row(k, units=x.shape[-1]):
        number = len(everyone)
        other = (1 - own) / max(number - 1, 1)
        first = jnp.full(number, other).at[k].set(own if number > 1 else 1.0)
        return jnp.repeat(first[:, None], units, 1) if per_unit else first

      rows = tasks if i == last else everyone
      x = stitched(run, f'stitch_{i}', everyone, rows, x, row)
    return {task: x[k] for k, task in enumerate(tasks)}

  return assemble.assemble(
    'cross_stitch',
    features,
    heads,
    shared=lambda path: path.split('/')[0] != f'stitch_{last}',
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
  )
