"""Rankings of a recommender's members: kept, compared, shown and drawn."""

from collections.abc import Sequence
import pathlib
from typing import Any, NamedTuple

import jax

from mtl_jax import reporting
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  cold_ranking,
  log_tasks,
  ranking_figures,
  ranking_report,
  restore,
  workdir as workdir_lib,
)
from mtl_jax.recommendation import protocols
from mtl_jax.training import loop


def keep(
  program: Any, tree: Any, progress: Sequence[loop.MemberProgress]
) -> None:
  """Writes how each member of a recommender ranks the test targets.

  Args:
    program: a `run.Program`.
    tree: its best parameters and model states, leaves ``[P, ...]``.
    progress: of its members.
  """
  experiment = program.group.experiment
  tree = jax.device_get((tree['params'], tree['model_state']))
  # Who diverged before any evaluation has no parameters that rank.
  trees = {
    member.index: jax.tree.map(lambda x, i=i: x[i], tree)
    for i, (member, own) in enumerate(
      zip(program.members, progress, strict=False)
    )
    if own.best_step is not None or own.diverged_at is None
  }
  _keep(experiment, program.folder, trees)


def keep_again(path: pathlib.Path | str) -> None:
  """Measures the members of an ended run anew, by their best parameters.

  For runs of an earlier version, which measured otherwise.

  Args:
    path: the work directory of a recommender.
  """
  workdir, _ = restore.read(path)
  sources = build.Sources()
  for place in workdir.places():
    folder = workdir.program(place.program)
    if _ranked(folder, place.index).exists():  # else it diverged
      one = restore.open_member(path, None, place.index, sources=sources)
      trees = {place.index: (one.params, one.model_state)}
      _keep(one.experiment, folder, trees)


def _keep(experiment, folder, trees) -> None:
  """Measures models, ``{index of a member: (parameters, state)}``."""
  split: Any = ranking_report.split_of(experiment)
  targets = split.target_hash()
  own = [(cold_ranking.as_new(experiment, x), y) for x, y in trees.values()]
  for index, measured in zip(
    trees, ranking_report.measure(experiment, own), strict=True
  ):
    ranking_report.save(_ranked(folder, index), measured, targets)
  if split.protocol != cold_ranking.PROTOCOL or experiment.item_task is None:
    return
  for index, (params, state) in zip(trees, own, strict=True):
    ranked = cold_ranking.measure(experiment, params, state, seed=index)
    cold_ranking.save(_cold(folder, index), ranked, targets)


class _Group(NamedTuple):
  """Members that are measured on the same targets in the same way.

  Attributes:
    settings: of one of them.
    point: values of a sweep that all of them have, and others do not.
    places: by the values that differ between them.
  """

  settings: settings_lib.Settings
  point: str
  places: dict[str, list[workdir_lib.Place]]

  def read(self, workdir, split, name_of, load) -> dict[str, list[Any]]:
    """Files of the members, by the names of `places`."""
    return _read(workdir, self.places, split, name_of, load)


def _groups(
  settings: settings_lib.Settings, workdir: workdir_lib.Workdir
) -> list[_Group]:
  """Groups of a recommender's members, in their order; of other models none."""
  places = workdir.places()
  grouped: dict[Any, list[workdir_lib.Place]] = {}
  settings_of = {}
  for place in places:
    own = settings_lib.with_values(settings, place.point)
    log = log_tasks.of(own)
    if log is not None:
      grouped.setdefault(log.key, []).append(place)
      settings_of.setdefault(log.key, own)
  varying = _varying(places)
  return [
    _Group(
      settings_of[key],
      _told(members[0], varying - _varying(members)),
      _by_point(members),
    )
    for key, members in grouped.items()
  ]


def _varying(places) -> set[str]:
  """Settings of which the points of members have different values."""
  first = places[0].point
  return {x for x in first if any(y.point[x] != first[x] for y in places)}


def _told(place, paths) -> str:
  """Values of a point, of these settings."""
  return ', '.join(f'{x} {place.point[x]}' for x in place.point if x in paths)


def _by_point(places) -> dict[str, list[workdir_lib.Place]]:
  """Members by the values that differ between them."""
  named: dict[str, list[workdir_lib.Place]] = {}
  for place in places:
    name = _told(place, _varying(places)) or ranking_report.MODEL
    named.setdefault(name, []).append(place)
  return named


