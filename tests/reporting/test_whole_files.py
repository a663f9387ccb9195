import errno
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.reporting import whole_files


def test_a_file_is_whole_or_as_before(tmp_path, monkeypatch):
  path = tmp_path / 'results.json'
  whole_files.write_json(path, {'overall': 0.5})

  def full(unused_descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr('os.fsync', full)
  message = 'space to write .*results.json, found no space left .*; free some'
  with pytest.raises(OSError, match=message):
    whole_files.write_json(path, {'overall': 0.75})
  assert whole_files.read_json(path) == {'overall': 0.5}
  assert list(tmp_path.iterdir()) == [path]


def test_other_errors_are_not_explained_away(tmp_path):
  with pytest.raises(FileNotFoundError):
    whole_files.write_atomically(tmp_path / 'absent' / 'file', '')


def test_plain_values():
  content = {
    'matrix': np.array([[1.0, np.nan]]),
    'array': jnp.arange(2),
    'scalar': np.float64('inf'),
    3: (True, None, 'é'),
    'path': whole_files.pathlib.PurePosixPath('a/b'),
  }
  assert json.loads(
    json.dumps(whole_files.plain(content), allow_nan=False)
  ) == {
    'matrix': [[1.0, None]],
    'array': [0, 1],
    'scalar': None,
    '3': [True, None, 'é'],
    'path': 'a/b',
  }


@pytest.mark.parametrize('text', [None, '{"overall": '])
def test_missing_and_damaged_json(tmp_path, text):
  path = tmp_path / 'results.json'
  if text is not None:
    path.write_text(text)
  with pytest.raises(
    ValueError, match='Expected JSON in .*results.json, found'
  ):
    whole_files.read_json(path)
