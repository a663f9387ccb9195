"""The page on sharing architectures says what the code does."""

import ast
import importlib
import inspect
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import pytest

from mtl_jax import models

DOCS = pathlib.Path(__file__).parents[1] / 'docs'
PAGE = (DOCS / 'architectures.md').read_text(encoding='utf-8')
# Tasks that the page's configs name.
NAMED = {
  'aitm': ('click', 'buy'),
  'home': ('seen', 'time', 'like'),
}


@pytest.fixture(scope='module')
def tables():
  """The script that writes the costs."""
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(DOCS))
    yield importlib.import_module('sharing_tables')
    del sys.modules['sharing_tables']


def sections():
  """``{name: text}`` of what is shown one by one."""
  part = PAGE.partition('## One by one\n')[2].partition('\n## ')[0]
  intro, *found = re.split(r'^### ', part, flags=re.M)
  named = (text.partition('\n') for text in found)
  return intro, {name: text for name, _, text in named}


def configs():
  """Configs of the first table, by name."""
  rows = re.findall(r'^\| \[`(\w+)`\]\(#\w+\) \| `(\{.*?\})` \|', PAGE, re.M)
  return {name: ast.literal_eval(text) for name, text in rows}


def settings(text):
  """``{option: value}`` of code spans such as `experts=8`."""
  found = re.findall(r'`(\w+)=([^`]*)`', text)
  return {name: ast.literal_eval(value) for name, value in found}


def test_every_architecture_has_its_place(tables):
  names = set(models.SHARING)
  assert set(configs()) == set(sections()[1]) == set(tables.read(PAGE)) == names
  links = re.findall(r'\[`(\w+)`\]\(#(\w+)\)', PAGE)
  assert len(links) == 2 * len(names)
  assert all(name == target for name, target in links)


@pytest.mark.parametrize('name', models.SHARING)
def test_sections_have_diagram_equations_and_defaults(name):
  text = sections()[1][name]
  (diagram,) = re.findall(r'^```text\n(.*?)^```$', text, re.M | re.S)
  assert '(h_' in diagram and max(map(len, diagram.splitlines())) <= 80
  assert re.search(r'^```math\n.*?^```$', text, re.M | re.S)
  assert text.count('\nDefaults: ') == 1


@pytest.mark.parametrize('name', models.SHARING)
def test_defaults_are_those_of_the_code(name):
  intro, of = sections()
  parameters = inspect.signature(models.SHARING[name]).parameters
  options = {k: p.default for k, p in parameters.items()}
  said = settings(of[name].partition('\nDefaults: ')[2])
  common = settings(intro)
  assert set(said) <= set(options)
  assert {**common, **said} == {**common, **options}
  # What a section repeats of all differs from it.
  assert all(common[k] != said[k] for k in set(common) & set(said))


@pytest.mark.parametrize('name', models.SHARING)
def test_configs_make_models(name):
  options = configs()[name]
  assert options.pop('name') == name
  tasks = NAMED.get(name, 'abc')
  heads = {task: models.LinearHead(1) for task in tasks}
  model = models.build_model(
    models.SHARING[name](**options), models.MLP(widths=(4, 4)), heads
  )
  assert callable(model.features)


def test_an_architecture_of_your_own():
  (code,) = re.findall(r'^```python\n(.*?)^```$', PAGE, re.M | re.S)
  names = {}
  exec(code, names)
  batch = {'main': {'inputs': jnp.ones((2, 3))}}
  params, _ = names['own'].init(jax.random.key(0), batch)
  assert params['scales'] == {'like': 0.5, 'stars': 0.5}
  shared = names['own'].shared
  assert shared('trunk/Dense_0/kernel') and not shared('scales/like')
  assert not names['model'].shared('gates/like/Dense_0/kernel')


def test_counts_are_those_of_the_code(tables):
  rows = tables.read(PAGE)
  hard = tables.count('hard').parameters
  # Worked out by hand: two layers, and heads of one number.
  assert hard == 20 * 64 + 64 + 64 * 64 + 64 + 3 * (64 + 1)
  for name in models.SHARING:
    found, row = tables.count(name), rows[name]
    share = round(100 * found.shared / found.parameters)
    assert (found.parameters, share) == (row.parameters, row.shared), name
    assert abs(row.ratio - found.parameters / hard) <= 0.005, name


def test_a_row_that_differs_is_seen(tables):
  rows = tables.read(PAGE)
  assert tables.as_table(rows) in PAGE
  old = rows['mmoe']

  def wrong(**changes):
    return tables.differing(rows, {**rows, 'mmoe': old._replace(**changes)})

  assert not tables.differing(rows, rows)
  assert wrong(parameters=old.parameters + 1) == ['mmoe']
  assert wrong(shared=old.shared - 1) == ['mmoe']
  assert not wrong(costs=tuple(1.01 * cost for cost in old.costs))
  assert wrong(costs=(old.costs[0], 1.1 * old.costs[1])) == ['mmoe']
  del rows['mmoe']
  assert tables.differing(tables.read(PAGE), rows) == ['mmoe']


def test_pcgrad_costs_a_pass_a_task_through_what_is_shared(tables):
  rows = tables.read(PAGE)
  # Of the trunk's products; inputs of the first layer need no gradient.
  layers = (20 * 64, 64 * 64)
  heads = 3 * 64
  one = 3 * (sum(layers) + heads) - layers[0]
  more = 2 * (sum(layers) + layers[1])
  assert rows['hard'].costs[0] == 1
  assert abs(rows['hard'].costs[1] - (one + more) / one) < 0.1
  times = {name: row.costs[1] / row.costs[0] for name, row in rows.items()}
  (said,) = re.findall(r'`mmoe`, .*? by (\S+) .*?`lora` by (\S+),', PAGE, re.S)
  assert f'{times["hard"]:.1f}' == f'{times["mmoe"]:.1f}' == said[0]
  assert f'{times["cgc"]:.1f}' == f'{times["lora"]:.1f}' == said[1]
  assert rows['groups'].shared == 0
  assert abs(times['groups'] - 1) < 0.01


@pytest.mark.slow  # It compiles two steps of every architecture.
def test_costs_are_up_to_date(tables, capsys):
  assert tables.main(['--check']) == 0, 'run python docs/sharing_tables.py'
