"""The pages on the combinators say what the code does."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators, tasks as tasks_lib
from mtl_jax.experiment import methods
from mtl_jax.models import interface
from mtl_jax.training import step as step_lib

ROOT = pathlib.Path(__file__).parents[1]
METHODS = {**combinators.COMBINATORS, **methods.STEP_BUILDERS}
DOCS = ROOT / 'docs'
PAGE = (DOCS / 'combinators.md').read_text(encoding='utf-8')
README = (ROOT / 'README.md').read_text(encoding='utf-8')
COMING = (DOCS / 'coming_from.md').read_text(encoding='utf-8')
PLAIN = (DOCS / 'plain_flax.md').read_text(encoding='utf-8')
K, D = 3, 4
TORCHJD = """AlignedMTL CAGrad ConFIG Constant CRMOGMWeighting DualProj
  ExcessMTL FairGrad GradDrop GradVac GramianWeightedAggregator IMTLG Krum Mean
  MGDA MoDoWeighting NashMTL PCD PCGrad Random SDMGradWeighting Sum TrimmedMean
  UPGrad WeightedAggregator COSMOS DWA FAMO GeometricMean IMTLL PBI STCH UW"""
LIBMTL = """EW GradNorm MGDA UW DWA GLS GradDrop PCGrad GradVac IMTL CAGrad RLW
  Aligned_MTL DB_MTL ExcessMTL FAMO FairGrad MoCo MoDo Nash_MTL RGW SDMGrad
  STCH UPGrad"""


@pytest.fixture(scope='module')
def tools():
  """The two scripts of docs/, by name."""
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(DOCS))
    names = ('combinator_tables', 'bibliography')
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
      del sys.modules[name]


def sections():
  """``{method: {'Paper': text, ...}}``."""
  found = {}
  for part in re.split(r'^### ', PAGE, flags=re.M)[1:]:
    name, _, body = part.partition('\n')
    body = re.split(r'^#', body, flags=re.M)[0]
    items = re.findall(r'^- (\w+): (.*?)(?=^- |\Z)', body, re.M | re.S)
    found[name] = {key: ' '.join(text.split()) for key, text in items}
  return found


SECTIONS = sections()


def cited(text):
  return re.findall(r'\[(\w+\d{4}\w+)\]', text)


def test_the_page_is_up_to_date(tools, capsys):
  stale = tools['combinator_tables'].main(['--check'])
  assert not stale, 'run python docs/combinator_tables.py'


@pytest.mark.slow
def test_a_page_that_differs_is_seen_and_rewritten(
  tools, monkeypatch, tmp_path
):
  tables = tools['combinator_tables']
  page = tmp_path / 'page.md'
  page.write_text(PAGE.replace('| [`pcgrad`](#pcgrad) | Gramian', '| x | y'))
  monkeypatch.setattr(tables, 'PAGE', page)
  assert tables.main(['--check']) == 1
  assert tables.main([]) == 0
  assert page.read_text() == PAGE


def test_what_the_table_says_of_known_methods(tools):
  # Worked out by hand, to check the reading of traces.
  cost = tools['combinator_tables'].cost
  assert cost('weighted_sum') == ('losses', '1', '0', 'weighted')
  assert cost('pcgrad') == ('Gramian', 'K', '0', 'plain')
  assert cost('moco')[:3] == ('Jacobian', 'K', 'K d + K + 1')
  assert cost('metabalance').state == 'K p + K'
  assert cost('m_config')[:3] == ('one gradient', '1', 'K d + 2 d + K + 1')
  assert cost('famo').passes == '1 and one more forward pass'


def test_every_method_has_its_section():
  assert set(SECTIONS) == set(METHODS)
  parts = ['Paper', 'Identities', 'Elsewhere', 'Config']
  for name, section in SECTIONS.items():
    assert list(section) == parts, name


def test_citations_and_references_are_the_same(tools):
  bib = tools['bibliography'].read()
  assert set(cited(PAGE)) == set(bib)
  for key, entry in bib.items():
    assert {'title', 'year'} <= set(entry), key
    assert not set(''.join(entry.values())) & set('{}\\'), key
  entries = re.findall(r'^@', (DOCS / 'references.bib').read_text(), re.M)
  assert len(entries) == len(bib)


def test_papers_are_those_of_the_docstrings(tools):
  bib = tools['bibliography'].read()
  for name, section in SECTIONS.items():
    doc = METHODS[name].__doc__
    _, _, references = doc.partition('References:')
    for key in cited(section['Paper']):
      title = bib[key]['title'].lower()
      assert title in ' '.join(references.lower().split()), f'{name}: {key}'
      assert bib[key]['year'] in references or 'arXiv' in references, (
        f'{name}: {key}'
      )
    assert bool(references) == bool(cited(section['Paper'])), name


@pytest.mark.parametrize('library', ['TorchJD', 'LibMTL'])
def test_agreement_is_claimed_where_it_is_tested(tools, library):
  claim = re.compile(rf'{library}[^.;]* to \de-\d')
  for name, section in SECTIONS.items():
    tested = library in tools['combinator_tables'].tested_against(name)
    assert bool(claim.search(section['Elsewhere'])) == tested, name


def configs():
  """All configs of the page, each a literal in one code span."""
  found = re.findall(r"`(\{'name'.*?\})`", PAGE)
  return {text: ast.literal_eval(text) for text in found}


def test_configs_of_sections_name_their_method():
  for name, section in SECTIONS.items():
    assert section['Config'].startswith(f"`{{'name': '{name}'"), name


class Engine:
  """Task gradients of D parameters with all that a combinator may ask for."""

  model = interface.MultiTaskModel(
    init=lambda key, batch: (jnp.zeros(D), {}),
    features=lambda *unused: None,
    outputs=lambda *unused: None,
    shared=lambda path: True,
  )
  tasks = tuple(tasks_lib.regression(name) for name in 'abc')

  def at_rows(self, params, batch):
    return self, None

  def __call__(self, params, model_state, batch, *, key):
    whole = combinators.gradients_from_jacobian(jnp.ones((K, D)), jnp.ones(K))
    return whole.with_parts([whole] * 3), model_state


def take_step(builder):
  """Traces one step of a combinator."""
  step = builder.make_step(step_lib.StepParts(engine=Engine()))

  def update():
    key = jax.random.key(0)
    state = builder.init_state(Engine.model, key, None)
    return step(state, None)[0].params

  return jax.eval_shape(update)


@pytest.mark.parametrize('text', configs())
def test_configs_run(text):
  kinds = ('regression', 'classification', 'regression')
  spec = configs()[text]
  if 'labels' in spec:  # The parameter of this test is a tensor without name.
    spec['labels'] = ''
  method = methods.make_method(spec, kinds)
  # Builders take their steps in tests/experiment.
  if spec['name'] in methods.STEP_BUILDERS:
    assert method.acts_on_model
  else:
    assert take_step(method).shape == (D,)


def test_the_method_of_the_readme_is_wrapped_like_any_other():
  (code,) = re.findall(r'^# my_combinator.py\n(.*?)^```$', README, re.M | re.S)
  names = {}
  exec(code, names)
  # With power 1, unit rows: of the rows 1, 2 and 3 the sum is 3.
  rows, losses = jnp.array([[1.0], [2.0], [3.0]]), jnp.ones(3)
  gradients = combinators.gradients_from_jacobian(rows, losses)
  method = names['unit_sum']()
  wrapped = (
    method,
    combinators.smooth(method, 3),
    combinators.every_k(method, 2, 3),
    combinators.monitor(method, 3),
    combinators.per_group(method, lambda path: 'all'),
    combinators.with_preference(method, [1.0, 1.0, 1.0]),
    optax.chain(combinators.scale_by(method), combinators.weighted_sum()),
    optax.chain(combinators.scale_by(method), method),
  )
  for tx in wrapped:
    direction, _ = tx.update(gradients, tx.init(jnp.zeros(1)), step=0)
    np.testing.assert_allclose(direction, [3.0], rtol=1e-6)


@pytest.mark.parametrize('name', combinators.COMBINATORS)
def test_old_names_of_weights_are_answered_with_the_method(name):
  with pytest.raises(AttributeError, match=f"did you mean '{name}'"):
    getattr(combinators, f'{name}_weights')
  spec = {'name': f'{name}_weights'}
  with pytest.raises(ValueError, match=f"did you mean '{name}'"):
    methods.make_method(spec, ['regression'] * K)


WITHOUT_WEIGHTS = {
  'coordinate_median',
  'db_mtl',
  'graddrop',
  'm_config',
  'moco',
  'modo',
  'sdmgrad',
  'trimmed_mean',
}


@pytest.mark.parametrize('name', combinators.COMBINATORS)
def test_a_config_wraps_and_puts_in_front_what_has_weights(tools, name):
  required = tools['combinator_tables'].REQUIRED.get(name, {})
  inner = {'name': name, **required}
  specs = (
    {**inner, 'wrappers': ({'name': 'smooth'},)},
    {'name': 'pcgrad', 'before': (inner,)},
  )
  for spec in specs:
    if name in WITHOUT_WEIGHTS:
      with pytest.raises(ValueError, match=f"found .*'{name}'"):
        methods.make_method(spec, ['regression'] * K)
    elif name == 'metabalance' and 'before' in spec:
      with pytest.raises(ValueError, match='found one with weights for each'):
        methods.make_method(spec, ['regression'] * K)
    else:
      builder = methods.make_method(spec, ['regression'] * K)
      assert take_step(builder).shape == (D,)


def rows_of(text):
  lines = (line.split(' | ') for line in text.splitlines() if '|' in line)
  return [[cell.strip(' |') for cell in line] for line in lines]


def expressions():
  """The code of the column 'Here', from the tables of both libraries."""
  ideas, rest = COMING.split('## LibMTL')
  found = [row[3] for row in rows_of(ideas) if len(row) == 4]
  tables = rest.partition('## What published')[0]
  found += [row[2] for row in rows_of(tables) if len(row) > 2]
  spans = [x for cell in found for x in re.findall('`(.*?)`', cell)]
  return sorted({x for x in spans if '(' in x})


@pytest.mark.parametrize('text', expressions())
def test_expressions_run(text):
  names = {**vars(combinators), 'K': K, 'p': jnp.ones(K), 'optax': optax}
  names['p'] = [0.5, 0.3, 0.2] if 'task_gradients' not in text else jnp.ones(K)
  made = eval(text, names)
  if isinstance(made, combinators.Weighting):
    made = combinators.combine_by(made)
  if isinstance(made, optax.GradientTransformation):
    assert take_step(step_lib.from_chain(made)).shape == (D,)
  else:
    gramian = getattr(made, 'gramian', lambda: made)()
    np.testing.assert_array_equal(gramian, 4 * np.eye(K))


def test_settings_that_codes_differ_in_exist():
  table = rows_of(COMING.partition('## What published')[2])[2:]
  settings = [x for row in table for x in re.findall(r'`(\w+)`', row[1])]
  functions = combinators.COMBINATORS.values()
  known = {n for f in functions for n in inspect.signature(f).parameters}
  assert settings and set(settings) <= known


@pytest.mark.parametrize(
  'library, names', [('TorchJD', TORCHJD), ('LibMTL', LIBMTL)]
)
def test_all_names_of_the_library_are_mapped(library, names):
  part = re.split(r'^## ', COMING, flags=re.M)
  (table,) = (text for text in part if text.startswith(f'{library}\n'))
  mapped = {
    name
    for row in rows_of(table)[2:]
    for name in re.findall(r'`(\w+)`', row[0])
  }
  assert mapped == set(names.split())


def blocks():
  found = re.findall(r'^```python\n(.*?)^```$', PLAIN, re.M | re.S)
  return [block.partition('\n') for block in found]


@pytest.mark.slow
def test_plain_loops_run_without_the_rest(tmp_path):
  for first, _, code in blocks():
    (tmp_path / first.removeprefix('# ')).write_text(code)
  (tmp_path / 'all.py').write_text(
    'import sys\n'
    'import plain_famo, plain_loop, plain_monitor\n'
    'first, last = plain_loop.history[0], plain_loop.history[-1]\n'
    'assert (last < 0.5 * first).all(), (first, last)\n'
    'assert plain_famo.opt_state[0].logits.any()\n'
    'assert abs(plain_monitor.measures.weights.sum() - 1) < 1e-5\n'
    'ours = {x for x in sys.modules if x.startswith("mtl_jax.")}\n'
    'packages = {x.split(".")[1] for x in ours}\n'
    'allowed = {"combinators", "config", "memory", "names"}\n'
    'assert packages <= allowed, packages\n'
  )
  done = subprocess.run(
    [sys.executable, 'all.py'],
    cwd=tmp_path,
    env={
      'PYTHONPATH': f'{ROOT}:{tmp_path}',
      'JAX_PLATFORMS': 'cpu',
      'JAX_DISABLE_MOST_OPTIMIZATIONS': 'true',
    },
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
