"""Mean ratings and genres of items, from training events alone."""

import made_log
import numpy as np
import pytest

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import item_attributes
from mtl_jax.recommendation import log_settings


def test_means_and_shares_are_those_of_training_events(tmp_path):
  folder = made_log.write(tmp_path / 'files')
  split = log_settings.make_split(
    {'log': 'recbole', 'options': {'folder': folder}}
  )
  values = item_attributes.of_log(split, strength=2.0)
  log = split.log
  items, ratings = log.item[split.part == 0], log.rating[split.part == 0]
  mean = ratings.astype(np.float64).mean()
  np.testing.assert_allclose(values[0, 0], mean, rtol=1e-6)
  np.testing.assert_allclose(
    values[0, 1:], log.genres[items].mean(0), rtol=1e-6
  )
  np.testing.assert_array_equal(values[1:, 1:], log.genres)
  for item in range(log.num_items):
    own = ratings[items == item]
    expected = (own.sum() + 2 * mean) / (len(own) + 2)
    np.testing.assert_allclose(values[1 + item, 0], expected, rtol=1e-6)
  # What is tested is not in them.
  other = log.rating.copy()
  other[split.part > 0] = 99.0
  object.__setattr__(log, 'rating', other)
  np.testing.assert_array_equal(
    item_attributes.of_log(split, strength=2.0), values
  )


def test_attributes_of_what_is_no_log_are_refused():
  settings = settings_lib.Settings()
  with pytest.raises(ValueError, match="stream whose name is 'interactions'"):
    item_attributes.with_file(
      {'name': 'items', 'attributes': 'log'}, settings, {'main': None}
    )
