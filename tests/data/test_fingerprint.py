"""Digests of data: equal in every process, changed by whatever is read."""

import os
import subprocess
import sys

import numpy as np

from mtl_jax.data import loading, own_data

ROWS = {
  'x': np.arange(6.0).reshape(3, 2),
  'name': ['a', 'b', 'a'],
  'y': [1.0, np.nan, 2.0],
}
PROGRAM = """
import numpy as np
from mtl_jax.data import loading, own_data
rows = {
  'y': [1.0, np.nan, 2.0],
  'x': np.arange(6.0).reshape(3, 2),
  'name': ['a', 'b', 'a'],
}
print(loading.fingerprint(own_data.from_splits({'train': rows}))['train'])
"""


def digest(cache='auto', **changes):
  data = own_data.from_splits({'train': ROWS | changes}, cache=cache)
  return loading.fingerprint(data)['train']


def test_every_change_of_content_shows():
  digests = {
    digest(),
    digest(y=[1.0, np.nan, 2.5]),
    digest(y=[1.0, 0.0, 2.0]),
    digest(name=['a', 'b', 'b']),
    digest(x=np.arange(6.0).reshape(3, 2)[::-1]),
    digest(more=[1, 2, 3]),
  }
  assert len(digests) == 6
  assert digest() in digests


def test_splits_have_digests_of_their_own():
  data = own_data.from_splits({'train': ROWS, 'test': ROWS, 'validation': {
    key: value[:2] for key, value in ROWS.items()
  }})  # fmt: skip
  digests = loading.fingerprint(data)
  assert digests['train'] == digests['test'] != digests['validation']


def test_rows_that_are_not_in_memory_count_too():
  assert digest(cache=False) == digest(cache=False)
  assert digest(cache=False) != digest(cache=False, y=[1.0, np.nan, 3.0])


def test_other_processes_and_orders_of_columns_agree():
  run = subprocess.run(
    [sys.executable, '-c', PROGRAM],
    capture_output=True,
    text=True,
    check=True,
    env=os.environ | {'PYTHONHASHSEED': '7'},
  )
  assert run.stdout.strip() == digest()
