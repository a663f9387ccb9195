"""README and docs: their examples run, and their tables are the code's."""

import json
import pathlib
import random
import re
import runpy
import shlex
import sys

import ml_collections
import pytest

from mtl_jax.config import settings as settings_lib
from mtl_jax.reporting import plots

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')])
COMMANDS = (
  'pip install -e . && python launch.py --config=configs/reviews_cnn.py '
  '--workdir=runs/reviews',
  "pip install -e '.[dev]' && pytest",
)


def blocks(text, language):
  """The contents of the fenced blocks of a language, in order."""
  return re.findall(rf'^```{language}\n(.*?)^```$', text, re.M | re.S)


def files(text):
  """``{name: content}`` of the Python blocks; their first line is the name."""
  named = (block.partition('\n') for block in blocks(text, 'python'))
  return {first.removeprefix('# '): rest for first, _, rest in named}


def launches(text):
  """The arguments of the commands that start with ``python launch.py``."""
  lines = ''.join(blocks(text, 'bash')).splitlines()
  start = 'python launch.py '
  return [shlex.split(x[len(start) :]) for x in lines if x.startswith(start)]


@pytest.fixture
def shrunk(monkeypatch, tmp_path):
  """A folder like the repository's, in which every run takes four steps."""
  (tmp_path / 'configs').symlink_to(ROOT / 'configs')
  (tmp_path / 'launch.py').symlink_to(ROOT / 'launch.py')
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path / 'cache'))
  from_config = settings_lib.from_config

  def few(data):
    if data['name'] != 'synthetic_sequences':
      return data
    return {**data, 'settings': {**data['settings'], 'count': 400, 'length': 5}}

  def small(config):
    if isinstance(config, ml_collections.ConfigDict):
      config = config.to_dict()
    config = dict(config)  # else it was read from a work directory
    config['training'] = {**config['training'], 'steps': 4, 'log_every': 2}
    config['data'] = few(config['data'])
    streams = config['streams']
    config['streams'] = {name: few(streams[name]) for name in streams}
    config['model'] = dict(config['model'])
    if config['model']['trunk']['name'] == 'lstm':  # it compiles for long
      config['model']['trunk'] = {'name': 'mlp', 'widths': (8,)}
    return from_config(config)

  monkeypatch.setattr(settings_lib, 'from_config', small)
  # Drawing takes as long as training; tests/reporting looks at pictures.
  monkeypatch.setattr(plots, 'to_svg', lambda figure: '<svg></svg>')
  before = set(sys.modules)
  yield tmp_path
  for name in set(sys.modules) - before:
    if name.partition('.')[0].startswith(('my_', 'configs', 'launch')):
      del sys.modules[name]


def write_reviews(folder):
  """A small CSV file in the form that the README's example reads."""
  draw = random.Random(0)
  words = ('soft', 'warm', 'blue', 'lovely', 'too', 'small')
  rows = [
    f'{" ".join(draw.choices(words, k=6))},{draw.randint(1, 5)},{shop}'
    for shop in ('north', 'south') * 150
  ]
  (folder / 'reviews.csv').write_text('\n'.join(['review,stars,shop', *rows]))
  (folder / 'new.jsonl').write_text('{"review": "soft and warm"}\n')


def test_commands_stand_first_and_in_order():
  lines = ''.join(blocks(README, 'bash')).splitlines()
  assert tuple(lines[:2]) == COMMANDS


def test_ci_runs_the_test_command_of_the_readme():
  script = (ROOT / '.ci' / 'run').read_text(encoding='utf-8')
  pattern = re.search(r'grep -m 1 "(.*?)" README.md', script)[1]
  matching = [x for x in README.splitlines() if re.match(pattern, x)]
  assert matching == [COMMANDS[1]]


def test_hooks_run_what_ci_runs():
  script = (ROOT / '.ci' / 'run').read_text(encoding='utf-8')
  hooks = (ROOT / '.pre-commit-config.yaml').read_text(encoding='utf-8')
  entries = re.findall(r'entry: (.*)', hooks)
  tools = ('ruff', 'pyrefly')
  checks = [x.removeprefix('run ') for x in script.splitlines()]
  assert entries == [x for x in checks if x.startswith(tools)]


def test_examples_are_short():
  lengths = {name: len(x.splitlines()) for name, x in files(README).items()}
  assert lengths and max(lengths.values()) < 20, lengths


def test_a_method_a_kind_of_task_and_a_trunk_are_few_lines():
  # They are run below, each as the one file that it is.
  most = {'my_combinator.py': 10, 'my_task.py': 15, 'my_trunk.py': 20}
  for name, lines in most.items():
    code = files(README)[name].partition('def get_config')[0]
    code = re.sub(r'^""".*?"""$', '', code, flags=re.M | re.S)
    written = [x for x in code.splitlines() if x.strip() and x[0] != '#']
    assert 5 <= len(written) <= lines, (name, len(written))


