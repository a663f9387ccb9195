"""The configs of papers on problems: built, run end to end, reported."""

import json
import pathlib
import re

import numpy as np
import pytest

import launch
from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.studies import api, claims, problem_run, record

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / 'configs' / 'papers'


def problem_configs():
  """Those of this folder that are about a problem, with their arguments."""
  found = []
  for file in sorted(FOLDER.glob('*.py')):
    if 'config.problem' in file.read_text(encoding='utf-8'):
      found.append(str(file))
  more = {'famo_toy': ['paper'], 'zdt_front': ['2', '3']}
  for name, arguments in more.items():
    found += [f'{FOLDER / name}.py:{argument}' for argument in arguments]
  return found


CONFIGS = problem_configs()


def load(spec, *changes):
  config = overrides.load_config(spec)
  overrides.apply_overrides(config, changes)
  return config


def short(spec):
  """The config with four steps, two seeds and small data."""
  config = load(
    spec, 'config.training.steps=4', 'config.problem.record_every=2'
  )
  if config.population.seeds > 1:
    config.population.seeds = 2
  if config.problem.preferences:
    config.problem.preferences = 3
  if config.problem.name == 'scaled_regressions':
    small = {'inputs': 8, 'width': 6, 'outputs': 3, 'batch_size': 8}
    small['examples'] = (40, 10)
    with config.problem.options.unlocked():
      config.problem.options.update(small)
  return config


# Nothing is claimed where a paper's text was not at hand.
UNCLAIMED = ('aligned_toy', 'rotograd_toy', 'sdmgrad_toy')


@pytest.mark.parametrize('spec', CONFIGS, ids=lambda s: s.rpartition('/')[2])
def test_is_built_and_says_what_it_is(spec):
  settings = settings_lib.from_config(load(spec))
  assert problem_run.build(settings).runs
  path = pathlib.Path(spec.partition(':')[0])
  assert bool(settings.study.claims) == (path.stem not in UNCLAIMED)
  for claim in settings.study.claims:
    assert claim.source and 'memory' not in claim.source
  docstring = path.read_text(encoding='utf-8').split('"""')[1]
  assert f'--config=configs/papers/{path.name}' in docstring
  assert 'on 2 CPU cores' in docstring and 'downloaded' in docstring


def check_report(workdir, config):
  study = record.read(workdir)
  assert {m.name for m in study.methods} == set(config.study.methods)
  summary = json.loads((workdir / 'summary.json').read_text())
  assert len(summary['verdicts']) == len(config.study.claims)
  for claim in summary['verdicts']:
    assert claim['verdict'] in ('holds', 'fails', 'undecided', 'not run')
  page = (workdir / 'report.html').read_text()
  bare = re.sub('<svg.*?</svg>', '', page, flags=re.S)
  assert 'src="http' not in bare and 'href=' not in bare
  pictures = {p.name for p in (workdir / 'figures').iterdir()}
  assert {p.replace('.pdf', '.png') for p in pictures} <= pictures
  assert page.count('data:image/png') == len(pictures) / 2 > 0
  return study, summary


@pytest.mark.slow
@pytest.mark.parametrize('spec', CONFIGS, ids=lambda s: s.rpartition('/')[2])
def test_runs_end_to_end(spec, tmp_path, capsys):
  config = short(spec)
  api.run(config, tmp_path)
  study, summary = check_report(tmp_path, config)
  for method in study.methods:
    for run in method.runs:
      losses = [run.metrics[f'{task.name}/loss'] for task in study.tasks]
      assert run.status == 'finished' and np.isfinite(losses).all()
  printed = capsys.readouterr().out
  for claim in summary['verdicts']:
    assert claim['claim']['text'] in printed and claim['verdict'] in printed


@pytest.mark.slow
def test_a_method_with_parameters_of_its_own_is_read_back(tmp_path):
  config = short(str(FOLDER / 'rotograd_toy.py'))
  config.study.methods = {'rotograd': config.study.methods['rotograd']}
  first = api.run(config, tmp_path).methods
  took = record.read(tmp_path)
  again = api.run(config, tmp_path).methods
  still = record.read(tmp_path)
  assert took.seconds == still.seconds
  assert took.methods[0].cost == still.methods[0].cost
  for before, after in zip(
    first['rotograd'].members, again['rotograd'].members, strict=True
  ):
    assert before.metrics == after.metrics
    for name, curve in before.curves['train'].items():
      np.testing.assert_array_equal(curve, after.curves['train'][name])


@pytest.fixture
def two_methods(tmp_path):
  """A config file with two methods and two claims, of which one cannot hold."""
  file = tmp_path / 'small.py'
  file.write_text(
    'import mtl_jax\n\n\n'
    'def get_config():\n'
    '  config = mtl_jax.default_config()\n'
    '  config.optimizer.learning_rate = 0.1\n'
    "  config.problem.name = 'vlmop1'\n"
    "  config.problem.options = {'size': 2, 'starts': 2}\n"
    '  config.training.steps = 400\n'
    '  config.problem.record_every = 100\n'
    '  config.population.seeds = 2\n'
    '  config.study.methods = {\n'
    "    'sum': {'combinator': {'name': 'weighted_sum'}},\n"
    "    'even': {'combinator': {'name': 'imtl_g'}}}\n"
    "  config.study.absent = {'gone': 'nobody wrote it'}\n"
    "  claim = mtl_jax.claim('It is close.', 'distance', 'sum', '<', 0.05,\n"
    "                        over='max')\n"
    '  config.study.claims = (\n'
    "    claim, claim | {'relation': '>', 'text': 'Far.'},\n"
    "    claim | {'method': 'gone'})\n"
    '  return config\n'
  )
  return file


