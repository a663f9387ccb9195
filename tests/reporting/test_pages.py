"""The template of all pages, as the installed package has it."""

from importlib import resources
import pathlib
import re
import tomllib

from matplotlib import figure as mpl_figure
import pytest

import mtl_jax
from mtl_jax.reporting import pages, result_tables

PACKAGE = pathlib.Path(mtl_jax.__file__).parent


def test_what_is_no_module_is_named_in_the_package():
  project = tomllib.loads((PACKAGE.parent / 'pyproject.toml').read_text())
  data = project['tool']['setuptools']['package-data']
  named = {
    path
    for package, patterns in data.items()
    for pattern in patterns
    for path in (PACKAGE.parent / package.replace('.', '/')).glob(pattern)
  }
  files = {
    path
    for path in PACKAGE.rglob('*')
    if path.is_file() and path.suffix not in ('.py', '.pyc')
  }
  assert files == named != set()
  found = resources.files('mtl_jax.reporting').joinpath(pages.TEMPLATE)
  assert found.is_file()


def test_every_kind_of_part_is_shown_and_escaped(tmp_path):
  odd = '<i>&"'
  (tmp_path / 'x.png').write_bytes(b'png')
  table = result_tables.ResultTable(
    'not shown',
    [f'{odd}\ntwo', 'n'],
    [[odd, '1'], [' pale', 'holds (1 left out)']],
    note='one\ntwo',
    bold=frozenset({(0, 1)}),
    keys=[[odd, 1.0], ['pale', '']],
  )
  page = pages.render(
    odd,
    ['', odd],
    [
      ('parts', [table, mpl_figure.Figure(), pages.Image(tmp_path / 'x.png')]),
      (odd, [{odd: [odd]}, pages.Folded(odd, [odd, None])]),
      ('nothing', [None, {}, '', result_tables.ResultTable('', ['a'], []),
                   pages.Folded('x', [])]),
    ],
  )  # fmt: skip
  safe = '&lt;i&gt;&amp;&#34;'
  assert odd not in page and f'<title>{safe}</title>' in page
  assert re.findall('<h2>(.*?)</h2>', page) == ['parts', safe]
  assert f'{safe}<br>two</th>' in page
  assert f'data-value="{safe}">{safe}</td>' in page
  assert re.search(r'class=" best"\s*data-value="1.0">1</td>', page)
  assert '<tr class="beside">' in page and ' holds" data-value=""' in page
  assert '<p class="note">one</p>\n<p class="note">two</p>' in page
  assert page.count('<svg') == 1 and 'base64,cG5n"' in page
  assert f'<summary>{safe}</summary>' in page and '<script>' in page


def test_a_page_without_a_table_to_sort_has_no_script():
  table = result_tables.ResultTable('', ['a'], [['x']])
  page = pages.render('t', [], [('s', [table])])
  assert '<script' not in page and 'sortable">' not in page


@pytest.mark.parametrize('part', [3, ['a']])
def test_an_unknown_part_is_refused(part):
  with pytest.raises(TypeError, match='Expected a part of a page'):
    pages.render('t', [part], [])
