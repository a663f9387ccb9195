"""Pictures to vectors, by a pretrained convolutional network."""

from collections.abc import Sequence
import functools
import io
import os
import pathlib
from typing import Any

import jax
import numpy as np

from mtl_jax.encoders import efficientnet, weights

SIZE = 224
FITS = ('whole', 'crop')
BACKGROUND = (255, 255, 255)  # behind what is transparent
Picture = bytes | str | os.PathLike | np.ndarray


def read_picture(picture: Picture, size: int, fit: str = 'whole') -> np.ndarray:
  """A picture as ``[size, size, 3]`` of bytes, on white, and bicubic.

  Args:
    picture: content or path of a file that Pillow reads, or bytes
      ``[H, W, 3]`` as an array.
    size: of both sides.
    fit: 'whole': all of it, with white at the sides if it is not square;
      'crop': the square in its middle, without a margin of 16 in 256, as
      EfficientNet's evaluation has it.

  Raises:
    ValueError: if it cannot be read.
  """
  image = open_picture(picture)
  width, height = image.size
  if fit == 'crop':
    side = size / (size + 32) * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
  else:
    image = _square(image)
    box = (0, 0, *image.size)
  pillow = _pillow()
  image = image.resize((size, size), pillow.Resampling.BICUBIC, box=box)
  return np.asarray(image)


def open_picture(picture: Picture) -> Any:
  """A picture as an RGB image of Pillow, upright, on white where transparent.

  Args:
    picture: as of `read_picture`.

  Raises:
    ValueError: if it cannot be read.
  """
  pillow = _pillow()
  if isinstance(picture, np.ndarray):
    return pillow.fromarray(picture).convert('RGB')
  file = io.BytesIO(picture) if isinstance(picture, bytes) else picture
  try:
    with pillow.open(file) as image:
      return _opaque(pillow, _upright(image))
  except _errors(pillow) as error:
    name = f'{len(picture)} bytes' if isinstance(picture, bytes) else picture
    raise ValueError(
      f'Expected a picture that Pillow reads, found that {name} is none '
      f'({error}); leave its cell empty, or give another file.'
    ) from error


def read_frames(picture: Picture, count: int) -> list[np.ndarray]:
  """Frames ``[H, W, 3]`` of an animated picture, at equal distances.

  Args:
    picture: content or path of a file, such as an animated WebP or GIF.
    count: how many at most.

  Returns:
    The first, the last, and those between; none if the picture does not move.

  Raises:
    ValueError: if it cannot be read.
  """
  pillow = _pillow()
  file = io.BytesIO(picture) if isinstance(picture, bytes) else picture
  try:
    with pillow.open(file) as image:
      total = getattr(image, 'n_frames', 1)
      if total < 2:
        return []
      rows = np.linspace(0, total - 1, min(count, total)).round().astype(int)
      frames = []
      for row in rows.tolist():
        image.seek(row)
        frames.append(np.asarray(_opaque(pillow, image)))
      return frames
  except _errors(pillow) as error:
    raise ValueError(
      f'Expected an animated picture that Pillow reads, found none ({error}); '
      'leave it out, or give another file.'
    ) from error


def _errors(pillow) -> tuple[type[Exception], ...]:
  """Errors of Pillow for a file that is no picture, or too large a one."""
  return OSError, SyntaxError, ValueError, pillow.DecompressionBombError


def _upright(image):
  """The picture as its camera was held, which its EXIF data may say."""
  tools = weights.need('PIL.ImageOps', 'pillow', 'pictures')
  return tools.exif_transpose(image)


def _opaque(pillow, image):
  rgba = image.convert('RGBA')
  ground = pillow.new('RGBA', rgba.size, (*BACKGROUND, 255))
  return pillow.alpha_composite(ground, rgba).convert('RGB')


def _square(image):
  side = max(image.size)
  if image.size == (side, side):
    return image
  ground = _pillow().new('RGB', (side, side), BACKGROUND)
  left, top = (side - image.width) // 2, (side - image.height) // 2
  ground.paste(image, (left, top))
  return ground


def _pillow():
  return weights.need('PIL.Image', 'pillow', 'pictures')


def normalize(pixels: np.ndarray) -> np.ndarray:
  """Bytes to about [-1, 1]: ``(x - 127) / 128``, as of the Lite models."""
  return (pixels.astype(np.float32) - 127) / 128


class PictureEncoder:
  """EfficientNet-Lite0, frozen: a vector ``[1280]`` per picture.

  Args:
    path: file of its weights, ``.pth`` of PyTorch.
    fit: how a picture becomes a square, see `read_picture`.
    size: of the square.

  Raises:
    ValueError: if the weights are of another model.
  """

  batch_size = 16
  features = efficientnet.HEAD
  pooling = 'mean'
  reads_files = True

  def __init__(
    self, path: str | os.PathLike, fit: str = 'whole', size: int = SIZE
  ):
    if fit not in FITS:
      raise ValueError(
        f'Expected fit to be one of {", ".join(FITS)}, found {fit!r}; name one '
        'of these.'
      )
    self._path = pathlib.Path(path)
    self._fit, self._size = fit, size

  @functools.cached_property
  def _variables(self):
    arrays = weights.read_torch(self._path)
    return jax.device_put(efficientnet.read_variables(arrays))

  @functools.cached_property
  def fingerprint(self) -> str:
    """A digest of weights and of what is done to a picture."""
    return weights.digest(f'{self._fit} {self._size}', self._path)

  def encode(self, pictures: Sequence[Picture]) -> np.ndarray:
    """Vectors ``[N, 1280]`` of pictures, the means over all places."""
    return self._both(pictures)[0]

  def classify(self, pictures: Sequence[Picture]) -> np.ndarray:
    """Scores ``[N, 1000]`` of ImageNet's classes, before a softmax."""
    return self._both(pictures)[1]

  def _both(self, pictures):
    features, logits = [], []
    for start in range(0, len(pictures), self.batch_size):
      some = pictures[start : start + self.batch_size]
      batch = np.zeros((self.batch_size, self._size, self._size, 3), np.float32)
      for row, picture in enumerate(some):
        batch[row] = normalize(read_picture(picture, self._size, self._fit))
      two = _run(self._variables, batch)
      features.append(np.asarray(two[0])[: len(some)])
      logits.append(np.asarray(two[1])[: len(some)])
    if not features:
      return np.zeros((0, self.features), np.float32), np.zeros((0, 1000))
    return np.concatenate(features), np.concatenate(logits)


@jax.jit
def _run(variables, batch):
  return efficientnet.EfficientNetLite().apply(variables, batch)
