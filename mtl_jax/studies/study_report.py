"""The report of a study, from the record in its directory alone."""

from collections.abc import Sequence
import pathlib

from mtl_jax.reporting import files
from mtl_jax.studies import (
  page as study_report,
  study_files,
  summary as study_summary,
)


def write(
  workdir: files.Path,
  *,
  trade_offs: Sequence[tuple[str, str]] | None = None,
  by_task: bool | None = None,
  test: str | None = None,
  interval: str | None = None,
) -> pathlib.Path:
  """Writes page, pictures and tables from ``study.json``; trains nothing.

  What is not given is as the study's config has it.

  Args:
    workdir: of the study.
    trade_offs: pairs of ``task/metric`` to be drawn against each other; where
      there are none, the scores of the first two tasks.
    by_task: delta-m as the mean of the tasks' means, not of all metrics.
    test: against the control: 't', 'wilcoxon' or 'bootstrap'.
    interval: of metrics over seeds, one of the same.

  Returns:
    The path of ``report.html``.

  Raises:
    ValueError: if there is no record, or it is damaged.
    OSError: if there is no space left.
  """
  study = study_files.read_study(workdir)
  given = {
    'trade_offs': trade_offs,
    'by_task': by_task,
    'test': test,
    'interval': interval,
  }
  options = dict(study.config.get('study') or {})
  options |= {key: x for key, x in given.items() if x is not None}
  summary = study_summary.summarise(
    study, **{key: options[key] for key in given if options.get(key)}
  )
  return study_report.write(workdir, study, summary)
