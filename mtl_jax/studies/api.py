"""The way in from Python: `mtl_jax.run` and `mtl_jax.load`."""

from collections.abc import Mapping
import pathlib
import tempfile
from typing import Any

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import run as run_lib, trained
from mtl_jax.studies import problem_run, summary as summary_lib


def load(
  workdir: pathlib.Path | str, *, data: Mapping[str, Any] | None = None
) -> trained.Trained:
  """A trained model: its parameters, predictions, gradients and Gramians.

  Args:
    workdir: of a run.
    data: as it was given to `run`, if it was.

  Raises:
    ValueError: if there is no checkpoint in it.
  """
  return trained.load(workdir, data)


def run(
  config: Any,
  workdir: pathlib.Path | str | None = None,
  *,
  data: Mapping[str, Any] | None = None,
  profile: bool = False,
) -> run_lib.Outcome | summary_lib.Summary | None:
  """Trains, evaluates and reports: what ``launch.py`` does.

  A work directory with an unfinished run of the same config is resumed.

  Args:
    config: from `mtl_jax.default_config`.
    workdir: where checkpoints, record and report go; a new temporary folder
      by default, which the outcome names.
    data: ``{stream: mtl_jax.data.Data}`` to use in place of the config's, such
      as your own arrays through `mtl_jax.data.from_tables`.
    profile: also trace ten steps.

  Returns:
    The outcome on the test split, or on the problem of the config; None if it
    was interrupted.

  Raises:
    ValueError: in one sentence, for a config that does not fit together.
  """
  settings = settings_lib.from_config(config)
  if workdir is None:
    workdir = tempfile.mkdtemp(prefix='mtl_jax_')
  if settings.problem.name:
    return problem_run.run(settings, workdir)
  return run_lib.train(settings, workdir, loaded=data, profile=profile)
