"""Tables for papers."""

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


def tabular(table: result_tables.Table) -> str:
  r"""A ``tabular`` with the rules of booktabs, without the title.

  Example:
    >>> print(tabular(result_tables.Table('', ['a', 'b'], [['x_1', '1 ± 2']])))
    \begin{tabular}{lr}
    \toprule
    a & b \\
    \midrule
    x\_1 & 1 $\pm$ 2 \\
    \bottomrule
    \end{tabular}
  """
  head, *body = table.marked(r'\textbf{{{}}}'.format, escape)
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