# Every day files, and what is predicted of them.
EVERY_DAY = 'runs/files'


@pytest.mark.parametrize(
  'page, wanted',
  [
    ('README.md', EVERY_DAY),
    *(
      pytest.param(page, '', marks=pytest.mark.slow, id=page)
      for page in ('README.md', 'docs/usage.md', 'docs/recipes.md')
    ),
  ],
)
def test_examples_run(shrunk, page, wanted, capsys):
  """All that a page shows; or of its commands those that are wanted."""
  import launch

  write_reviews(shrunk)
  text = (ROOT / page).read_text(encoding='utf-8')
  for name, content in files(text).items():
    (shrunk / name).write_text(content)
  commands = [x for x in launches(text) if re.search(wanted, ' '.join(x))]
  for arguments in commands:
    assert launch.main(arguments) == 0, capsys.readouterr().err
  for name in () if wanted else files(text):
    runpy.run_path(str(shrunk / name), run_name='__main__')
  printed = capsys.readouterr().out
  assert commands
  for arguments in commands:
    workdir = next(x for x in arguments if x.startswith('--workdir='))
    folder = shrunk / workdir.removeprefix('--workdir=')
    study = folder / 'study.json'
    results = study if study.exists() else folder / 'results.json'
    assert json.loads(results.read_text())['metrics'], printed
  for file in shrunk.glob('predicted*.jsonl'):
    (line,) = file.read_text().splitlines()
    row = json.loads(line)
    assert set(row['shop']['probabilities']) == {'north', 'south'}
    assert isinstance(row['stars'], float)


def test_one_step_is_read_in_few_files():
  text = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
  section = text.partition('### One PCGrad step')[2].partition('\n## ')[0]
  read = re.findall(r'^\| `(mtl_jax/\S+\.py)` \|', section, re.M)
  lines = {f: (ROOT / f).read_text().count('\n') for f in read}
  assert 8 <= len(read) <= 12 and sum(lines.values()) <= 2500, lines
  # The derivative is taken in files of this list, and named functions exist.
  for name in re.findall(r'`(\w+)(?:\(\w*\))?`', section):
    assert any(
      re.search(rf'\b{name}\b', (ROOT / f).read_text()) for f in read
    ), name


def test_tables_are_up_to_date(capsys):
  tables = runpy.run_path(str(ROOT / 'docs' / 'tables.py'))
  assert tables['main'](['--check']) == 0, 'run python docs/tables.py'


def test_the_readme_lists_exactly_what_exists():
  from mtl_jax import combinators, models
  from mtl_jax.data import catalogue
  from mtl_jax.experiment import methods as builders_table
  from mtl_jax.tasks import kinds as task_kinds
  from mtl_jax.training import parallel

  listed = {
    cells[1].strip(): set(re.findall('`(.*?)`', cells[3]))
    for cells in (line.split('|') for line in README.splitlines())
    if len(cells) == 5
  }
  expected = {
    'Experiments': {
      str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py')
    },
    'Trunks': models.TRUNKS,
    'Heads': models.HEADS,
    'Combinators': combinators.COMBINATORS,
    'Step builders': builders_table.STEP_BUILDERS,
    'Wrappers of combinators': combinators.WRAPPERS,
    'In front of combinators': combinators.TASK_TRANSFORMS,
    'Input encoders': models.INPUTS,
    'Kinds of task': task_kinds.TASK_KINDS,
    'Data sets': catalogue.BUILDERS,
    'Parallel modes': parallel.MODES,
  }
  for kind, table in expected.items():
    assert listed[kind] == set(table), kind


def anchors(page):
  """The names by which GitHub links to the headings of a page."""
  text = re.sub(r'^```.*?^```$', '', page.read_text('utf-8'), flags=re.M | re.S)
  named = []
  for title in re.findall(r'^#+ (.*)$', text, re.M):
    title = re.sub(r'\]\([^)]*\)', '', title).strip().lower()
    name = re.sub(r'[^\w -]', '', title).replace(' ', '-')
    times = sum(re.fullmatch(rf'{name}(-\d+)?', x) is not None for x in named)
    named.append(f'{name}-{times}' if times else name)
  return named


@pytest.mark.parametrize(
  'page', PAGES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
  text = page.read_text(encoding='utf-8')
  for target in re.findall(r'\]\(([^)\s]+)\)', text):
    if '://' not in target:
      path, _, anchor = target.partition('#')
      file = page.parent / path if path else page
      assert file.exists(), f'{page.name}: {target}'
      assert not anchor or anchor in anchors(file), f'{page.name}: {target}'
