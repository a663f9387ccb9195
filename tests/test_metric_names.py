"""Names of metrics that are known before data are read."""

import numpy as np
import pytest

import mtl_jax
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build, checks
from mtl_jax.studies import plan
from mtl_jax.tasks import kinds
from mtl_jax.tasks.kinds import next_item

TARGETS = {
  'few': {'kind': 'classification', 'recalls': (0.5,)},
  'many': {'kind': 'classification'},
  'event': {'kind': 'binary', 'group': 'user', 'top': 3, 'recalls': (0.25,)},
  'after': {'kind': 'order_calibrated', 'label': 'event', 'after': 'event'},
  'space': {'kind': 'entire_space', 'label': 'event', 'after': 'event'},
  'tags': {'kind': 'multilabel', 'recalls': (0.5, 0.9)},
  'value': {'kind': 'regression', 'group': 'user'},
  'counts': {'kind': 'regression', 'label': 'user', 'loss': 'poisson'},
  'high': {'kind': 'regression', 'label': 'value', 'loss': 'quantile'},
  'above': {'kind': 'exceeds', 'label': 'value', 'threshold': 3.0},
  'level': {'kind': 'ordinal', 'label': 'value', 'thresholds': (1.0, 3.0)},
}


def make_config():
  config = mtl_jax.default_config()
  config.data.features = {
    **{name: name for name in ('few', 'many', 'event', 'tags', 'value')},
    'user': 'user', 'inputs': 'value',
  }  # fmt: skip
  config.targets = TARGETS
  config.model.trunk = {'name': 'mlp', 'widths': (2,)}
  return config


def test_they_are_those_of_an_evaluation():
  rows = np.arange(1200)
  part = {
    'few': rows % 3,
    'many': rows,
    'event': rows % 2,
    'tags': np.stack([rows % 2, rows // 2 % 2], axis=1),
    'value': rows / 100.0,
    'user': rows % 5,
  }
  splits = dict.fromkeys(('train', 'validation', 'test'), part)
  config = make_config()
  del config.targets.counts  # its label is a class of nobody
  experiment = build.build(
    settings_lib.from_config(config), sources=build.Sources({'main': splits})
  )
  found = {task.name: set() for task in experiment.tasks}
  for name in checks.metric_names(experiment):
    task, _, metric = name.partition('/')
    found[task].add(metric)
  unlike = {'hit_rate_10', 'mrr'}, {'auc', 'pr_auc'}  # of few, and of many
  for task, names in found.items():
    known = kinds.metric_names(TARGETS[task])
    assert names <= known, (task, names - known)
    assert known - names in (set(), *unlike), (task, known - names)


def test_a_study_is_told_before_data_are_read():
  config = make_config()
  config.study.metrics = ('+few/accuracy', '-counts/deviance')
  assert len(plan.list_metrics(settings_lib.from_config(config))) == 2
  config.study.metrics = ('+few/acuracy',)
  with pytest.raises(ValueError, match="did you mean 'few/accuracy'"):
    plan.list_metrics(settings_lib.from_config(config))
  assert kinds.metric_names({'kind': 'mine.own'}) is None


def test_the_next_item_has_its_own():
  (metric,) = next_item.for_items('item', 9, top=5).values()
  nobody = dict.fromkeys(('better', 'equal', 'best', 'mask'), np.zeros(0))
  known = kinds.metric_names({'kind': 'next_item', 'top': 5})
  assert known == {'loss', *metric.compute(nobody)} != {'loss'}
