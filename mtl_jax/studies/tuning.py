"""Random search on the validation split, with the same budget for everyone."""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import population
from mtl_jax.reporting import files
from mtl_jax.studies import plan, record


def tune(
  entry: plan.Entry,
  number: int,
  workdir: pathlib.Path,
  loaded: Mapping[str, Any] | None = None,
) -> tuple[settings_lib.Settings, list[record.Trial]] | None:
  """Tries some points, and takes the best by the validation split.

  The points of an entry are one population. The test split is not touched.

  Args:
    entry: a method or a twin.
    number: of trials.
    workdir: of the trials.
    loaded: data at hand, by stream.

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
  outcomes = population.train(settings, workdir, loaded=loaded, test=False)
  if outcomes is None:
    return None
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
  chosen = settings_lib.with_values(entry.settings, best.point)
  files.write_json(
    workdir / 'trials.json',
    files.plain([dataclasses.asdict(trial) for trial in trials]),
  )
  return chosen, trials


def _validation(outcome: population.MemberOutcome) -> float:
  return -float('inf') if outcome.validation is None else outcome.validation
