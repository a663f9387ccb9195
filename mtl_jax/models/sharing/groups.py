"""Groups of tasks: a trunk for each group, nothing between groups."""

from collections.abc import Mapping, Sequence

from flax import linen as nn

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  assemble,
  copies,
  run as run_lib,
)


def task_groups(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  groups: Sequence[Sequence[str]] = (),
) -> base.MultiTaskModel:
  r"""A trunk for each group of tasks, shared inside the group only.

  .. math:: y_k = h_k(f_{g(k)}(x))

  Parameters are ``trunks/group_<i>``. The trunk of a group of several tasks is
  shared, that of a task alone is its own. One group of all tasks is
  `hard_sharing`; every task alone is K networks.

  Input encoders are one set for all groups, as everywhere: groups are networks
  of their own where there is none.

  Args:
    trunk: of one group; there are copies of it with parameters of their own.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; groups without a task of it are then not run.
    groups: names of the tasks of each group, every task once; none = every
      task alone.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: if a task is in no group or in two, or is unknown.

  Example:
    >>> from mtl_jax import models
    >>> heads = {name: models.LinearHead(1) for name in 'abc'}
    >>> model = task_groups(
    ...   models.MLP(widths=(8,)), heads, groups=(('a', 'c'), ('b',))
    ... )
    >>> [model.shared(f'trunks/group_{i}/Dense_0/kernel') for i in (0, 1)]
    [True, False]

  References:
    Standley et al., Which tasks should be learned together in multi-task
    learning?, ICML 2020. Groups are found by `mtl_jax.studies.grouping`.
  """
  found = tuple(map(tuple, groups)) or tuple((task,) for task in heads)
  named = sorted(task for group in found for task in group)
  if named != sorted(heads) or not all(found):
    raise ValueError(
      'groups: expected every one of the tasks '
      f'{", ".join(sorted(heads))} in one group, found {found}; change '
      'sharing.groups.'
    )
  trunk = run_lib.place(trunk, axis_name)
  place = {task: i for i, group in enumerate(found) for task in group}

  def features(run, batch, tasks):
    used = sorted({place[task] for task in tasks})
    if not used:
      return {}
    trunks: copies.Groups = {('trunks', f'group_{i}'): None for i in used}
    of_groups = copies.run_copies(run, trunks, trunk, batch)
    return {task: of_groups[used.index(place[task])] for task in tasks}

  def shared(path):
    number = path.split('/')[1].removeprefix('group_')
    return len(found[int(number)]) > 1

  return assemble.assemble(
    'groups',
    features,
    heads,
    shared=shared,
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
  )
