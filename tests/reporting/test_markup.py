"""Tables as Markdown."""

from mtl_jax.reporting import markup, result_tables


def test_markdown_escapes_bars():
  table = result_tables.ResultTable('', ['a|b', 'n'], [['x', '1']])
  assert markup.markdown(table).splitlines() == [
    '| a\\|b | n |',
    '| :-- | --: |',
    '| x | 1 |',
  ]
