"""Groups of tasks: a trunk for each group, nothing between groups."""

from collections.abc import Sequence

from mtl_jax.models.sharing import copies
from mtl_jax.models.sharing.architecture import Sharing


def task_groups(
  *,
  groups: Sequence[Sequence[str]] = (),
) -> Sharing:
  r"""A trunk for each group of tasks, shared inside the group only.

  .. math:: y_k = h_k(f_{g(k)}(x))

  Parameters are ``trunks/group_<i>``. The trunk of a group of several tasks is
  shared, that of a task alone is its own. One group of all tasks is
  `hard_sharing`; every task alone is K networks.

  Input encoders are one set for all groups, as everywhere: groups are networks
  of their own where there is none.

  Args:
    groups: names of the tasks of each group, every task once; none = every
      task alone.

  Raises:
    ValueError: from `build_model`, if a task is in no group or in two, or is
      unknown.

  Example:
    >>> from mtl_jax import models
    >>> heads = {name: models.LinearHead(1) for name in 'abc'}
    >>> sharing = task_groups(groups=(('a', 'c'), ('b',)))
    >>> model = models.build_model(sharing, models.MLP(widths=(8,)), heads)
    >>> [model.shared(f'trunks/group_{i}/Dense_0/kernel') for i in (0, 1)]
    [True, False]

  References:
    Standley et al., Which tasks should be learned together in multi-task
    learning?, ICML 2020. `mtl_jax.studies.affinities` searches for groups.
  """

  def members(tasks):
    return tuple(map(tuple, groups)) or tuple((task,) for task in tasks)

  def check(trunk, tasks):
    del trunk
    named = sorted(task for group in members(tasks) for task in group)
    if named != sorted(tasks) or not all(members(tasks)):
      raise ValueError(
        'groups: expected every one of the tasks '
        f'{", ".join(sorted(tasks))} in one group, found {members(tasks)}; '
        'change sharing.groups.'
      )

  def features(scope, batch, tasks):
    place = {
      t: i for i, group in enumerate(members(scope.tasks)) for t in group
    }
    sizes = [len(group) for group in members(scope.tasks)]
    used = sorted({place[task] for task in tasks})
    outputs_of = {}
    # Apart, so that no task alone depends on what others share.
    for some in (
      [i for i in used if sizes[i] > 1],
      [i for i in used if sizes[i] == 1],
    ):
      trunks: copies.Groups = {('trunks', f'group_{i}'): None for i in some}
      if trunks:
        outputs = copies.run_copies(scope, trunks, scope.trunk, batch)
        outputs_of |= dict(zip(some, outputs, strict=True))
    return {task: outputs_of[place[task]] for task in tasks}

  def shared(path, trunk, tasks):
    del trunk
    number = path.split('/')[1].removeprefix('group_')
    return len(members(tasks)[int(number)]) > 1

  return Sharing(features, shared, check=check)
