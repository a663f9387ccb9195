"""Random search on the validation split, with the same budget for everyone."""

import dataclasses
import pathlib

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  outcome as outcome_lib,
  run as run_lib,
)
from mtl_jax.reporting import whole_files
from mtl_jax.studies import plan, record


def tune(
  entry: plan.Entry,
  number: int,
  workdir: pathlib.Path,
  sources: build.Sources | None = None,
  title: str = '',
) -> tuple[settings_lib.Settings, list[record.Trial]] | None:
  """Tries some points, and takes the best by the validation split.

  The points of an entry are one population. The test split is not touched.

  Args:
    entry: a method or a twin.
    number: of trials.
    workdir: of the trials.
    sources: where data are read.
    title: printed when it begins.

  Returns:
    The entry's settings with the best point, and all trials; None if it was
    interrupted.

  Raises:
    ValueError: if no trial came to a score.
  """
  points = plan.trials(entry, number, entry.settings.seed)
  settings = dataclasses.replace(
    entry.settings,
    seed=entry.settings.seed + plan.TUNING_SEED,
    population=dataclasses.replace(
      entry.settings.population, seeds=1, sweep=points
    ),
  )
  outcome = run_lib.train(
    settings, workdir, sources=sources, test=False, title=title
  )
  if outcome.ended == 'interrupted':
    return None
  outcomes = outcome.members
  scored = [o for o in outcomes if o.validation is not None]
  if not scored:
    raise ValueError(
      f'Expected a validation score from one of {number} trials of '
      f'{entry.name!r}, found none; choose other bounds in study.draws.'
    )
  best = max(scored, key=_validation)
  trials = [
    record.Trial(
      method=entry.name,
      options=dict(o.point),
      validation=o.validation,
      seed=o.seed,
      chosen=o is best,
    )
    for o in outcomes
  ]
  chosen = settings_lib.with_values(entry.settings, points[best.index])
  if not (workdir / 'trials.json').exists():
    print(f'Chosen for {entry.name}: {dict(best.point)}', flush=True)
  whole_files.write_json(
    workdir / 'trials.json',
    whole_files.plain([dataclasses.asdict(trial) for trial in trials]),
  )
  return chosen, trials


def _validation(outcome: outcome_lib.MemberOutcome) -> float:
  return -float('inf') if outcome.validation is None else outcome.validation
