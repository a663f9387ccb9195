"""``report.html``: a run on one page, from its work directory alone."""

from collections.abc import Mapping
import html
import json
import pathlib
from typing import Any

from matplotlib import figure as mpl_figure

from mtl_jax.reporting import files, plots, progress, record, tables

REPORT = 'report.html'
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 2rem auto;
       max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem;
     border-bottom: 1px solid #ccc; }
p.note { color: #555; margin: .2rem 0 .8rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
        margin-bottom: .4rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right;
         white-space: nowrap; }
th { border-bottom: 2px solid #1a1a1a; font-weight: 600; }
td { border-bottom: 1px solid #e5e5e5; }
th.left, td.left { text-align: left; white-space: pre; }
tr.beside td { color: #555; }
svg { max-width: 100%; height: auto; display: block; margin: .6rem 0; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .8rem; }
summary { cursor: pointer; }
"""


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
  title = html.escape(run.workdir.resolve().name)
  sections = [
    ('Result', _result(run)),
    ('Learning curves', _curves(run)),
    ('Task gradients', _gradients(run)),
    ('Relations between tasks', _relations(run)),
    ('Config', _json(run.config) if run.config else ''),
    ('Surroundings', _surroundings(run)),
  ]
  body = ''.join(
    f'<h2>{name}</h2>\n{text}\n' for name, text in sections if text
  )
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f'<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
    f'<h1>{title}</h1>\n{_summary(run)}\n{body}</body>\n</html>\n'
  )


def _summary(run: record.Record) -> str:
  """One line: where it stands, and on what it ran."""
  found = run.results
  if not found:
    last = run.rows[-1]['step'] if run.rows else 0
    return _note(f'The run has not ended; its record goes up to step {last}.')
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
  return _note(' · '.join(parts))


def _result(run: record.Record) -> str:
  metrics = run.results.get('metrics')
  if not metrics:
    return ''
  shown = tables.final_tables(metrics, run.results.get('baselines'))
  text = '\n'.join(_table(table) for table in shown)
  undefined = run.results.get('undefined')
  if undefined:
    text += _note(
      'There is no overall score, for these tasks could not be scored: '
      f'{", ".join(undefined)}.'
    )
  rows = [
    [task, name, tables.number(value)]
    for task, values in metrics.items()
    for name, value in values.items()
  ]
  every = tables.Table('', ['task', 'metric', 'value'], rows, left=2)
  return text + _folded('All metrics', _table(every))


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
  return _pictures(pictures)


def _gradients(run: record.Record) -> str:
  cosines, norms = run.cosines(), run.norms()
  pictures = []
  if cosines:
    pictures.append(plots.gradient_cosines(cosines))
  if norms:
    pictures.append(plots.gradient_norms(norms))
  if not pictures:
    return ''
  return _note(
    'Of the shared parameters, on a training batch. Below 0 the tasks pull '
    'in opposite directions.'
  ) + _pictures(pictures)


def _relations(run: record.Record) -> str:
  titles = {'labels': 'Labels', 'residuals': 'Residuals'}
  found = {name: run.matrix(kind) for kind, name in titles.items()}
  matrices = {name: x for name, x in found.items() if x is not None}
  if not matrices or len(run.tasks) < 2:
    return ''
  tasks = (run.results.get('relations') or {}).get('tasks') or run.tasks
  return _note(
    'Correlation over the examples that are labelled for both tasks. It has a '
    'sign only between tasks of a single column; where classes are involved '
    'it is the square root of the RV coefficient. Grey: not defined.'
  ) + _pictures([plots.correlations(tasks, matrices)])


def _surroundings(run: record.Record) -> str:
  names = ('commit', 'devices', 'platform', 'versions', 'timing')
  found = {name: run.results[name] for name in names if name in run.results}
  return _json(found) if found else ''


def _note(text: str) -> str:
  return f'<p class="note">{html.escape(text)}</p>\n'


def _folded(title: str, content: str) -> str:
  return f'<details><summary>{title}</summary>\n{content}</details>\n'


def _json(content: Mapping[str, Any]) -> str:
  text = json.dumps(content, indent=2, ensure_ascii=False)
  return f'<pre>{html.escape(text)}</pre>\n'


def _pictures(figures: list[mpl_figure.Figure]) -> str:
  return '\n'.join(f'<div>{plots.to_svg(f)}</div>' for f in figures)


def _table(table: tables.Table) -> str:
  """A table as HTML; rows of other models are paler."""

  def cells(row, tag):
    kinds = ['left' if i < table.left else '' for i in range(len(row))]
    return ''.join(
      f'<{tag} class="{kind}">{html.escape(cell)}</{tag}>'
      for cell, kind in zip(row, kinds, strict=True)
    )

  body = '\n'.join(
    f'<tr{" class=beside" if row[0].startswith(" ") else ""}>'
    f'{cells(row, "td")}</tr>'
    for row in table.rows
  )
  head = f'<tr>{cells(table.columns, "th")}</tr>'
  text = f'<table>\n<thead>{head}</thead>\n<tbody>{body}</tbody>\n</table>'
  return f'<div class="wide">{text}</div>\n' + (
    _note(table.note) if table.note else ''
  )
