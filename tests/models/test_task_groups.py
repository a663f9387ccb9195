"""A trunk for each group of tasks: what it is in simple cases."""

import jax
import numpy as np
import pytest
import sharing_cases as cases

from mtl_jax import models

NAMES = tuple(task.name for task in cases.make_tasks())


def outputs_of(model, params, batch):
  features, _ = model.features(
    params, {}, batch, stream='main', train=False, key=None
  )
  return model.outputs(
    params, {}, features, batch, tasks=NAMES, train=False, key=None
  )[0]


def trunk_of(params, group):
  return {
    'trunk': params['trunks'][f'group_{group}'],
    'heads': params['heads'],
  }


@pytest.mark.parametrize(
  'groups, place',
  [((NAMES,), (0, 0, 0)), ((), (0, 1, 2)), (('b', 'ac'), (1, 0, 1))],
)
def test_each_task_has_the_network_of_its_group(groups, place):
  model = cases.make_model('groups', 'mlp', groups=groups)
  hard = cases.make_model('hard', 'mlp')
  batch = cases.make_batch('mlp')
  params, _ = model.init(jax.random.key(1), {'main': batch})
  found = outputs_of(model, params, batch)
  assert len(params['trunks']) == max(place) + 1
  for name, group in zip(NAMES, place, strict=True):
    expected = outputs_of(hard, trunk_of(params, group), batch)[name]
    np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_groups_start_apart():
  model = cases.make_model('groups', 'mlp')
  params, _ = model.init(jax.random.key(0), {'main': cases.make_batch('mlp')})
  first, second = (
    group['Dense_0']['kernel'] for group in params['trunks'].values()
  )
  assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize(
  'groups', [(('a',), ('b',)), (('a', 'b', 'c'), ('a',)), ('ab', 'cd'),
             ('abc', ())],
)  # fmt: skip
def test_every_task_once(groups):
  heads = {name: models.LinearHead(1) for name in NAMES}
  with pytest.raises(ValueError, match='every one of the tasks a, b, c in one'):
    models.build_model(
      models.SHARING['groups'](groups=groups), models.MLP(widths=(2,)), heads
    )