def test_launch_runs_judges_and_reports(two_methods, tmp_path, capsys):
  arguments = [f'--config={two_methods}', f'--workdir={tmp_path / "run"}']
  assert launch.main([*arguments, '--dry_run']) == 0
  assert not (tmp_path / 'run').exists()
  assert launch.main(arguments) == 0
  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  verdicts = [claim['verdict'] for claim in summary['verdicts']]
  assert verdicts == ['holds', 'fails', 'not run']
  printed = capsys.readouterr().out
  assert 'nobody wrote it' in (tmp_path / 'run' / 'report.html').read_text()
  assert 'It is close.' in printed and 'holds' in printed
  where = f'--workdir={tmp_path / "run"}'
  page = (tmp_path / 'run' / 'report.html').read_text()
  assert launch.main(['--mode=report', where]) == 0
  assert (tmp_path / 'run' / 'report.html').read_text() == page
  assert launch.main(['--mode=evaluate', where]) == 1
  assert 'report.html' in capsys.readouterr().err
  # A claim that was changed after a run does not get into its directory.
  changed = two_methods.read_text().replace('0.05', '0.5')
  two_methods.write_text(changed)
  assert launch.main(arguments) == 1
  assert 'threshold' in capsys.readouterr().err


@pytest.mark.parametrize(
  'change, sentence',
  [
    ('config.problem.name=two_valley', 'two_valleys'),
    ('config.training.steps=0', 'training.steps'),
    ('config.problem.record_every=7', 'record_every divides'),
    ('config.problem.options.sise=3', 'size'),
    (
      "config.study.methods={'sum': {'combinator': {'name': 'pcgrat'}}}",
      "found 'pcgrat'",
    ),
    (
      "config.study.methods={'sum': {'combinator': {'name': 'rotograd'}}}",
      'study.absent',
    ),
    ('config.study.methods={}', "found 'sum'"),
    (
      "config.study.methods={'sum': {'combinator': {'name': 'stch', "
      "'preference': 'member'}}}",
      'problem.preferences',
    ),
    ("config.optimizer.frozen=('x',)", 'optimizer.frozen'),
    ("config.study.claims=({'text': 'y'},)", "'statistic'"),
    ("config.study.columns=('distanc',)", "did you mean 'distance'"),
    ("config.study.twins=('full',)", "found study.twins = ('full',); leave"),
    ('config.study.trials=3', 'found study.trials = 3; leave'),
    ("config.study.metrics=('+a/b',)", 'found study.metrics'),
    (
      "config.population.sweep=({'optimizer.learning_rate': 0.1},)",
      'found population.sweep',
    ),
    ('config.training.patience=3', 'found training.patience = 3; leave'),
    (
      "config.study.methods={'sum': {'training': {'steps': 4}}}",
      'found training.steps = 4 in study.methods.sum; set it for all',
    ),
    (
      "config.study.methods={'sum': {'draws': (('seed', 'choice', 1),)}}",
      'no draws in study.methods.sum',
    ),
  ],
)
def test_bad_settings_are_told_in_one_sentence(
  two_methods, change, sentence, tmp_path, capsys
):
  workdir = tmp_path / 'run'
  code = launch.main(
    [f'--config={two_methods}', f'--workdir={workdir}', f'--{change}']
  )
  error = capsys.readouterr().err
  assert code == 1 and sentence in error and error.count('\n') == 1, error
  assert not workdir.exists()


def test_the_page_of_reproductions_has_the_claims_as_they_are_now():
  # A claim that is changed after its run is no longer the one on the page.
  page = (ROOT / 'docs' / 'reproductions.md').read_text(encoding='utf-8')
  sections = dict(part.partition('\n')[::2] for part in page.split('\n## ')[1:])
  for spec in CONFIGS:
    name = spec.rpartition('/')[2].replace('.py', '').replace(':', '_')
    section = sections[name]
    command = spec[len(str(ROOT)) + 1 :]
    assert f'python launch.py --config={command} --workdir=' in section
    rows = [
      [cell.strip() for cell in line.strip('|').split('|')]
      for line in section.splitlines()
      if line.startswith('| ')
    ][2:]
    expected = [
      [claim.text, claim.source, claims.describe(claim)]
      for claim in settings_lib.from_config(load(spec)).study.claims
    ]
    assert [row[:3] for row in rows] == expected, name
    verdicts = {row[-1] for row in rows}
    assert verdicts <= {'holds', 'fails', 'undecided', 'not run'}


@pytest.mark.parametrize(
  ('name', 'value'),
  [('tune', True), ('data', {}), ('profile', True), ('trunk', {'name': 'mlp'})],
)
def test_arguments_that_a_problem_does_not_read(tmp_path, name, value):
  config = load(str(FOLDER / 'vlmop2_front.py'))
  with pytest.raises(ValueError, match=f"no {name} with the problem 'vlmop2'"):
    api.run(config, tmp_path, **{name: value})
