"""The way in: what ``launch.py`` and Python call."""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
import tempfile
from typing import Any

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
from mtl_jax.studies import devices, page, problem_run, study

load = trained.load
evaluate = evaluate_lib.evaluate
predict = predict_lib.predict_file
report = page.write_any
use_all_cores = devices.use_all_cores


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
  asked = settings.study
  is_study = asked.methods or asked.twins or asked.trials
  several = bool(is_study) or not build.is_alone(settings)
  given = {'tune': tune, 'data': data is not None, 'profile': profile}
  given['trunk'] = trunk is not None
  _check_arguments(settings, several, [key for key in given if given[key]])
  sources = build.Sources(data)
  os.environ.setdefault('NPROC', devices.THREADS)
  if several:
    devices.spread_members()
  if settings.problem.name:
    return problem_run.run(settings, path, dry_run=dry_run)
  if dry_run:
    for entry in study.entries(settings) if several else [settings]:
      dry_run_lib.dry_run(build.build(entry, sources=sources))
    return outcome_lib.Outcome(workdir=path, ended='dry run')
  if several:
    return study.run(settings, path, sources=sources, tune_only=tune)
  return run_lib.train(settings, path, sources=sources, profile=profile)


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
