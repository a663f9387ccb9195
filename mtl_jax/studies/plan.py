"""Plan of a study: populations of methods, twins and tuning."""

from collections.abc import Collection, Mapping, Sequence
import dataclasses
import re
from typing import Any

from mtl_jax import models, names
from mtl_jax.config import (
  lookup,
  sections,
  settings as settings_lib,
  sweeps,
)
from mtl_jax.experiment import methods as methods_lib
from mtl_jax.studies import record, statistics, study_tables
from mtl_jax.tasks import kinds as task_kinds

RESERVED = ('label', 'family', 'draws')
DRAWS = {
  'uniform': sweeps.uniform,
  'log_uniform': sweeps.log_uniform,
  'choice': lambda *values: sweeps.choice(values),
}
SIZES = ('full', 'equal')
# Trials have seeds of their own: what is chosen by a seed is lucky with it.
TUNING_SEED = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
  """One method of a study, or a point of a sweep.

  Attributes:
    name: unique.
    settings: of its population.
    label: for people.
    family: see `record.Method`.
    draws: what tuning draws.
  """

  name: str
  settings: settings_lib.Settings
  label: str = ''
  family: str = ''
  draws: Sequence[Sequence[Any]] = ()


def list_methods(settings: settings_lib.Settings) -> list[Entry]:
  """The methods of a study, or the one that the config itself is.

  Raises:
    ValueError: if the control is none of them, or a setting is unknown.
  """
  study = settings.study
  base = _base(settings)
  entries = []
  # A config sorts its keys; what others are tested against comes first.
  for name in sorted(study.methods, key=lambda name: name != study.control):
    if not re.fullmatch(r'[^/\\]+', name) or name in ('.', '..'):
      raise ValueError(
        'Expected a name in study.methods that can be a folder, found '
        f'{name!r}; write it without slashes, and use label for people.'
      )
    sections = study.methods[name]
    own = {k: v for k, v in sections.items() if k not in RESERVED}
    entries.append(
      Entry(
        name=name,
        settings=settings_lib.with_sections(base, own),
        label=sections.get('label', ''),
        family=sections.get('family', ''),
        draws=tuple(study.draws) + tuple(sections.get('draws', ())),
      )
    )
  if not entries:
    name = settings.combinator.get('name', '')
    if callable(name):
      name = lookup.dotted_name(name).rpartition('.')[2]
    entries = [Entry(name=name, settings=base, draws=study.draws)]
  known = [entry.name for entry in entries]
  if study.control and study.control not in known:
    raise ValueError(
      f'Expected study.control among the methods, found {study.control!r}; '
      f'{names.nearest(study.control, known)}'
    )
  if study.methods and settings.population.sweep:
    raise ValueError(
      'Expected either study.methods or a sweep, found both; make each point '
      'a method.'
    )
  return entries


def list_twins(settings: settings_lib.Settings) -> list[tuple[str, str, Entry]]:
  """``(size, task, entry)`` of the single-task models.

  Raises:
    ValueError: for an unknown size, or 'equal' without what makes it so.
  """
  study = settings.study
  twins = []
  for size in study.twins:
    if size not in SIZES:
      raise ValueError(
        f'Expected study.twins among {", ".join(SIZES)}, found {size!r}; set '
        'them so.'
      )
    if size == 'equal' and not study.equal_twins:
      raise ValueError(
        "Expected study.equal_twins for twins of size 'equal', found none; "
        "give the smaller trunk, such as {'model': {'trunk': {...}}}."
      )
    for task in task_names(settings):
      own = {} if size == 'full' else study.equal_twins
      alone = settings_lib.with_sections(
        _base(settings),
        {**own, 'tasks': task, 'combinator': {'name': 'weighted_sum'}},
      )
      entry = Entry(
        name=f'{task}_{size}', settings=alone, draws=tuple(study.draws)
      )
      twins.append((size, task, entry))
  return twins


def unused(
  settings: settings_lib.Settings, entries: Sequence[Entry]
) -> list[str]:
  """Lines on settings of a study that nothing looks at."""
  study, lines = settings.study, []
  if any(entry.draws for entry in entries) and not study.trials:
    lines.append('Nothing is drawn of study.draws, since study.trials is 0.')
  if study.equal_twins and 'equal' not in study.twins:
    lines.append(
      "No twin is of study.equal_twins, since 'equal' is not in study.twins."
    )
  return lines


def _base(settings) -> settings_lib.Settings:
  """Without the study, and with one seed where none is named."""
  section = settings.population
  return dataclasses.replace(
    settings,
    study=sections.StudySettings(),
    population=dataclasses.replace(section, seeds=max(section.seeds, 1)),
  )


def task_names(settings: settings_lib.Settings) -> list[str]:
  """The tasks that are learned."""
  chosen = list(settings.tasks)
  return chosen or list(settings.targets)


