"""A study on an analytic problem: the same record, from the paths of its runs.

A run of a method is a member of the record, with its seed, start and
preference; the measures of a problem are its metrics.
"""

from collections.abc import Mapping
import pathlib
from typing import Any

import jax
import numpy as np

from mtl_jax import problems, reporting
from mtl_jax.config import settings as settings_lib
from mtl_jax.reporting import results_file as results
from mtl_jax.studies import (
  page,
  pareto,
  plan,
  problem_pictures,
  record,
  study_tables,
  summary as summary_lib,
)

GRID = 240  # points a side of a drawn surface
# Measures without a direction: tilt says which of two tasks was served.
HIGHER_IS_BETTER = {'hypervolume_ratio': True, 'tilt': None}
NEED_FRONT = ('distance', 'imbalance', 'optimum_gap', 'tilt')


def measures_of(problem: problems.Problem) -> list[str]:
  """All measures that claims on a problem may be about."""
  names = [
    name
    for name in problems.MEASURES
    if problem.pareto_set is not None or name not in NEED_FRONT
  ]
  if problem.reference is not None and problem.num_tasks == 2:
    names.append('hypervolume_ratio')
  return names


def statistics_of(problem: problems.Problem) -> list[str]:
  """All numbers that claims on a problem may be about, see `claims.check`."""
  of_task = ('relative/{}', '{}/loss', '{}/first_loss')
  return measures_of(problem) + [
    name.format(task) for task in problem.tasks for name in of_task
  ]


def hypervolume_ratio(
  problem: problems.Problem, end: problems.End
) -> np.ndarray:
  """Hypervolume of the ends of all preferences over that of the front.

  Returns:
    ``[N, S, 1]``: one number for all preferences of a seed and a start.
  """

  def volume(points):
    return pareto.hypervolume(points, problem.reference, [False, False])

  whole = volume(problems.front_of(problem))
  shape = end.last.shape
  volumes = [volume(points) for points in end.last.reshape(-1, *shape[2:])]
  return np.reshape(volumes, (*shape[:2], 1)) / whole


def finish(
  path: pathlib.Path, study: record.Study, paths: problem_pictures.Paths
) -> summary_lib.Summary:
  """Writes record and page of a study on a problem, and prints its tables.

  Args:
    path: the work directory.
    study: of `make_study`.
    paths: that pictures show, of `make_paths`.
  """
  record.write(path, study)
  paths.write(path)
  # As it will be read again: what is not a number is none.
  summary = page.summarise(record.read(path))
  for table in study_tables.screen(summary):
    reporting.show(table)
  written = page.write_page(path, summary, study.config['study']['columns'])
  print(f'Report: {written}', flush=True)
  return summary


def make_study(
  settings: settings_lib.Settings,
  problem: problems.Problem,
  members: problems.ProblemMembers,
  paths: Mapping[str, problems.Path],
  *,
  shape: tuple[int, int, int],
  cost: Mapping[str, record.Cost] | None = None,
  seconds: float | None = None,
  name: str = '',
) -> record.Study:
  """The record of a study on a problem.

  Args:
    settings: with a problem.
    problem: that the methods ran on.
    members: P of each method.
    paths: method -> ``losses [P, T + 1, K]`` and ``params``.
    shape: seeds, starts and preferences; their product is P.
    cost: by method.
    seconds: that all of it took.
    name: the title.
  """
  entries = {entry.name: entry for entry in plan.list_methods(settings)}
  return record.Study(
    name=name,
    config=settings_lib.plain(settings),
    tasks=[record.TaskRecord(name=task) for task in problem.tasks],
    metrics=[
      record.MetricRecord(
        task='',
        metric=measure,
        higher_is_better=HIGHER_IS_BETTER.get(measure, False),
      )
      for measure in _shown(problem, paths, shape)
    ],
    control=settings.study.control,
    methods=[
      record.Method(
        name=label,
        label=entries[label].label,
        family=entries[label].family,
        runs=_members(settings, problem, members, path, shape),
        cost=(cost or {}).get(label, record.Cost()),
        options={
          'combinator': settings_lib.plain(entries[label].settings.combinator)
        },
      )
      for label, path in paths.items()
    ],
    absent=dict(settings.study.absent),
    claims=settings.study.claims,
    problem={
      'name': settings.problem.name,
      'starts': list(problem.starts),
      'steps': settings.training.steps,
      'shape': list(shape),
    },
    seconds=seconds,
    environment=results.environment(),
  )


