"""The parts of a page: what the reports of runs and of studies share."""

from collections.abc import Iterable, Mapping, Sequence
import html
import json
from typing import Any

from matplotlib import figure as mpl_figure

from mtl_jax.reporting import plots, tables

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


def frame(
  title: str,
  summary: str,
  sections: Sequence[tuple[str, str]],
  script: str = '',
) -> str:
  """A whole page, which needs no network and no other file.

  Args:
    title: plain text.
    summary: HTML below the title.
    sections: titles and HTML; those without any are left out.
    script: of the page, if it has one.
  """
  title = html.escape(title)
  body = ''.join(
    f'<h2>{name}</h2>\n{text}\n' for name, text in sections if text
  )
  code = f'<script>{script}</script>\n' if script else ''
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f'<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
    f'<h1>{title}</h1>\n{summary}\n{body}{code}</body>\n</html>\n'
  )


def note(text: str) -> str:
  """A paragraph in small print."""
  return f'<p class="note">{html.escape(text)}</p>\n'


def folded(title: str, content: str) -> str:
  """What opens on a click."""
  return f'<details><summary>{title}</summary>\n{content}</details>\n'


def as_json(content: Mapping[str, Any]) -> str:
  """Settings and the like, indented."""
  text = json.dumps(content, indent=2, ensure_ascii=False)
  return f'<pre>{html.escape(text)}</pre>\n'


def pictures(figures: Iterable[mpl_figure.Figure]) -> str:
  """The figures as SVG."""
  return '\n'.join(f'<div>{plots.to_svg(f)}</div>' for f in figures)


def table(table: tables.Table) -> str:
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
    note(table.note) if table.note else ''
  )
