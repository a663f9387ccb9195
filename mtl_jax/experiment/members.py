"""The members of a run, and which of them are one program."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build

# Numbers of these sections can be arrays; all else makes another program.
TRACED = ('optimizer.', 'combinator.')


@dataclasses.dataclass(frozen=True)
class Member:
  """One member of a run.

  Attributes:
    index: its place among all members.
    seed: of parameters, order of the data, dropout and method.
    point: its values of the sweep.
  """

  index: int
  seed: int
  point: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Group:
  """Members that are one program.

  Attributes:
    experiment: that they share.
    members: with the same settings, but for the seed and some numbers.
    traced: those numbers' settings, in `TRACED` sections.
  """

  experiment: build.Experiment
  members: tuple[Member, ...]
  traced: tuple[str, ...] = ()

  def hyper(self, members: Sequence[Member]) -> dict[str, np.ndarray]:
    """``{setting: [P] or [P, n]}`` of some members."""
    dtype = jax.numpy.zeros(()).dtype
    return {
      path: np.array([m.point[path] for m in members], dtype)
      for path in self.traced
    }


def list_members(settings: settings_lib.Settings) -> list[Member]:
  """All points with all seeds: point 0 with every seed, then point 1, ...

  Raises:
    ValueError: if the points are not mappings of the same settings, or one is
      unknown.
  """
  section = settings.population
  points = [dict(point) for point in section.sweep] or [{}]
  for point in points:
    if point.keys() != points[0].keys():
      raise ValueError(
        f'Expected the same settings in all points of the sweep, found '
        f'{sorted(point)} and {sorted(points[0])}; give each point all of them.'
      )
    for path in point:
      if path == 'seed' or path.startswith('population.'):
        raise ValueError(
          f'Expected settings of one run in the sweep, found {path!r}; set '
          'population.seeds for several seeds.'
        )
    settings_lib.with_values(settings, point)
    if points.count(point) > 1:
      raise ValueError(
        'Expected different points in the sweep, found '
        f'{settings_lib.plain(point)} twice; set population.seeds for several '
        'runs of one.'
      )
  members = []
  for point in points:
    for i in range(max(section.seeds, 1)):
      members.append(Member(len(members), settings.seed + i, point))
  return members


def group(
  settings: settings_lib.Settings,
  members: Sequence[Member],
  make: Callable[[settings_lib.Settings], build.Experiment],
) -> list[Group]:
  """Puts members together that differ in the seed and in numbers only.

  Whether a number can be an array is tried: a method that needs its value when
  the program is made gets one program per value.

  Args:
    settings: of all members.
    members: from `list_members`.
    make: builds an experiment.

  Returns:
    Groups in the order of their first members.
  """
  numbers = [path for path in members[0].point if _is_number(path, members)]
  first = make(settings_lib.with_values(settings, members[0].point))
  traced = tuple(
    path for path in numbers if _can_trace(first, path, members[0])
  )
  for member in members:  # A number that is traced is not looked at.
    build.checks.check_numbers(settings_lib.with_values(settings, member.point))
    first.make_method({path: member.point[path] for path in traced})
  same: dict[tuple, list[Member]] = {}
  for member in members:
    fixed = tuple(
      (path, repr(value))  # whole sections are no keys
      for path, value in member.point.items()
      if path not in traced
    )
    same.setdefault(fixed, []).append(member)
  return [
    Group(
      first
      if chosen[0] is members[0]
      else make(settings_lib.with_values(settings, chosen[0].point)),
      tuple(chosen),
      traced,
    )
    for chosen in same.values()
  ]


def pad(members: Sequence[Member], size: int) -> list[Member]:
  """The first members, filled up with the last one to a number of them."""
  chosen = list(members[:size])
  return chosen + [chosen[-1]] * (size - len(chosen))


def _is_number(path, members) -> bool:
  if not path.startswith(TRACED):
    return False
  values = [np.asarray(m.point[path]) for m in members]
  return (
    len({v.shape for v in values}) == 1
    and all(v.dtype.kind in 'if' for v in values)
    and any(v.dtype.kind == 'f' for v in values)
    and any(not np.array_equal(v, values[0]) for v in values)
  )


def _can_trace(experiment, path, member) -> bool:
  value = jax.numpy.asarray(member.point[path], float)
  batch = jax.tree.map(
    lambda s: jax.numpy.zeros(s.shape, s.dtype), experiment.batch_shapes()
  )

  def step(value):
    hyper = {path: value}
    state = experiment.make_state(member.seed, hyper)
    return experiment.make_step(hyper=hyper)(state._replace(step=0), batch)

  try:
    jax.eval_shape(step, value)
  except Exception as error:
    if _is_about_tracing(error):
      return False
    raise
  return True


def _is_about_tracing(error: BaseException | None) -> bool:
  kinds = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
  )
  while error is not None:
    if isinstance(error, kinds):
      return True
    error = error.__cause__ or error.__context__
  return False
