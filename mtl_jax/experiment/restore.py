"""Members of a work directory, opened with their best parameters."""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

import jax

from mtl_jax import data
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  workdir as workdir_lib,
)
from mtl_jax.reporting import whole_files
from mtl_jax.training import checkpoints


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
  """One trained member of a work directory.

  Attributes:
    workdir: of its run.
    place: where it lies there.
    experiment: tasks, data and model.
    params: parameters.
    model_state: batch statistics and the like.
    step: that they are of.
  """

  workdir: workdir_lib.Workdir
  place: workdir_lib.Place
  experiment: build.Experiment
  params: Any
  model_state: Any
  step: int


def open_member(
  path: pathlib.Path | str,
  method: str | None = None,
  member: int | None = None,
  *,
  best: str = '',
  sources: build.Sources | None = None,
  predicts: bool = False,
) -> Opened:
  """A member of a run, or of a method of a study, and its best parameters.

  Args:
    path: the work directory.
    method: of a study.
    member: index; None where there is one only.
    best: the criterion, of ``training.select`` and ``training.keep_best``; the
      first by default.
    sources: data at hand; read as the run did by default.
    predicts: whether nothing but predictions is asked for, for which the data
      of the run need not be at hand: without sources they are not read.

  Raises:
    ValueError: listing what there is, if the choice is not one member.
  """
  workdir, settings, place = choose(path, method, member)
  settings = settings_lib.with_values(settings, place.point)
  params, model_state, info, step = open_best(workdir, place, best)
  _check_facts(workdir.path, settings, info['facts'])
  encoders, facts = decode_encoders(info), decode_facts(info)
  if predicts and sources is None:
    sources = build.Sources(
      {
        name: data.blank(encoder, facts[name])
        for name, encoder in encoders.items()
        # What derives features is of the data set.
        if not any(c.kind == 'derived' for c in encoder.columns.values())
      }
    )
  experiment = build.build(
    settings,
    encoders=encoders,
    facts=facts,
    sources=sources,
  )
  prints = {} if predicts else experiment.fingerprints()
  folder = workdir.program(place.group)
  for difference in workdir_lib.other_data(folder, prints):
    print(
      f'The data are not those of the training: {difference} than '
      f'{workdir.path} was trained on.',
      flush=True,
    )
  return Opened(
    workdir=workdir,
    place=place,
    experiment=experiment,
    params=params,
    model_state=model_state,
    step=step,
  )


def open_best(
  workdir: workdir_lib.Workdir, place: workdir_lib.Place, criterion: str = ''
) -> tuple[Any, Any, dict[str, Any], int]:
  """Best parameters of a member, or its newest while there are no best.

  Returns:
    Parameters, model state, what the checkpoint says besides, and the step
    that the parameters are of.

  Raises:
    ValueError: if the run has no checkpoint yet, or kept no best by that
      criterion.
  """
  folder = workdir.program(place.program) / 'checkpoints'
  store = checkpoints.Checkpoints(folder)
  restored = store.restore_any(('best',))
  if restored is None:
    raise ValueError(
      f'Expected a checkpoint in {workdir.path}, found none; the run has not '
      'come to its first evaluation yet, or diverged before it: train on, or '
      'see outcomes.json.'
    )
  info = restored.info
  criteria, progress = info['criteria'], info['members'][place.row]
  if progress['best_step'] is None and progress['diverged_at'] is not None:
    store.close()
    raise ValueError(
      f'Expected parameters of a member of {workdir.path}, found that member '
      f'{place.index} diverged at step {progress["diverged_at"]}, before its '
      'first evaluation; open another one.'
    )
  criterion = criterion or criteria[0]
  if criterion not in criteria:
    store.close()
    raise ValueError(
      'Expected a criterion that the run kept its best parameters by '
      f'({", ".join(criteria)}), found {criterion!r}; set training.keep_best.'
    )
  tree = restored.trees['best'][str(criteria.index(criterion))]
  first = [progress['best_score'], progress['best_step']]
  _, step = progress['best_of'].get(criterion, first)
  if step is None:
    newest = store.restore_any(('state',))
    assert newest is not None
    tree, step = newest.trees['state'], newest.step
  store.close()
  params, model_state = (
    jax.tree.map(lambda x: x[place.row], tree.get(part) or {})
    for part in ('params', 'model_state')
  )
  return params, model_state, info, step


