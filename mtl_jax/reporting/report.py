"""``report.html``: a run on one page, from its work directory alone."""

import pathlib

from mtl_jax.reporting import (
  expert_use,
  files,
  pages,
  plots,
  progress,
  record,
  tables,
)

REPORT = 'report.html'
STYLE = pages.STYLE


def write_report(workdir: files.Path) -> pathlib.Path:
  """Writes ``report.html`` into a work directory, from the files in it.

  Reads ``metrics.jsonl`` and, where they exist, ``results.json`` and
  ``config.json``; the page needs no network and no other file.

  Args:
    workdir: of a run, ended or not.

  Returns:
    The path of the report.

  Raises:
    ValueError: if there is no record of a run, or it is damaged.
    OSError: if there is no space left.
  """
  run = record.read(workdir)
  path = run.workdir / REPORT
  files.write_atomically(path, page(run))
  return path


def page(run: record.Record) -> str:
  """The whole page."""
  sections = [
    ('Result', _result(run)),
    ('Learning curves', _curves(run)),
    ('Task gradients', _gradients(run)),
    ('Experts', _experts(run)),
    ('Relations between tasks', _relations(run)),
    ('Config', pages.as_json(run.config) if run.config else ''),
    ('Surroundings', _surroundings(run)),
  ]
  return pages.frame(run.workdir.resolve().name, _summary(run), sections)


def _summary(run: record.Record) -> str:
  """One line: where it stands, and on what it ran."""
  found = run.results
  if not found:
    last = run.rows[-1]['step'] if run.rows else 0
    return pages.note(
      f'The run has not ended; its record goes up to step {last}.'
    )
  parts = [f'overall score {tables.number(found.get("overall"))}']
  if found.get('split'):
    parts[0] += f' on {found["split"]}'
  if found.get('best_step') is not None:
    parts.append(f'parameters of step {found["best_step"]:,}')
  seconds = (found.get('timing') or {}).get('seconds')
  if seconds is not None:
    parts.append(f'trained for {progress.duration(seconds)}')
  device = found.get('devices') or {}
  if device:
    parts.append(f'{device.get("count")} x {device.get("kind")}')
  return pages.note(' · '.join(parts))


def _result(run: record.Record) -> str:
  metrics = run.results.get('metrics')
  if not metrics:
    return ''
  positives = {
    task['name']: task['positive']
    for task in run.results.get('tasks', ())
    if task.get('positive')
  }
  baselines = run.results.get('baselines')
  shown = tables.final_tables(metrics, baselines, positives)
  text = '\n'.join(pages.table(table) for table in shown)
  undefined = run.results.get('undefined')
  if undefined:
    text += pages.note(
      'There is no overall score, for these tasks could not be scored: '
      f'{", ".join(undefined)}.'
    )
  rows = [
    [task, name, tables.number(value)]
    for task, values in metrics.items()
    for name, value in values.items()
  ]
  every = tables.Table('', ['task', 'metric', 'value'], rows, left=2)
  return text + pages.folded('All metrics', pages.table(every))


def _curves(run: record.Record) -> str:
  pictures = []
  for task in run.tasks:
    losses = {
      'train': run.series('train', f'loss/{task}'),
      'validation': run.series('validation', f'{task}/loss'),
    }
    score = run.score(task)
    values = run.series('validation', f'{task}/{score}')
    label = tables.HEADERS.get(score, score) or 'score'
    pictures.append(plots.learning_curves(task, losses, label, values))
  return pages.pictures(pictures)


def _gradients(run: record.Record) -> str:
  cosines = run.cosines()
  made = []
  if cosines:
    if len(cosines) <= plots.MOST_LINES:
      made.append(plots.gradient_cosines(cosines))
    made.append(plots.cosine_map(cosines))
  for kind, draw in (
    ('norm', plots.gradient_norms),
    ('weight', plots.task_weights),
  ):
    if run.by_task(kind):
      made.append(draw(run.by_task(kind)))
  if run.conflict():
    made.append(plots.shares('Share of', run.conflict()))
  if not made:
    return ''
  groups = [
    plots.cosine_map(run.cosines(group), f'Cosine in the group {group}')
    for group in run.groups()
    if run.cosines(group)
  ]
  text = pages.note(
    'Of the shared parameters, on a training batch. Below 0 the tasks pull '
    'in opposite directions.'
  ) + pages.pictures(made)
  if groups:
    text += pages.folded('Groups of parameters', pages.pictures(groups))
  return text


def _experts(run: record.Record) -> str:
  found = expert_use.levels(run.results.get('experts') or {})
  if not found:
    return ''
  figure = expert_use.picture(found)
  return (
    pages.note(expert_use.NOTE)
    + pages.pictures([figure] if figure else [])
    + pages.note(expert_use.USED)
    + pages.table(expert_use.used({'': found}))
    + pages.note(expert_use.FACTS)
    + pages.folded('Every expert', pages.table(expert_use.table({'': found})))
  )


def _relations(run: record.Record) -> str:
  titles = {'labels': 'Labels', 'residuals': 'Residuals'}
  found = {name: run.matrix(kind) for kind, name in titles.items()}
  matrices = {name: x for name, x in found.items() if x is not None}
  if not matrices or len(run.tasks) < 2:
    return ''
  tasks = (run.results.get('relations') or {}).get('tasks') or run.tasks
  return pages.note(
    'Correlation over the examples that are labelled for both tasks. It has a '
    'sign only between tasks of a single column; where classes are involved '
    'it is the square root of the RV coefficient. Grey: not defined.'
  ) + pages.pictures([plots.correlations(tasks, matrices)])


def _surroundings(run: record.Record) -> str:
  names = ('commit', 'devices', 'platform', 'versions', 'timing')
  found = {name: run.results[name] for name in names if name in run.results}
  return pages.as_json(found) if found else ''
