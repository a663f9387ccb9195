"""The study of conflict in a recommender, on a generated log."""

import pathlib

import jax
import numpy as np
import pytest
import study_cases

from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.experiment import build, ranking_checks, ranking_report
from mtl_jax.recommendation import generated
from mtl_jax.studies import plan

FILE = pathlib.Path(__file__).parents[2] / 'configs/rec/conflict.py'


def load(form):
  config = overrides.load_config(f'{FILE}:{form}')
  if form == 'reduced':
    drawn = config.model.heads['item']['negatives'] * config.data.batch_size
    assert drawn == 256  # as the config says, and fewer than there are items
  options = {'users': 30, 'length': 14, 'items': 40}
  if form == 'generated':
    config.data.settings.options.update(options)
  else:
    config.data.settings.log = 'generated'
    config.data.settings.options = options
  config.data.settings.length = 8
  config.data.batch_size = 4
  if form == 'reduced':
    config.model.heads['item']['negatives'] = 9
  return settings_lib.from_config(config)


@pytest.mark.slow
@pytest.mark.parametrize('form', ['reduced', 'full', 'generated'])
def test_every_method_has_a_step(form):
  settings = load(form)
  methods = plan.list_methods(settings)
  assert len(methods) == {'reduced': 10, 'full': 30, 'generated': 5}[form]
  assert settings.study.control in {entry.name for entry in methods}
  twins = [entry for _, _, entry in plan.list_twins(settings)]
  assert len(twins) == 4
  every = methods[::3] if form == 'reduced' else methods
  sources = build.Sources()
  for entry in [*every, twins[0], twins[-1]]:
    experiment = build.build(entry.settings, sources=sources)
    state = study_cases.traced_step(experiment)
  # The table of items and the trunk, or experts, are groups of their own.
  paths = {
    path[0].key for path, _ in jax.tree_util.tree_leaves_with_path(state.params)
  }
  assert {'inputs', 'trunk'} <= paths


def test_an_unknown_form_is_refused():
  with pytest.raises(ValueError, match="'half'; write conflict.py:full"):
    overrides.load_config(f'{FILE}:half')


def test_the_best_ranking_of_the_generated_log_is_known():
  experiment = build.build(load('generated'))
  *_, said, _ = ranking_checks.lines(experiment)
  compared = ranking_report.compare(experiment.settings, {})
  rows = compared.rows()
  best = max(rows, key=lambda name: rows[name].get('ndcg@10', 0.0))
  assert best == 'law'
  # By hand, from the matrix: the order of P, asked for what came.
  options = experiment.streams['main'].settings['options']
  assert options['agreement'] == 0
  law = generated.make_chain(items=40, agreement=0.0)
  split = ranking_report.split_of(experiment)
  log = split.log
  targets = split.targets('test')
  before, after = log.item_ids[log.item[targets - 1]], log.item[targets]
  ids = log.item_ids
  gains, expected = [], []
  for a, b in zip(before, after, strict=True):
    place = int((law.transition[a][ids] > law.transition[a][ids[b]]).sum())
    gains.append(1 / np.log2(place + 2) if place < 10 else 0)
    top = np.sort(law.transition[a])[::-1][:10]
    expected.append((top / np.log2(np.arange(10) + 2)).sum())
  assert rows['law']['ndcg@10'] == pytest.approx(np.mean(gains), abs=1e-6)
  assert f'ndcg@10 {np.mean(expected):.4f} on these targets' in said


@pytest.mark.parametrize(
  'change', [{'arm': 'order'}, {'arm': 'history'}, {'repeats': 'drop'}]
)
def test_the_law_is_no_row_where_targets_do_not_follow_it(change):
  settings = load('generated')
  values = {**settings.data.settings, **change}
  if 'repeats' in values:  # of the reader
    values['options'] = {**values['options'], 'repeats': values.pop('repeats')}
  experiment = build.build(
    settings_lib.with_values(settings, {'data.settings': values})
  )
  assert 'the law of the log' not in '\n'.join(ranking_checks.lines(experiment))
  assert 'law' not in ranking_report.compare(experiment.settings, {}).rows()
