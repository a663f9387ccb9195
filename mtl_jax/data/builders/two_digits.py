"""Two overlapping images: MultiMNIST, MultiFashion, in two constructions."""

import dataclasses
import zlib

import numpy as np
import tensorflow_datasets as tfds

from mtl_jax.data.builders import images as images_lib

SOURCES = {
  'digits_5k': lambda path: images_lib.digits_5k(),
  'fashion': images_lib.fashion,
  'mnist': images_lib.mnist,
  'npz': images_lib.npz,
}


def paste(left: np.ndarray, right: np.ndarray, corner: int) -> np.ndarray:
  """Both images on one canvas, ``[N, 28, 28]`` twice ``-> [N, 36, 36]``.

  The left one lies at ``[0:28]``, the right one begins at ``corner`` in both
  directions, and where they overlap the brighter pixel counts.
  """
  canvas = np.zeros((len(left), 36, 36), np.uint8)
  canvas[:, :28, :28] = left
  stop = corner + 28
  canvas[:, corner:stop, corner:stop] = np.maximum(
    canvas[:, corner:stop, corner:stop], right
  )
  return canvas


def shrink(images: np.ndarray) -> np.ndarray:
  """Bilinear resize, ``[N, 36, 36] -> [N, 28, 28]``, without anti-aliasing.

  Pixel centres are aligned: output ``i`` reads position
  ``(i + 1/2) 36 / 28 - 1/2``.
  """
  position = (np.arange(28) + 0.5) * 36 / 28 - 0.5
  low = np.floor(position).astype(int)
  share = position - low
  weights = np.zeros((28, 36))
  weights[np.arange(28), low] = 1 - share
  weights[np.arange(28), low + 1] += share
  resized = weights @ images @ weights.T
  return np.rint(resized).astype(np.uint8)


CONSTRUCTIONS = {
  'sener': lambda left, right: shrink(paste(left, right, 6)),
  'pareto': lambda left, right: paste(left, right, 8),
}
SIZES = {'sener': 28, 'pareto': 36}


def pairs(images, labels, construction: str, seed: int):
  """Each image on the left once, with a partner of the same split.

  Partners are a random permutation, so that each image is on the right once
  as well.

  Args:
    images: ``[N, 28, 28]`` uint8.
    labels: ``[N]``.
    construction: 'sener' or 'pareto'.
    seed: of the permutation.

  Returns:
    Images ``[N, S, S]``, labels on the left ``[N]`` and on the right ``[N]``.

  References:
    Sabour et al., Dynamic routing between capsules, NeurIPS 2017. Sener and
    Koltun, Multi-task learning as multi-objective optimization, NeurIPS 2018
    ('sener'). Lin et al., Pareto multi-task learning, NeurIPS 2019 ('pareto').
    The authors draw partners with replacement.
  """
  partner = np.random.default_rng(seed).permutation(len(images))
  joined = CONSTRUCTIONS[construction](images, images[partner])
  return joined, labels, labels[partner]


@dataclasses.dataclass(kw_only=True)
class PairConfig(tfds.core.BuilderConfig):
  """Settings of how images are paired.

  Attributes:
    construction: 'sener' (28 x 28) or 'pareto' (36 x 36).
    source: 'digits_5k' (from pip), 'fashion' or 'mnist' (a folder, or TFDS's
      copy), or 'npz' (a file).
    path: the folder or file.
    seed: decides who is whose partner, and the validation split.
  """

  construction: str = 'sener'
  source: str = 'digits_5k'
  path: str | None = None
  seed: int = 0


def pair_config(
  construction: str = 'sener',
  source: str = 'digits_5k',
  path: str | None = None,
  seed: int = 0,
) -> PairConfig:
  """A config whose name tells its settings apart, so that both are kept.

  Raises:
    ValueError: if the construction or the source is unknown.
  """
  for what, found, known in (
    ('construction', construction, CONSTRUCTIONS),
    ('source', source, SOURCES),
  ):
    if found not in known:
      raise ValueError(
        f'two_digits: expected {what} to be one of {", ".join(known)}, found '
        f'{found!r}; name one of these.'
      )
  name = f'{construction}_{source}_seed{seed}'
  if path is not None:
    name += f'_{zlib.crc32(str(path).encode()):08x}'
  return PairConfig(
    # pyrefly: ignore[unexpected-keyword]  (a field of TFDS's own dataclass)
    name=name,
    construction=construction,
    source=source,
    path=path,
    seed=seed,
  )


class TwoDigits(tfds.core.GeneratorBasedBuilder):
  """Two images on one canvas; which is on the left, and which on the right?"""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'A tenth of the training images validates.'}
  BUILDER_CONFIGS = [pair_config('sener'), pair_config('pareto')]

  def _info(self) -> tfds.core.DatasetInfo:
    size = SIZES[self.builder_config.construction]
    return self.dataset_info_from_configs(
      description='Pairs of images, the right one partly over the left one.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Tensor(
            shape=(size, size, 1),
            dtype=np.uint8,
            encoding=tfds.features.Encoding.BYTES,
          ),
          'left': tfds.features.ClassLabel(num_classes=10),
          'right': tfds.features.ClassLabel(num_classes=10),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Each source says for itself where it is.
    config = self.builder_config
    train, test = SOURCES[config.source](config.path)
    # Split before pairing: no digit is seen in two splits.
    order = np.random.default_rng(config.seed).permutation(len(train[0]))
    cut = len(order) // 10
    parts = {
      'train': tuple(array[order[cut:]] for array in train),
      'validation': tuple(array[order[:cut]] for array in train),
      'test': test,
    }
    return {
      split: self._generate_examples(*part) for split, part in parts.items()
    }

  def _generate_examples(self, images, labels):
    config = self.builder_config
    joined = pairs(images, labels, config.construction, config.seed)
    for index, (image, left, right) in enumerate(zip(*joined, strict=True)):
      yield index, {'image': image[..., None], 'left': left, 'right': right}
