"""Tables for papers and pages of repositories: LaTeX and Markdown."""

from collections.abc import Callable

from mtl_jax.reporting import result_tables

SPECIAL = str.maketrans(
  {
    '\\': r'\textbackslash{}',
    '±': r'$\pm$',
    '↑': r'$\uparrow$',
    '↓': r'$\downarrow$',
    'Δ': r'$\Delta$',
    '<': r'$<$',
    '>': r'$>$',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    **{c: '\\' + c for c in '&%$#_{}'},
  }
)


def escape(text: str) -> str:
  r"""Text with what means something to LaTeX escaped.

  Example:
    >>> print(escape('R_2 ↑ 5%'))
    R\_2 $\uparrow$ 5\%
  """
  return text.translate(SPECIAL)


def tabular(table: result_tables.ResultTable) -> str:
  r"""A ``tabular`` with the rules of booktabs, without the title.

  Example:
    >>> rows = [['x_1', '1 ± 2']]
    >>> print(tabular(result_tables.ResultTable('', ['a', 'b'], rows)))
    \begin{tabular}{lr}
    \toprule
    a & b \\
    \midrule
    x\_1 & 1 $\pm$ 2 \\
    \bottomrule
    \end{tabular}
  """
  head, *body = _marked(table, r'\textbf{{{}}}'.format, escape)
  form = 'l' * table.left + 'r' * (len(table.columns) - table.left)
  lines = [
    rf'\begin{{tabular}}{{{form}}}',
    r'\toprule',
    ' & '.join(head) + r' \\',
    r'\midrule',
    *(' & '.join(row) + r' \\' for row in body),
    r'\bottomrule',
    r'\end{tabular}',
  ]
  return '\n'.join(lines)


def markdown(table: result_tables.ResultTable) -> str:
  """A table of GitHub's Markdown, without the title.

  Example:
    >>> print(markdown(result_tables.ResultTable('', ['a', 'b'], [['x', '1']])))
    | a | b |
    | :-- | --: |
    | x | 1 |
  """
  marks = [
    ':--' if i < table.left else '--:' for i in range(len(table.columns))
  ]
  cells = _marked(table, '**{}**'.format, lambda c: c.replace('|', '\\|'))
  rows = [cells[0], marks, *cells[1:]]
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def _marked(
  table: result_tables.ResultTable,
  bold: Callable[[str], str],
  escape: Callable[[str], str],
) -> list[list[str]]:
  """The head and the rows, escaped, with bold cells as ``bold`` has them."""
  rows = [
    [
      bold(escape(str(cell))) if (i, j) in table.bold else escape(str(cell))
      for j, cell in enumerate(row)
    ]
    for i, row in enumerate(table.rows)
  ]
  return [[escape(c) for c in table.heads], *rows]