def end_of(path: problems.Path, shape: tuple[int, int, int]) -> problems.End:
  """The first and last records, with axes for seeds, starts, preferences."""
  losses = np.asarray(path.losses)
  losses = losses.reshape(*shape, *losses.shape[1:])
  params = None
  if isinstance(path.params, np.ndarray) and path.params.ndim == 3:
    params = path.params[:, -1].reshape(*shape, -1)
  return problems.End(losses[..., 0, :], losses[..., -1, :], params)


def _shown(problem, paths, shape) -> list[str]:
  """The measures of the table of methods."""
  names = problems.applicable(problem)
  ends = [end_of(path, shape) for path in paths.values()]
  if not all((e.first > 0).all() and (e.last > 0).all() for e in ends):
    # A ratio of losses means nothing where they change their sign.
    names = [name for name in names if 'relative' not in name]
  if 'hypervolume_ratio' in measures_of(problem) and shape[2] > 1:
    names.append('hypervolume_ratio')
  return names


def _members(settings, problem, members, path, shape):
  """The records of a method's runs, in the order of its members."""
  end = end_of(path, shape)
  values = {}
  with np.errstate(divide='ignore', invalid='ignore'):
    for name in measures_of(problem):
      if name == 'distance' and end.params is None:
        continue
      measure = problems.MEASURES.get(name, hypervolume_ratio)
      values[name] = measure(problem, end)  # [N, S, R or 1]
    for task in problem.tasks:
      values[f'relative/{task}'] = problems.task_loss(task)(problem, end)
  for k, task in enumerate(problem.tasks):
    values[f'{task}/loss'] = end.last[..., k]
    values[f'{task}/first_loss'] = end.first[..., k]
  finite = np.isfinite(path.losses).all(-1)  # [P, T + 1]
  runs = []
  for p, place in enumerate(np.ndindex(*shape)):
    point: dict[str, Any] = {'start': problem.starts[int(members.start[p])]}
    if members.preference is not None:
      point['preference'] = float(members.preference[p, 0])
    lost = not finite[p, -1]
    first = int(np.argmin(finite[p])) * settings.problem.record_every
    runs.append(
      record.MemberRecord(
        seed=int(members.seed[p]),
        point=point,
        status='diverged' if lost else 'finished',
        diverged_at=first if lost else None,
        metrics={
          name: float(x[place[:2]][place[2] if x.shape[2] > 1 else 0])
          for name, x in values.items()
          # One number for all preferences stands with the first.
          if x.shape[2] > 1 or place[2] == 0
        },
      )
    )
  return runs


def make_paths(
  settings: settings_lib.Settings,
  problem: problems.Problem,
  paths: Mapping[str, problems.Path],
  shape: tuple[int, int, int],
) -> problem_pictures.Paths:
  """Paths that the pictures show; arguments as of `make_study`."""
  surface = {}
  if problem.window is not None:
    (low1, high1), (low2, high2) = problem.window
    x = np.linspace(low1, high1, GRID, dtype=np.float32)
    y = np.linspace(low2, high2, GRID, dtype=np.float32)
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    values = jax.jit(jax.vmap(lambda p: problem.losses(p, None)))(points)
    mean = np.asarray(values).mean(-1).reshape(GRID, GRID)
    surface = {'x': x, 'y': y, 'mean': mean}
  times = len(next(iter(paths.values())).losses[0])
  return problem_pictures.Paths(
    tasks=tuple(problem.tasks),
    starts=tuple(problem.starts),
    shape=shape,
    steps=np.arange(times) * settings.problem.record_every,
    losses={label: np.asarray(x.losses) for label, x in paths.items()},
    params={k: np.asarray(x.params) for k, x in paths.items() if surface},
    labels=problem.labels,
    pareto_set=problem.pareto_set,
    front=problem.pareto_front(),
    surface=surface,
  )
