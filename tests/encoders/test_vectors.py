"""Vectors are encoded once: after a kill, a change, a move."""

import numpy as np
import pytest

from mtl_jax import encoders
from mtl_jax.encoders import vectors


class Lengths:
  """Length and first byte, and a note of what was asked."""

  features = 2

  def __init__(self, fingerprint='lengths', stop=None):
    self.fingerprint, self.stop, self.asked = fingerprint, stop, []

  def encode(self, items):
    if self.stop is not None and len(self.asked) >= self.stop:
      raise KeyboardInterrupt
    self.asked.append(list(items))
    if 'bad' in items:
      raise ValueError('found a bad one; leave it out.')
    return np.array([[len(item), ord(item[0])] for item in items], float)


def test_texts_that_are_cut_are_said_once(tmp_path, capsys):
  class Short:
    features, fingerprint, max_length = 1, 'short', 3

    def count_cut(self, texts):
      return sum(len(text.split()) > 3 for text in texts)

    def encode(self, texts):
      return np.zeros((len(texts), 1))

  texts = ['a b c d', None, 'a b', 'a b c d e', 'a b c d']
  for _ in range(2):
    vectors.encode_items(Short(), texts, tmp_path, what='titles')
  said = capsys.readouterr().err
  assert said.count('2 of these titles are longer than 3 tokens, of which') == 1
  vectors.encode_items(Short(), ['a'], tmp_path, what='titles')
  assert 'longer' not in capsys.readouterr().err


def test_only_what_is_new_is_encoded(tmp_path, capsys):
  items = ['a', None, 'ccc', 'a']
  encoder = Lengths()
  found = encoders.encode_items(encoder, items, tmp_path, what='texts')
  assert found.values.tolist() == [[1, 97], [0, 0], [3, 99], [1, 97]]
  assert found.mask.tolist() == [True, False, True, True]
  assert encoder.asked == [['a', 'ccc']]  # once, though it comes twice
  told = capsys.readouterr().err
  assert told.startswith('Encoding 2 of 4 texts, once, into ')
  # Another order and one changed item.
  found = encoders.encode_items(encoder, ['ccd', 'a', 'ccc'], tmp_path)
  assert encoder.asked[1:] == [['ccd']]
  assert found.values[:, 0].tolist() == [3, 1, 3]
  capsys.readouterr()
  encoders.encode_items(encoder, items, tmp_path)
  assert len(encoder.asked) == 2 and not capsys.readouterr().err
  # Another encoder has vectors of its own.
  other = Lengths('other')
  encoders.encode_items(other, items, tmp_path)
  assert other.asked == [['a', 'ccc']]


def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
  monkeypatch.setattr(vectors, 'CHUNK', 2)
  items = ['a', 'bb', 'ccc', 'dddd', 'eeeee']
  with pytest.raises(KeyboardInterrupt):
    encoders.encode_items(Lengths(stop=2), items, tmp_path)
  encoder = Lengths()
  found = encoders.encode_items(encoder, items, tmp_path)
  assert encoder.asked == [['eeeee']]
  assert found.values[:, 0].tolist() == [1, 2, 3, 4, 5]


def test_a_changed_file_of_the_same_name_is_noticed(tmp_path):
  class Sizes(Lengths):
    reads_files = True

    def encode(self, items):
      self.asked.append(len(items))
      return np.array([[len(item.read_bytes()), 0] for item in items])

  path, encoder = tmp_path / 'x.png', Sizes()
  for content, calls in ((b'1', 1), (b'22', 2), (b'1', 2)):
    path.write_bytes(content)
    for item in (path, str(path)):
      found = encoders.encode_items(encoder, [item], tmp_path / 'cache')
      assert found.values[0, 0] == len(content)
      assert len(encoder.asked) == calls
  assert encoders.PictureEncoder.reads_files


def test_what_cannot_be_encoded_is_named(tmp_path):
  with pytest.raises(ValueError, match='^Item two: found a bad one; leave'):
    encoders.encode_items(
      Lengths(), ['a', 'bad'], tmp_path, names=['one', 'two']
    )

  class Broken(Lengths):
    def encode(self, items):
      return np.full((len(items), 2), np.nan)

  with pytest.raises(ValueError, match='Expected finite vectors of shape'):
    encoders.encode_items(Broken('broken'), ['a'], tmp_path)
  folder = tmp_path / 'old'
  folder.mkdir()
  np.savez(folder / 'x.npz', keys=np.zeros((1, 32)), values=np.zeros((1, 3)))
  with pytest.raises(ValueError, match='delete it, so that it is made again'):
    encoders.encode_items(Lengths('old'), ['a'], tmp_path)


def test_a_file_is_named_by_its_vectors(tmp_path):
  x = np.arange(6.0).reshape(3, 2)
  path = encoders.to_file(x, tmp_path)
  assert encoders.to_file(x, tmp_path) == path
  np.testing.assert_array_equal(np.load(path), x)
  others = [encoders.to_file(y, tmp_path) for y in (x + 1, x.reshape(2, 3))]
  assert len({path, *others}) == len(list(tmp_path.iterdir())) == 3


def test_whitening_is_of_the_training_items():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)) + 3
  made = encoders.fit_whitening(x[:40], epsilon=0)
  y = made(x)
  np.testing.assert_allclose(np.cov(y[:40].T), np.eye(4), atol=1e-5)
  assert np.abs(np.cov(y[40:].T) - np.eye(4)).max() > 0.1
  # The leading direction is that of SVD, up to its sign.
  _, _, v = np.linalg.svd(x[:40] - x[:40].mean(0))
  two = encoders.fit_whitening(x[:40], 2, epsilon=0)(x[:40])
  cosine = two[:, 0] @ ((x[:40] - x[:40].mean(0)) @ v[0])
  cosine /= np.linalg.norm(two[:, 0]) * np.linalg.norm(
    (x[:40] - x[:40].mean(0)) @ v[0]
  )
  assert abs(abs(cosine) - 1) < 1e-6
  for width in (0, 5):
    with pytest.raises(ValueError, match='Expected a width of 1 to 4 from 40'):
      encoders.fit_whitening(x[:40], width)
  # Directions without any spread stay finite.
  flat = encoders.fit_whitening(np.outer(np.arange(5.0), np.ones(3)))
  assert np.all(np.isfinite(flat(np.ones((2, 3)))))
