"""The record of a run: ``metrics.jsonl``, and TensorBoard events beside it."""

from collections.abc import Mapping, Sequence
import json
import math
import os
import pathlib
from typing import Any

import jax
import numpy as np
import tensorboardX

from mtl_jax.reporting import whole_files

Scalars = Mapping[str, float]
RECORD = 'metrics.jsonl'


class JsonlWriter:
  """One JSON object a line: step, kind, scalars; NaN is null.

  On resume the rows after the restored step are dropped, and a row that is
  there already is not written twice, so that the file of a run which was
  killed equals that of one which was not. A last line without its end, left
  by a kill, is dropped as well.

  Args:
    path: the file; made with its directory.
    restored_step: keep the rows up to this step; None starts anew.
  """

  def __init__(self, path: whole_files.Path, restored_step: int | None = None):
    self._path = pathlib.Path(path)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    if restored_step is not None and self._path.exists():
      rows = [r for r in read_rows(self._path) if r['step'] <= restored_step]
    # The last step's rows may be written again: a probe belongs to the step
    # before the batch, and so comes after the checkpoint of the same step.
    self._known = {
      (row['kind'], row['step']) for row in rows if row['step'] == restored_step
    }
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    whole_files.write_atomically(self._path, text)
    self._file = open(self._path, 'a', encoding='utf-8')  # noqa: SIM115

  def write(
    self,
    kind: str,
    step: int,
    scalars: Scalars,
    arrays: Mapping[str, Any] | None = None,
  ) -> None:
    """Appends a row, and hands it to the operating system at once."""
    if (kind, step) in self._known:
      return
    numbers = {name: float(value) for name, value in scalars.items()}
    row = {'step': int(step), 'kind': kind, **numbers, **(arrays or {})}
    with whole_files.writing(self._path):
      self._file.write(json.dumps(whole_files.plain(row)) + '\n')
      self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    with whole_files.writing(self._path):
      self._file.close()


def read_rows(path: whole_files.Path) -> list[dict[str, Any]]:
  """The rows of a record; a last line without its end is left out.

  Raises:
    ValueError: if another line is damaged.
  """
  lines = pathlib.Path(path).read_text(encoding='utf-8').split('\n')[:-1]
  rows = []
  for number, line in enumerate(lines, start=1):
    try:
      row = json.loads(line)
      rows.append({**row, 'step': int(row['step']), 'kind': str(row['kind'])})
    except (ValueError, TypeError, KeyError) as error:
      raise ValueError(
        f'Expected an object with step and kind in line {number} of '
        f'{os.fspath(path)}, found {line[:40]!r}; remove the line.'
      ) from error
  return rows


class TensorBoardWriter:
  """Scalars as ``kind/name``, arrays as images, for TensorBoard.

  Args:
    directory: where the event files go.
    restored_step: what TensorBoard has of later steps is purged.
  """

  def __init__(
    self, directory: whole_files.Path, restored_step: int | None = None
  ):
    self._directory = directory
    with whole_files.writing(directory):
      self._writer = tensorboardX.SummaryWriter(
        os.fspath(directory),
        purge_step=None if restored_step is None else restored_step + 1,
      )

  def write(
    self,
    kind: str,
    step: int,
    scalars: Scalars,
    arrays: Mapping[str, Any] | None = None,
  ) -> None:
    """Adds the numbers of a row; -1 is black in matrices, and 1 white."""
    with whole_files.writing(self._directory):
      for name, value in scalars.items():
        if not math.isnan(value):
          self._writer.add_scalar(f'{kind}/{name}', float(value), step)
      for name, value in (arrays or {}).items():
        value = np.asarray(value, np.float32)
        if value.ndim == 2:
          image = np.clip(np.nan_to_num(value) / 2 + 0.5, 0, 1)
          self._writer.add_image(
            f'{kind}/{name}', image, step, dataformats='HW'
          )

  def close(self) -> None:
    """Flushes the events."""
    with whole_files.writing(self._directory):
      self._writer.close()


class MetricWriter:
  """Several writers as one.

  Args:
    writers: with the methods of this class.
  """

  def __init__(self, writers: Sequence[Any]):
    self._writers = tuple(writers)

  def write(
    self,
    kind: str,
    step: int,
    scalars: Scalars,
    arrays: Mapping[str, Any] | None = None,
  ) -> None:
    """Gives a row of numbers to each of them.

    Args:
      kind: 'train', 'validation' or 'gradients'.
      step: of the row.
      scalars: by name.
      arrays: small ones, such as a Gramian.
    """
    for writer in self._writers:
      writer.write(kind, step, scalars, arrays)

  def close(self) -> None:
    """Writes what is still to be written."""
    for writer in self._writers:
      writer.close()


def open_writers(
  workdir: whole_files.Path, restored_step: int | None = None
) -> MetricWriter:
  """The writers of a work directory; only process 0 writes anything.

  Args:
    workdir: gets ``metrics.jsonl`` and the folder ``tensorboard``.
    restored_step: step of the checkpoint that the run goes on from, if any.
  """
  if jax.process_index() != 0:
    return MetricWriter([])
  workdir = pathlib.Path(workdir)
  return MetricWriter(
    [
      JsonlWriter(workdir / RECORD, restored_step),
      TensorBoardWriter(workdir / 'tensorboard', restored_step),
    ]
  )
