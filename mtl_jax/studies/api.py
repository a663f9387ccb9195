"""The way in: what ``launch.py`` and Python call."""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
import tempfile
from typing import Any

import jax

from mtl_jax.config import sections, settings as settings_lib
from mtl_jax.experiment import (
  build,
  dry_run as dry_run_lib,
  evaluate as evaluate_lib,
  outcome as outcome_lib,
  predict as predict_lib,
  run as run_lib,
  trained,
)
from mtl_jax.studies import page, problem_run, study


def run(
  config: Any,
  workdir: os.PathLike | str | None = None,
  *,
  data: Mapping[str, Any] | None = None,
  combinator: Any = None,
  trunk: Any = None,
  tune: bool = False,
  dry_run: bool = False,
  profile: bool = False,
) -> outcome_lib.Outcome:
  """Trains, evaluates and reports: what ``launch.py`` does.

  A run alone, a population (``config.population``), a study of methods
  (``config.study``) and an analytic problem (``config.problem``) are called the
  same way. A work directory with an unfinished run of the same config is
  resumed.

  Args:
    config: from `mtl_jax.default_config` or `mtl_jax.load_config`.
    workdir: where checkpoints, record and report go; a new temporary folder
      by default, which the outcome names.
    data: ``{stream: {split: {column: [N, ...]}}}``, arrays in memory in place
      of the config's data, with the splits 'train', 'validation' and 'test';
      the first stream is called 'main'. Or ``{stream: mtl_jax.data.Data}``.
    combinator: a method's function, or ``{'name': function, option: value}``,
      in place of ``config.combinator``.
    trunk: a Flax module's class, or ``{'name': class, field: value}``, in place
      of ``config.model.trunk``.
    tune: end after the tuning of a study.
    dry_run: only say what would be run.
    profile: also trace ten steps of a run alone.

  Returns:
    The outcome on the test split, whatever the number of members and methods.

  Raises:
    ValueError: in one sentence, for a config that does not fit together.
    NonFiniteError: if a run alone diverges.
  """
  settings = settings_lib.from_config(config)
  if combinator is not None:
    settings = settings_lib.with_values(
      settings, {'combinator': _spec(combinator)}
    )
  if trunk is not None:
    settings = settings_lib.with_values(settings, {'model.trunk': _spec(trunk)})
  if workdir is None:
    workdir = tempfile.mkdtemp(prefix='mtl_jax_')
  path = pathlib.Path(workdir)
  several = _is_study(settings) or not build.is_alone(settings)
  given = {'tune': tune, 'data': data is not None, 'profile': profile}
  given['trunk'] = trunk is not None
  _check_arguments(settings, several, [key for key in given if given[key]])
  sources = build.Sources(data)
  _prepare(several)
  if settings.problem.name:
    return problem_run.run(settings, path, dry_run=dry_run)
  if dry_run:
    for entry in study.entries(settings) if several else [settings]:
      dry_run_lib.dry_run(build.build(entry, sources=sources))
    return outcome_lib.Outcome(workdir=path, ended='dry run')
  if several:
    return study.run(settings, path, sources=sources, tune_only=tune)
  return run_lib.train(settings, path, sources=sources, profile=profile)


def _is_study(settings) -> bool:
  study = settings.study
  return bool(study.methods or study.twins or study.trials)


def _check_arguments(settings, several, given):
  """Raises for an argument or setting that `run` would not look at."""
  if settings.problem.name:
    if given:
      raise ValueError(
        f'Expected no {given[0]} with the problem {settings.problem.name!r}, '
        'which has no data, model, tuning or profile, found it; leave it out.'
      )
    return  # its settings are checked where it is built
  if 'tune' in given and not several:
    raise ValueError(
      'Expected a study to tune, found a run alone; set study.trials and '
      'study.draws, or leave the tuning out.'
    )
  start = sections.StudySettings()
  for field in dataclasses.fields(start):
    value = getattr(settings.study, field.name)
    if not several and value != getattr(start, field.name):
      raise ValueError(
        f'Expected a study for study.{field.name} = {value!r}, found a run '
        'alone; set study.methods or population.seeds, or remove it.'
      )
  if 'profile' in given and several:
    raise ValueError(
      'Expected a run alone to profile, found members of a population or a '
      'study; leave the profile out, or take one method and one seed.'
    )