def _read(workdir, named, split, name_of, load) -> dict[str, list[Any]]:
  """Rankings of a split by members; of those that diverged there are none."""
  files = {
    name: [name_of(workdir.program(x.program), x.index) for x in places]
    for name, places in named.items()
  }
  kept = {
    name: [load(path, split) for path in paths if path.exists()]
    for name, paths in files.items()
  }
  return {name: members for name, members in kept.items() if members}


def _compare(settings, workdir) -> list[tuple[_Group, Any]]:
  """A recommender beside simple ones, by the targets it is measured on."""
  compared = []
  for group in _groups(settings, workdir):
    log: Any = log_tasks.of(group.settings)
    models = group.read(workdir, log.split, _ranked, ranking_report.load)
    one = ranking_report.compare(group.settings, models, point=group.point)
    compared.append((group, one))
  return compared


def show(
  settings: settings_lib.Settings, workdir: workdir_lib.Workdir
) -> list[reporting.ResultTable]:
  """Tables of a recommender, printed, and pictures beside the record.

  Members whose data differ have tables of their own; other models have none.
  """
  shown = []
  for number, (group, compared) in enumerate(_compare(settings, workdir)):
    tables = ranking_report.tables(compared)
    split = compared.outcome.split
    cold = group.read(workdir, split, _cold, cold_ranking.load)
    if cold:
      own = cold_ranking.table(split, cold, compared.k, compared.data)
      tables.insert(1, own)
    for table in tables:
      reporting.show(table)
    figure = ranking_figures.by_history(compared)
    if figure is not None and jax.process_index() == 0:
      file = workdir.path / ranking_figures.HISTORIES
      stem = f'{file.stem}_{number}' if number else file.stem
      ranking_figures.write(figure, file.with_stem(stem))
    shown += tables
  return shown


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
  runs = [one for path in paths for one in _all_compared(path)]
  figure = ranking_figures.placebos(runs)
  if figure is not None:
    ranking_figures.write(figure, pathlib.Path(target))
  arms = {one.arm: one for one in runs}
  for table in ranking_report.by_arm(arms):
    reporting.show(table)


def compared_of(path: pathlib.Path | str) -> ranking_report.Compared:
  """The models of an ended run beside simple ones.

  Raises:
    ValueError: if the run is of no recommender, or a sweep over its data.
  """
  compared = _all_compared(path)
  if len(compared) > 1:
    raise ValueError(
      f'Expected a run of one log and protocol in {path}, found '
      f'{"; ".join(one.point for one in compared)}; give a run of one of them.'
    )
  return compared[0]


def _all_compared(path) -> list[ranking_report.Compared]:
  """Models of an ended run beside simple ones, by their targets."""
  workdir, _ = restore.read(path)
  # Of a study a method is to be chosen, which is then said.
  first = None if workdir.methods() else workdir.places()[0].index
  workdir, settings, _ = restore.choose(path, None, first)
  compared = [one for _, one in _compare(settings, workdir)]
  if not compared:
    raise ValueError(
      f'Expected runs with tasks of a log of users and items, found none in '
      f'{path}; give the work directory of a recommender.'
    )
  return compared


def measured_of(
  path: pathlib.Path | str, split: protocols.Split
) -> dict[str, list[ranking_report.Measured]]:
  """Rankings of a split by the models of an ended run, by point and seed.

  Raises:
    ValueError: if the run is of other targets.
  """
  return _read_run(path, split, _ranked, ranking_report.load)


def cold_of(
  path: pathlib.Path | str, split: protocols.Split
) -> dict[str, list[cold_ranking.Ranked]]:
  """Rankings of cold items by the models of an ended run, by point and seed.

  Raises:
    ValueError: if the run is of other targets.
  """
  return _read_run(path, split, _cold, cold_ranking.load)


def _read_run(path, split, name_of, load) -> dict[str, list[Any]]:
  """Files of the members of an ended run, by point and seed."""
  opened, _ = restore.read(path)
  return _read(opened, _by_point(opened.places()), split, name_of, load)


def _cold(folder: pathlib.Path, index: int) -> pathlib.Path:
  """File with the places of a member's cold targets."""
  return folder / f'cold_{index}.npz'


def _ranked(folder: pathlib.Path, index: int) -> pathlib.Path:
  """File with the ranking of a member."""
  return folder / f'ranking_{index}.npz'
