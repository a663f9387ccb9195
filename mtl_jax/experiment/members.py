"""Which members a population has, and which of them are one program."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build, start

# Numbers of these sections can be arrays; all else makes another program.
TRACED = ('optimizer.', 'combinator.')


@dataclasses.dataclass(frozen=True)
class Member:
  """One run of a population: its place, seed, and point of the sweep."""

  index: int
  seed: int
  point: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Group:
  """Members that are one program.

  Attributes:
    settings: of the first of them.
    members: with the same settings, but for the seed and some numbers.
    traced: those numbers' settings, in `TRACED` sections.
  """

  settings: settings_lib.Settings
  members: tuple[Member, ...]
  traced: tuple[str, ...]

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
  members = []
  for point in points:
    for i in range(max(section.seeds, 1)):
      members.append(Member(len(members), settings.seed + i, point))
  return members


def group(
  settings: settings_lib.Settings,
  members: Sequence[Member],
  loaded: Mapping[str, Any] | None = None,
) -> list[tuple[Group, build.Experiment]]:
  """Puts members together that differ in the seed and in numbers only.

  Whether a number can be an array is tried: a method that needs its value when
  the program is made gets one program a value.

  Returns:
    Groups in the order of their first members, each with what it is built of.
  """
  found: dict[tuple, list[Member]] = {}
  numbers = [path for path in members[0].point if _is_number(path, members)]
  first = build.build(
    settings_lib.with_values(settings, members[0].point), loaded=loaded
  )
  traced = tuple(
    path for path in numbers if _can_trace(first, path, members[0])
  )
  for member in members:
    fixed = tuple(
      (path, value)
      for path, value in member.point.items()
      if path not in traced
    )
    found.setdefault(fixed, []).append(member)
  groups = []
  for same in found.values():
    own = settings_lib.with_values(settings, same[0].point)
    experiment = first if not groups else build.build(own, loaded=loaded)
    groups.append((Group(own, tuple(same), traced), experiment))
  return groups


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

  def step(value):
    own = with_hyper(experiment, {path: value})
    state = start.make_init(own)()
    batch = own.batch_shapes()
    batch = jax.tree.map(lambda s: jax.numpy.zeros(s.shape, s.dtype), batch)
    return own.make_step()(state, batch)

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


def with_hyper(
  experiment: build.Experiment, hyper: Mapping[str, Any]
) -> build.Experiment:
  """The experiment with other numbers, which may be traced."""
  if not hyper:
    return experiment
  settings = settings_lib.with_values(experiment.settings, hyper)
  return experiment.with_settings(settings)