def load(
  workdir: os.PathLike | str,
  method: str | None = None,
  member: int | None = None,
  *,
  best: str = '',
  data: Mapping[str, Any] | None = None,
) -> trained.Trained:
  """A trained model: its parameters, predictions, gradients and Gramians.

  Args:
    workdir: of a run or a study.
    method: of a study.
    member: its index, where there are several.
    best: the criterion that its parameters are the best by, one of
      ``training.select`` and ``training.keep_best``; the first by default.
    data: as it was given to `run`, if it was.

  Raises:
    ValueError: if there is no checkpoint in it; or listing what there is, if
      the choice is not one member.
  """
  return trained.load(
    pathlib.Path(workdir),
    method,
    member,
    best=best,
    sources=build.Sources(data),
  )


def evaluate(
  workdir: os.PathLike | str,
  method: str | None = None,
  member: int | None = None,
) -> outcome_lib.Outcome:
  """Prints the table of a member again, computed from its best checkpoint."""
  return evaluate_lib.evaluate(pathlib.Path(workdir), method, member)


def predict(
  workdir: os.PathLike | str,
  source: str | None,
  target: str | None = None,
  tasks: str = '',
  method: str | None = None,
  member: int | None = None,
) -> None:
  """Writes predictions for a file of examples: `predict.predict_file`."""
  predict_lib.predict_file(
    pathlib.Path(workdir), source, target, tasks, method, member
  )


def report(workdir: os.PathLike | str) -> pathlib.Path:
  """Writes tables and pictures again, from the record."""
  return page.write_any(pathlib.Path(workdir))


def use_all_cores() -> bool:
  """Makes a CPU device of each core, if JAX has not started yet.

  An accelerator is used as it is, and so is what the user asked of XLA.

  Returns:
    Whether members can be spread over all cores.
  """
  _allow_threads()
  asked = 'host_platform_device_count' in os.environ.get('XLA_FLAGS', '')
  number = os.cpu_count()
  if hasattr(os, 'sched_getaffinity'):
    number = len(os.sched_getaffinity(0))
  told = getattr(jax.config, 'jax_num_cpu_devices', -1) > 0
  if asked or told or not number:
    return True
  try:
    jax.config.update('jax_num_cpu_devices', number)
  except RuntimeError:  # It has started: its devices are what they are.
    return jax.device_count() > 1 or jax.default_backend() != 'cpu'
  return True


def _prepare(several: bool) -> None:
  """Sets XLA up for a run, before JAX starts.

  Args:
    several: whether the run has members that may be spread over devices.
  """
  _allow_threads()
  if several and not use_all_cores():
    print(
      'JAX has started with one device: members train on it one after the '
      'other or at once; mtl_jax.use_all_cores() before JAX starts makes one '
      'device per core, which is faster.',
      flush=True,
    )


def _allow_threads() -> None:
  """Sets the size of XLA's pool of threads on the CPU, if it is not set.

  Its programs wait for threads of the pool that they run in: with no more
  threads than devices they may deadlock. Many are slower.
  """
  os.environ.setdefault('NPROC', str(max(4, 2 * (os.cpu_count() or 1))))


def _spec(given: Any) -> Mapping[str, Any]:
  if isinstance(given, Mapping):
    return given
  if dataclasses.is_dataclass(given) and not isinstance(given, type):
    # An instance of a Flax module: its fields are its options.
    options = {
      field.name: getattr(given, field.name)
      for field in dataclasses.fields(given)
      if field.name not in ('parent', 'name')
    }
    return {'name': type(given), **options}
  return {'name': given}
