"""``study.json``: the record of a study on disk."""

from collections.abc import Iterable, Mapping
import dataclasses
import pathlib
from typing import Any

from mtl_jax.reporting import files, results, writers
from mtl_jax.studies import record as study_record

STUDY = 'study.json'
PARTS = {
  'tasks': study_record.Task,
  'metrics': study_record.Metric,
  'methods': study_record.Method,
  'runs': study_record.Run,
  'twins': study_record.Twin,
  'trials': study_record.Trial,
  'claims': study_record.Claim,
  'cost': study_record.Cost,
}


def from_dict(content: Mapping[str, Any]) -> study_record.Study:
  """The study from plain dicts and lists, as ``dataclasses.asdict`` has them.

  Raises:
    ValueError: for a part with an unknown or a missing field.
  """
  return _make(study_record.Study, content)


def _make(cls, content):
  fields = {field.name: field for field in dataclasses.fields(cls)}
  needed = {
    name
    for name, field in fields.items()
    if field.default is dataclasses.MISSING
    and field.default_factory is dataclasses.MISSING
  }
  if content.keys() - fields.keys() or needed - content.keys():
    raise ValueError(
      f'Expected a {cls.__name__.lower()} of a study with the fields '
      f'{sorted(fields)} ({sorted(needed)} must be there), found '
      f'{sorted(content)}; run the study again with this version.'
    )
  made = dict(content)
  for name, value in made.items():
    if name == 'cost':
      made[name] = _make(study_record.Cost, value)
    # A run's metrics are numbers, a study's are parts.
    elif name in PARTS and not isinstance(value, Mapping):
      made[name] = tuple(_make(PARTS[name], item) for item in value)
  return cls(**made)


def curves_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
  """`study_record.Run.curves` from the rows of a ``metrics.jsonl``.

  Args:
    rows: with ``step``, ``kind`` and scalars; what is no number is left out.

  Example:
    >>> curves_of([{'step': 5, 'kind': 'train', 'loss/a': 0.5}])
    {'train': {'loss/a': [[5, 0.5]]}}
  """
  curves: dict[str, Any] = {}
  for row in rows:
    series = curves.setdefault(row['kind'], {})
    for name, value in row.items():
      if name not in ('step', 'kind') and not isinstance(value, (str, list)):
        series.setdefault(name, []).append([row['step'], value])
  return curves


def run_of(workdir: files.Path, seed: int) -> study_record.Run:
  """A member from the work directory of its run.

  Args:
    workdir: of a run that has ended.
    seed: pairs it with the runs of other methods.

  Raises:
    ValueError: if it has no results, or a file is damaged.
  """
  workdir = pathlib.Path(workdir)
  found = files.read_json(workdir / results.RESULTS)
  return study_record.Run(
    seed=seed,
    status=found.get('ended', 'finished'),
    metrics={
      f'{task}/{name}': value
      for task, values in found['metrics'].items()
      for name, value in values.items()
    },
    overall=found['overall'],
    curves=curves_of(writers.read_rows(workdir / writers.RECORD)),
    relations=found.get('relations') or {},
    experts=found.get('experts') or {},
  )


def write_study(workdir: files.Path, study: study_record.Study) -> pathlib.Path:
  """Writes ``study.json``, atomically, and returns its path."""
  path = pathlib.Path(workdir) / STUDY
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_json(path, dataclasses.asdict(study))
  return path


def read_study(workdir: files.Path) -> study_record.Study:
  """Reads ``study.json``.

  Raises:
    ValueError: if it is missing or damaged.
  """
  return from_dict(files.read_json(pathlib.Path(workdir) / STUDY))
