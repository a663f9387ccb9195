"""Rankings of a recommender's members: kept, compared, shown and drawn."""

from collections.abc import Sequence
import pathlib
from typing import Any

import jax

from mtl_jax import reporting
from mtl_jax.experiment import (
  build,
  cold_ranking,
  ranking_figures,
  ranking_report,
  restore,
  workdir as workdir_lib,
)
from mtl_jax.recommendation import protocols
from mtl_jax.training import loop


def keep(program: Any, tree: Any, progress: Sequence[loop.Progress]) -> None:
  """Writes how each member of a recommender ranks the test targets.

  Args:
    program: a `run.Program`.
    tree: its best parameters and model states, leaves ``[P, ...]``.
    progress: of its members.
  """
  experiment = program.group.experiment
  split = ranking_report.split_of(experiment)
  if split is None:
    return
  tree = jax.device_get((tree['params'], tree['model_state']))
  # Who diverged before any evaluation has no parameters that rank.
  some = [
    (i, member)
    for i, (member, own) in enumerate(
      zip(program.members, progress, strict=False)
    )
    if own.best_step is not None or own.diverged_at is None
  ]
  own = [jax.tree.map(lambda x, i=i: x[i], tree) for i, _ in some]
  for (_, member), measured in zip(
    some, ranking_report.measure(experiment, own), strict=True
  ):
    ranking_report.save(
      _ranked(program.folder, member.index), measured, split.target_hash()
    )
  if split.protocol != cold_ranking.PROTOCOL:
    return
  for (_, member), (params, state) in zip(some, own, strict=True):
    ranked = cold_ranking.measure(experiment, params, state, seed=member.index)
    cold_ranking.save(
      _cold(program.folder, member.index), ranked, split.target_hash()
    )


def _compared(
  experiment: build.Experiment, workdir: workdir_lib.Workdir
) -> ranking_report.Compared | None:
  """A recommender beside simple ones; None for other models."""
  split = ranking_report.split_of(experiment)
  if split is None:
    return None
  found = measured_of(workdir.path, split)
  return ranking_report.compare(experiment, found)


def _by_point(workdir, split, name_of, read) -> dict[str, list[Any]]:
  """Rankings of a split by the members, by their point of the sweep."""
  found: dict[str, list[Any]] = {}
  for place in workdir.places():
    file = name_of(workdir.program(place.program), place.index)
    point = ', '.join(f'{key} {value}' for key, value in place.point.items())
    if file.exists():  # else it diverged
      found.setdefault(point or ranking_report.MODEL, []).append(
        read(file, split)
      )
  return found


def show(
  experiment: build.Experiment, workdir: workdir_lib.Workdir
) -> list[reporting.Table]:
  """Tables of a recommender, printed, and its picture beside the record."""
  compared = _compared(experiment, workdir)
  if compared is None:
    return []
  tables = ranking_report.tables(compared)
  split = compared.outcome.split
  cold = _by_point(workdir, split, _cold, cold_ranking.load)
  if cold:
    tables.insert(1, cold_ranking.table(split, cold, compared.k, compared.data))
  for table in tables:
    reporting.show(table)
  figure = ranking_figures.by_history(compared)
  if figure is not None and jax.process_index() == 0:
    ranking_figures.write(figure, workdir.path / ranking_figures.HISTORIES)
  return tables


def draw_placebos(
  paths: Sequence[pathlib.Path | str], target: pathlib.Path | str
) -> None:
  """Draws runs with the data and with placebos beside each other, as a PNG.

  The same is printed as tables, of all tasks.

  Args:
    paths: work directories of ended runs, of one or more members, of one
      config that differ in the arm of the log.
    target: the file.

  Raises:
    ValueError: if a run is of no recommender, or they cannot be compared.
  """
  runs = [compared_of(path) for path in paths]
  figure = ranking_figures.placebos(runs)
  if figure is not None:
    ranking_figures.write(figure, pathlib.Path(target))
  arms = {one.arm: one for one in runs}
  for table in ranking_report.by_arm(arms):
    reporting.show(table)


def compared_of(path: pathlib.Path | str) -> ranking_report.Compared:
  """The models of an ended run beside simple ones.

  Raises:
    ValueError: if the run is of no recommender.
  """
  opened = _opened(path)
  compared = _compared(opened.experiment, opened.workdir)
  if compared is None:
    raise ValueError(
      f'Expected runs with a task of the next item, found none in {path}; '
      'give the work directory of a recommender.'
    )
  return compared


def measured_of(
  path: pathlib.Path | str, split: protocols.Split
) -> dict[str, list[ranking_report.Measured]]:
  """Rankings of a split by the models of an ended run, by point and seed."""
  opened, _ = workdir_lib.read(path)
  return _by_point(opened, split, _ranked, ranking_report.load)


def cold_of(
  path: pathlib.Path | str, split: protocols.Split
) -> dict[str, list[cold_ranking.Ranked]]:
  """Rankings of cold items by the models of an ended run, by point and seed."""
  opened, _ = workdir_lib.read(path)
  return _by_point(opened, split, _cold, cold_ranking.load)


def _opened(path):
  workdir, _ = workdir_lib.read(path)
  # Of a study a method is to be chosen, which is then said.
  first = None if workdir.methods() else workdir.places()[0].index
  return restore.open_member(path, None, first)


def _cold(folder: pathlib.Path, index: int) -> pathlib.Path:
  """File with the places of a member's cold targets."""
  return folder / f'cold_{index}.npz'


def _ranked(folder: pathlib.Path, index: int) -> pathlib.Path:
  """File with the ranking of a member."""
  return folder / f'ranking_{index}.npz'
