"""Affinities of a run, and the groups that follow."""

import pathlib

import numpy as np
import pytest

from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.studies import affinities

ROOT = pathlib.Path(__file__).parents[2]


def small():
  config = overrides.load_config(str(ROOT / 'configs/synthetic_sequences.py'))
  config.data.settings.count = 400
  config.model.trunk = {'name': 'mlp', 'widths': (4,)}
  config.training.steps = 3
  return settings_lib.from_config(config)


@pytest.mark.slow
def test_looks_are_averaged_over_steps_and_seeds():
  found = affinities.measure(small(), every=2, seeds=(0, 1))
  assert found.tasks == ('category', 'value') and found.looks == 4
  assert found.lookahead.shape == found.cosine.shape == (2, 2)
  np.testing.assert_allclose(np.diag(found.cosine), 1)
  # A small step along its own gradient takes something off each loss.
  assert (np.diag(found.lookahead) > 0).all()
  assert sorted(sum(found.groups(2), [])) == ['category', 'value']


def test_groups_are_by_the_affinity_that_is_named():
  found = affinities.Affinities(
    ('a', 'b', 'c'),
    lookahead=np.array([[1, 0.1, -1], [0.1, 1, -1], [-1, -1, 1.0]]),
    cosine=np.array([[1, -0.1, 0.2], [-0.1, 1, -0.1], [0.2, -0.1, 1.0]]),
    looks=1,
  )
  assert found.groups(2) == [['a', 'b'], ['c']]
  assert found.groups(2, 'cosine') == [['a', 'c'], ['b']]
  assert found.groups(3, alone=1.0) == [['a'], ['b'], ['c']]
  with pytest.raises(ValueError, match='Expected a way among lookahead'):
    found.groups(2, 'distance')


def test_mean_is_over_looks_where_a_pair_was_seen():
  nan = np.nan
  looks = [np.array([[1.0, nan]]), np.array([[3.0, nan]]), np.full((1, 2), nan)]
  np.testing.assert_array_equal(affinities._mean(looks), [[2.0, nan]])


@pytest.mark.parametrize('options', [{'every': 0}, {'seeds': ()}])
def test_nothing_to_look_at(options):
  with pytest.raises(ValueError, match='Expected every >= 1 and a seed'):
    affinities.measure(small(), **options)
