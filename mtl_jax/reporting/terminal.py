"""Drawn in a terminal: a table with lines, and a bar."""

from typing import Any, TextIO

import rich.box
import rich.console
import rich.progress
import rich.table
import rich.text


def print_table(table: Any, file: TextIO) -> None:
  """Draws a table with lines.

  Args:
    table: a `result_tables.ResultTable`.
    file: a terminal.
  """
  drawn = rich.table.Table(
    title=table.title or None,
    title_justify='left',
    title_style='bold',
    caption=table.note or None,
    caption_justify='left',
    box=rich.box.SIMPLE_HEAD,
    pad_edge=False,
  )
  for i, name in enumerate(table.heads):
    justify = 'left' if i < table.left else 'right'
    drawn.add_column(rich.text.Text(name), justify=justify)
  for row in table.rows:
    drawn.add_row(*map(rich.text.Text, row))
  console = rich.console.Console(file=file)
  # In a narrow terminal lines are wrapped; numbers are never cut.
  needed = rich.console.Console(width=1000).measure(drawn).maximum
  console.width = max(console.width, needed)
  console.print(drawn)


def bar(file: TextIO) -> rich.progress.Progress:
  """A bar with the number of steps, and the field 'news' of a task."""
  return rich.progress.Progress(
    rich.progress.BarColumn(bar_width=30),
    rich.progress.MofNCompleteColumn(),
    rich.progress.TextColumn('{task.fields[news]}'),
    console=rich.console.Console(file=file),
  )
