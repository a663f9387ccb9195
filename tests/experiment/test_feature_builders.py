"""The builders that act at the features, from a config to predictions."""

import jax
import numpy as np
import pytest

import mtl_jax
from mtl_jax.training import checkpoints

ADAM = {'name': 'adam', 'learning_rate': 0.02}
SPECS = {
  'rotograd': {'burn_in': 2, 'optimizer': ADAM},
  'ldc_mtl': {'lam': 0.05, 'tau': 'log', 'optimizer': ADAM},
  'cons_mtl': {'lam': 1.0, 'exclude': ('rating',)},
}


def run(tiny, path, spec, steps, **training):
  config = tiny.config(steps=steps, **training)
  config.tasks = 'genre,rating,like'
  config.combinator = spec
  tiny.run(config, path)
  restored = checkpoints.Checkpoints(path / 'checkpoints').restore_any()
  return jax.tree.map(lambda x: x[0], restored.trees['state'])


@pytest.mark.slow
@pytest.mark.parametrize('name', SPECS)
def test_trains_resumes_exactly_and_predicts(tiny, tmp_path, name):
  spec = {'name': name, **SPECS[name]}
  first = run(tiny, tmp_path / 'broken', spec, 3)
  broken = run(tiny, tmp_path / 'broken', spec, 7)
  whole = run(tiny, tmp_path / 'whole', spec, 7)
  for part in ('params', 'opt_state'):
    jax.tree.map(np.testing.assert_array_equal, broken[part], whole[part])
  assert ('rotations' in whole['params']) == (name == 'rotograd')
  changed = jax.tree.map(
    lambda a, b: not np.array_equal(a, b), first['params'], whole['params']
  )
  assert all(jax.tree.leaves(changed)), changed
  model = mtl_jax.load(tmp_path / 'whole', data={'main': tiny.data()})
  found = model.predict([{'x': [0.5] * 5}, {'x': [-0.5] * 5}])
  assert np.isfinite(np.asarray(found['rating'], float)).all()
  # Predictions are those of the rotated features.
  if name == 'rotograd':
    turned = jax.tree.map(lambda a: a + 1.0, model.params['rotations'])
    model.params['rotations'].update(turned)
    other = model.predict([{'x': [0.5] * 5}, {'x': [-0.5] * 5}])
    assert (
      np.abs(
        np.asarray(other['rating'], float) - np.asarray(found['rating'], float)
      ).max()
      > 1e-3
    )


@pytest.mark.parametrize('name', SPECS)
def test_what_does_not_fit_is_told_before_the_run(tiny, tmp_path, name):
  spec = {'name': name, **SPECS[name]}
  with pytest.raises(ValueError, match=f'for {name}, .* 3 microbatches; set'):
    run(tiny, tmp_path, spec, 1, accumulate=3)
  with pytest.raises(ValueError, match=r"found 'lamda'"):
    run(tiny, tmp_path, {'name': name, 'lamda': 1}, 1)


def test_an_unknown_head_is_told_before_the_run(tiny, tmp_path):
  spec = {'name': 'cons_mtl', 'exclude': ('depth',)}
  with pytest.raises(ValueError, match="genre, rating, like, found 'depth'"):
    run(tiny, tmp_path, spec, 1)


@pytest.mark.slow
def test_aligned_mtl_at_the_features(tiny, tmp_path):
  rows = [
    run(tiny, tmp_path / way, {'name': 'aligned_mtl'}, 3, gramian=way)
    for way in ('features', 'stacked')
  ]
  trunks = [jax.tree.leaves(row['params']['trunk']) for row in rows]
  assert all(np.abs(a - b).max() > 1e-6 for a, b in zip(*trunks, strict=True))
