"""Every shipped study: all methods built, two of them and the twins trained."""

import gzip
import json
import pathlib
import struct

import jax
import numpy as np
import pytest
import study_cases

from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.experiment import build
from mtl_jax.studies import (
  claims as claims_lib,
  plan,
  record,
  study as study_lib,
)

ROOT = pathlib.Path(__file__).parents[2]


def study_configs():
  """Configs with methods to compare, and their further arguments."""
  found = []
  for folder in ('suites', 'papers'):
    for file in sorted((ROOT / 'configs' / folder).glob('*.py')):
      config = overrides.load_config(str(file))
      if config.study.methods and not config.problem.name:
        found.append(str(file))
  papers = ROOT / 'configs' / 'papers'
  found += [
    f'{papers}/multi_mnist.py:paper',
    f'{papers}/multi_fashion.py:paper',
  ]
  synthetic = f'{papers}/mmoe_synthetic.py'
  return found + [f'{synthetic}:3', f'{synthetic}:architectures_3']


CONFIGS = study_configs()


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """A folder like MNIST's: 480 images to train on and 40 to test on."""
  folder = tmp_path_factory.mktemp('images')
  rng = np.random.default_rng(0)
  for name, count in (('train', 480), ('t10k', 40)):
    pixels = rng.integers(0, 256, (count, 28, 28), np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for kind, array in (('images-idx3', pixels), ('labels-idx1', labels)):
      head = struct.pack(f'>HBB{array.ndim}i', 0, 8, array.ndim, *array.shape)
      file = folder / f'{name}-{kind}-ubyte.gz'
      file.write_bytes(gzip.compress(head + array.tobytes()))
  return folder


@pytest.fixture(scope='module')
def storms(tmp_path_factory):
  """A file of eighty storms of eight steps."""
  path = tmp_path_factory.mktemp('storms') / 'storms.csv'
  rng = np.random.default_rng(0)
  lines = ['name,year,month,day,hour,status,lat,long,wind,pressure']
  for storm in range(80):
    for step in range(8):
      values = ','.join(map('{:.1f}'.format, rng.normal(50, 5, 4)))
      when = f'{1990 + storm},8,{1 + step // 4},{6 * (step % 4)}'
      lines.append(f'Amy,{when},hurricane,{values}')
  path.write_text('\n'.join(lines))
  return path


@pytest.fixture
def cache(images, storms, monkeypatch):
  """A function: what is prepared for these tests only lies beside them."""
  folder = images.parent / 'cache'

  def use():
    monkeypatch.setenv('MTL_JAX_CACHE', str(folder))
    return storms

  return use


def load(spec, images, cache):
  """The config with two seeds, two steps and few data."""
  config = overrides.load_config(spec)
  overrides.apply_overrides(
    config,
    [
      'config.data.splits.train=train[:256]',
      'config.data.splits.validation=validation[:40]',
      'config.data.splits.test=test[:40]',
      'config.data.batch_size=8',
      'config.data.evaluation_batch_size=32',
      'config.training.steps=2',
      'config.training.log_every=1',
      'config.training.evaluate_every=2',
      'config.population.seeds=2',
      'config.population.way=vmap',
    ],
  )
  if config.data.name in ('two_digits', 'mmoe_synthetic'):
    cache()
  if config.data.name == 'storms':
    config.data.settings.path = str(cache())
  if config.data.name == 'two_digits':
    with config.data.settings.unlocked():
      config.data.settings.path = str(images)
  if config.data.name == 'mmoe_synthetic':
    for method in config.study.methods.values():
      with method.unlocked():
        method.data.settings.count = 600
  return config


def one_of_each(entries):
  """Of a grid, one row and one column: each model and each method once."""
  found, models, methods = [], [], []
  for entry in entries:
    model, method = entry.settings.model, entry.settings.combinator
    if (
      model in models
      and method in methods
      and entry.settings.data in [e.settings.data for e in found]
    ):
      continue
    models.append(model)
    methods.append(method)
    found.append(entry)
  return found


FULL = f'{ROOT}/configs/suites/census.py:full_group2'


@pytest.mark.slow
@pytest.mark.parametrize(
  'spec',
  [*CONFIGS, FULL],
  ids=lambda s: s.rpartition('/')[2],
)
def test_every_method_is_built_and_has_a_step(spec, images, cache):
  settings = settings_lib.from_config(load(spec, images, cache))
  methods = plan.list_methods(settings)
  names = {entry.name for entry in methods}
  for claim in settings.study.claims:
    assert set(claim.methods) <= names
  twins = [entry for _, _, entry in plan.list_twins(settings)]
  sources = build.Sources()
  for entry in [*one_of_each(methods), *twins]:
    experiment = build.build(entry.settings, sources=sources)
    study_cases.traced_step(experiment)


@pytest.mark.parametrize(
  'path',
  [pathlib.Path(c) for c in CONFIGS if '/papers/' in c and ':' not in c],
  ids=lambda p: p.name,
)
def test_a_study_of_a_paper_says_how_and_how_long(path):
  docstring = path.read_text(encoding='utf-8').split('"""')[1]
  words = ' '.join(docstring.split())
  assert f'--config={path.relative_to(ROOT)}' in words
  assert 'on 2 CPU cores' in words and 'declared before' in words


@pytest.mark.slow
@pytest.mark.parametrize(
  'spec',
  [c for c in CONFIGS if ':' not in c],
  ids=lambda s: s.rpartition('/')[2],
)
def test_trains_and_judges_its_claims(spec, images, cache, tmp_path):
  config = load(spec, images, cache)
  names = [config.study.control, sorted(config.study.methods)[-1]]
  config.study.methods = {n: config.study.methods[n] for n in names}
  config.study.claims = tuple(
    claim
    for claim in config.study.claims
    if set(record.Claim(**claim).methods) <= set(names)
  )
  study_lib.run(settings_lib.from_config(config), tmp_path)
  study = record.read(tmp_path)
  for method in study.methods:
    assert [r.status for r in method.runs] == ['finished'] * 2
    overall = np.array([r.overall for r in method.runs], float)
    assert np.isfinite(overall).all()
  assert len(study.twins) == len(config.study.twins) * len(study.tasks)
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert len(summary['verdicts']) == len(config.study.claims)


def parameters(experiment) -> int:
  params, _ = experiment.params_shapes
  return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
  'config, method, size, number, tolerance',
  [
    pytest.param(
      *('suites/census.py:full', '{}_equal', 45_170, 19, 0.025),
      marks=pytest.mark.slow,
    ),
    pytest.param(
      *('papers/mmoe_synthetic.py:architectures', '{}_p_1', 13_255, 7, 0.011),
      marks=pytest.mark.slow,
    ),
    ('suites/storms.py', '{}', 6_129, 4, 0.01),
  ],
)
def test_architectures_are_of_one_size(
  config, method, size, number, tolerance, images, cache
):
  """As many parameters as shared-bottom; and so have twins of equal size."""
  spec = f'{ROOT}/configs/{config}'
  settings = settings_lib.from_config(load(spec, images, cache))
  ending = method.removeprefix('{}')
  sources = build.Sources()
  sizes = {}
  for entry in plan.list_methods(settings):
    if entry.name.endswith(ending) and not entry.name.endswith('full'):
      experiment = build.build(entry.settings, sources=sources)
      sizes[entry.name] = parameters(experiment)
  assert len(sizes) == number and size in sizes.values()
  for name, found in sizes.items():
    assert abs(found / size - 1) < tolerance, (name, found)
  twins = [e for which, _, e in plan.list_twins(settings) if which == 'equal']
  if twins:
    built = [build.build(e.settings, sources=sources) for e in twins]
    assert abs(sum(map(parameters, built)) / size - 1) < tolerance


@pytest.mark.parametrize(
  'path', [spec for spec in CONFIGS if '/papers/' in spec and ':' not in spec]
)
def test_the_page_of_reproductions_has_the_claims_as_they_are_now(path):
  # A claim that is changed after its run is no longer the one on the page.
  page = (ROOT / 'docs' / 'reproductions.md').read_text(encoding='utf-8')
  name = pathlib.Path(path).stem
  section = page.partition(f'\n## {name}\n')[2].partition('\n## ')[0]
  rows = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in section.splitlines()
    if line.startswith('| ')
  ][2:]
  claims = [
    record.Claim(**claim) for claim in overrides.load_config(path).study.claims
  ]
  assert [row[:3] for row in rows] == [
    [claim.text, claim.source, claims_lib.describe(claim)] for claim in claims
  ]
  assert {row[-1] for row in rows} <= {'holds', 'fails', 'undecided', 'not run'}
