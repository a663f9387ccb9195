"""Tables and pictures of a finished work directory, without training."""

import pathlib

from mtl_jax import reporting
from mtl_jax.studies import study_files, study_report


def write(path: pathlib.Path | str) -> pathlib.Path:
  """Writes the report of a study, or of a run, anew.

  Raises:
    ValueError: if there is no record in the directory.
  """
  if (pathlib.Path(path) / study_files.STUDY).exists():
    page = study_report.write(path)
  else:
    page = reporting.write_report(path)
  print(f'Report: {page}', flush=True)
  return page