def trials(entry: Entry, number: int, seed: int) -> tuple[dict[str, Any], ...]:
  """Points of the random search of an entry; the first is its own setting.

  Args:
    entry: a method or a twin.
    number: of points, the same for all.
    seed: of the draws, the same for all: settings that several have in common
      are tried at the same values.

  Raises:
    ValueError: if there is nothing to draw, or not as it must be written.
  """
  if not entry.draws:
    raise ValueError(
      f'Expected settings to draw for {entry.name!r}, found none; set '
      'study.draws, or study.trials to 0.'
    )
  draws = {}
  for draw in entry.draws:
    if len(draw) < 3 or draw[1] not in DRAWS:
      raise ValueError(
        'Expected a draw as (setting, one of '
        f'{", ".join(DRAWS)}, numbers), found {tuple(draw)!r}; write it so.'
      )
    draws[draw[0]] = DRAWS[draw[1]](*draw[2:])
  own = {path: value_of(entry.settings, path) for path in draws}
  drawn = sweeps.random(draws, number - 1, seed=seed)
  return (own, *drawn)


def value_of(settings: settings_lib.Settings, path: str) -> Any:
  """The value of a setting by its path.

  Raises:
    ValueError: if there is none.
  """
  node: Any = settings
  for key in path.split('.'):
    child = (
      node.get(key) if isinstance(node, Mapping) else getattr(node, key, None)
    )
    if child is None:
      raise ValueError(
        f'Expected a value of {path!r} to begin a search with, found none; set '
        'it for each method that draws it.'
      )
    node = child
  return node


def check_names(settings: settings_lib.Settings) -> None:
  """Looks up the method and the model of a config, and imports dotted names.

  Raises:
    ValueError: for a name that is not known, with the nearest one.
  """
  tables = {
    'combinator': (settings.combinator, methods_lib.METHODS),
    'trunk': (settings.model.trunk, models.TRUNKS),
    'sharing': (settings.model.sharing, models.SHARING),
    'input encoder': (settings.model.inputs, models.INPUTS),
    'head': (settings.model.head, models.HEADS),
  }
  for kind, (spec, table) in tables.items():
    if spec.get('name'):
      lookup.find(kind, spec['name'], table)


def list_metrics(
  settings: settings_lib.Settings,
) -> list[record.MetricRecord]:
  """The metrics that ``study.metrics`` declares, of tasks that there are.

  Raises:
    ValueError: for one without a sign, of another task, or that no task of its
      kind has.
  """
  metrics = []
  tasks = task_names(settings)
  for text in settings.study.metrics:
    task, _, metric = text[1:].rpartition('/')
    if text[:1] not in ('+', '-') or not task or not metric:
      raise ValueError(
        'Expected +task/metric where higher is better or -task/metric where '
        f'lower is in study.metrics, found {text!r}; write it so.'
      )
    if task not in tasks:
      raise ValueError(
        f'Expected a task of the study in study.metrics, found {text!r}; '
        f'{names.nearest(task, tasks)}'
      )
    known = task_kinds.metric_names(settings.targets[task])
    if known is not None and metric not in known:
      raise ValueError(
        'Expected metrics of an evaluation in study.metrics, found '
        f'{text[1:]!r}; '
        + names.nearest(text[1:], sorted(f'{task}/{name}' for name in known))
      )
    metrics.append(
      record.MetricRecord(
        task=task, metric=metric, higher_is_better=text[0] == '+'
      )
    )
  return metrics


def check_metrics(
  metrics: Sequence[record.MetricRecord], known: Collection[str]
) -> None:
  """Raises for a metric that no evaluation gives.

  Args:
    metrics: of `list_metrics`.
    known: all ``task/metric`` that there are.

  Raises:
    ValueError: with the nearest name.
  """
  for metric in metrics:
    if metric.name not in known:
      raise ValueError(
        'Expected metrics of an evaluation in study.metrics, found '
        f'{metric.name!r}; {names.nearest(metric.name, known)}'
      )


def check_report(
  section: sections.StudySettings, declared: Sequence[str]
) -> None:
  """Raises for pictures, tests and columns that the report could not make.

  Args:
    section: of the study.
    declared: names of its metrics; empty if they are the tasks' scores.

  Raises:
    ValueError: in one sentence.
  """
  for pair in section.trade_offs:
    if len(pair) != 2 or isinstance(pair, str):
      raise ValueError(
        'Expected pairs of task/metric in study.trade_offs, found '
        f'{pair!r}; write (("a/accuracy", "b/rmse"),).'
      )
    for name in pair:
      if name not in declared:
        raise ValueError(
          'Expected study.trade_offs among study.metrics, whose directions '
          f'are declared, found {name!r}; {names.nearest(name, declared)}'
        )
  for key in ('test', 'interval'):
    value, known = getattr(section, key), statistics.INTERVALS
    if value not in known:
      raise ValueError(
        f'Expected config.study.{key} among {", ".join(known)}, found '
        f'{value!r}; {names.nearest(value, known)}'
      )
  study_tables.check_columns(section.columns, declared)