def read(
  path: pathlib.Path | str,
) -> tuple[workdir_lib.Workdir, settings_lib.Settings]:
  """The settings of a run that was started in the directory.

  Raises:
    ValueError: if there is none, or it was of a problem without a model.
  """
  workdir = workdir_lib.Workdir(pathlib.Path(path))
  file = workdir.path / workdir_lib.CONFIG
  if not file.exists():
    raise ValueError(
      f'Expected the work directory of a run, found no {file}; train first, '
      'with the same --workdir.'
    )
  settings = settings_lib.from_config(whole_files.read_json(file))
  if settings.problem.name:
    raise ValueError(
      f'Expected the work directory of a trained model, found one of the '
      f'problem {settings.problem.name!r} in {workdir.path}; its tables are in '
      'report.html.'
    )
  return workdir, settings


def _beside(path):
  """Runs of a study that are no methods, and are opened by their folders."""
  folders = [path / name for name in ('twins', 'tuning')]
  runs = [str(p / 'NAME') for p in folders if p.is_dir()]
  return f', or open {" or ".join(runs)}' if runs else ''


def choose(
  path: pathlib.Path | str, method: str | None, member: int | None
) -> tuple[workdir_lib.Workdir, settings_lib.Settings, workdir_lib.Place]:
  """One member of a work directory of any number of them.

  Args:
    path: of the directory, of a run or a study.
    method: of a study; None where there is no choice.
    member: its index; None where there is one only.

  Raises:
    ValueError: listing what there is, if the choice is not one member.
  """
  workdir, settings = read(path)
  methods = workdir.methods()
  if methods:
    if method not in methods:
      which = 'none chosen' if method is None else repr(method)
      raise ValueError(
        f'Expected one of the methods of {workdir.path} ({", ".join(methods)}'
        f'), found {which}; name it, as in method={methods[0]!r} or '
        f'--method={methods[0]}{_beside(workdir.path)}.'
      )
    workdir, settings = read(workdir.path / workdir_lib.METHODS / str(method))
  elif method is not None:
    raise ValueError(
      f'Expected no method for {workdir.path}, which is one run, found '
      f'{method!r}; remove it.'
    )
  places = workdir.places()
  if member is None and len(places) == 1:
    member = places[0].index
  for place in places:
    if place.index == member:
      return workdir, settings, place
  named = ', '.join(
    f'{p.index} (seed {p.seed}'
    + ''.join(f', {key} = {x}' for key, x in p.point.items())
    + ')'
    for p in places[:8]
  )
  more = ', ...' if len(places) > 8 else ''
  which = 'none chosen' if member is None else str(member)
  raise ValueError(
    f'Expected one of the members of {workdir.path}: {named}{more}; found '
    f'{which}; name it, as in member={places[0].index} or '
    f'--member={places[0].index}.'
  )


def _check_facts(path, settings, facts) -> None:
  """Raises if checkpoints of an earlier version lack what a task needs."""
  for name in settings.tasks or settings.targets:
    spec = settings.targets[name]
    scaled = spec.get('kind') == 'regression' and spec.get('standardize', True)
    stream = spec.get('stream', 'main')
    if scaled and spec.get('per_step') and 'pooled' not in facts[stream]:
      raise ValueError(
        f'Expected mean and deviation over all steps of the labels of task '
        f'{name!r} in the checkpoints of {path}, found none, for an earlier '
        'version wrote them; train again, in a new --workdir.'
      )


def decode_encoders(info: Mapping[str, Any]) -> dict[str, data.Encoder]:
  """The encoders that `facts_of` stored in a checkpoint."""
  return {
    name: data.Encoder.from_json(text)
    for name, text in info['encoders'].items()
  }


def decode_facts(info: Mapping[str, Any]) -> dict[str, data.DataInfo]:
  """The facts of the data that a checkpoint was trained on, by stream."""
  decoded = {}
  for name, facts in info['facts'].items():
    fields: dict[str, Any] = {key: _tuples(x) for key, x in facts.items()}
    decoded[name] = data.DataInfo(**fields)
  return decoded


def _tuples(mapping):
  # JSON has no tuples.
  return {
    key: tuple(x) if isinstance(x, list) else x for key, x in mapping.items()
  }
