"""Points of a sweep: whether they go together, and which are one program."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import checks

# Numbers of these sections can be arrays; all else makes another program.
TRACED = ('optimizer.', 'combinator.')


def check(settings: settings_lib.Settings) -> None:
  """Raises a ValueError for points that are not different ones of one run."""
  points = [dict(point) for point in settings.population.sweep]
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


def split(
  settings: settings_lib.Settings,
  members: Sequence[Any],
  make: Callable[[settings_lib.Settings], Any],
) -> list[tuple[Any, tuple[Any, ...], tuple[str, ...]]]:
  """Members that are one program: see `members.group`.

  Whether a number can be an array is tried: a method that needs its value when
  the program is made gets one program per value.

  Returns:
    Of each program its experiment, its members, and the settings of numbers
    that are arrays in it.
  """
  numbers = [path for path in members[0].point if _is_number(path, members)]
  first = make(settings_lib.with_values(settings, members[0].point))
  traced = tuple(
    path for path in numbers if _can_trace(first, path, members[0])
  )
  for member in members:  # A number that is traced is not looked at.
    checks.check_numbers(settings_lib.with_values(settings, member.point))
    first.make_method({path: member.point[path] for path in traced})
  same: dict[tuple, list[Any]] = {}
  for member in members:
    fixed = tuple(
      (path, repr(value))  # whole sections are no keys
      for path, value in member.point.items()
      if path not in traced
    )
    same.setdefault(fixed, []).append(member)
  return [
    (
      first
      if chosen[0] is members[0]
      else make(settings_lib.with_values(settings, chosen[0].point)),
      tuple(chosen),
      traced,
    )
    for chosen in same.values()
  ]


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
