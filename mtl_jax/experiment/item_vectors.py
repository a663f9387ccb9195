"""Frozen vectors of a table of items, from texts and pictures, and placebos."""

from collections.abc import Mapping
import pathlib
from typing import Any

import numpy as np

from mtl_jax import data, encoders, names as names_lib
from mtl_jax.data import item_content, packages

ARMS = ('text', 'random', 'permuted')
SETTINGS = ('texts', 'pictures', 'arm', 'width', 'seed')
PARTS = {'text': 'texts', 'picture': 'pictures'}  # of a vector, in this order
FROM = {
  'text': 'texts to columns of items that describe them.',
  'picture': 'picture to the column of their paths.',
}


def make_file(
  spec: Mapping[str, Any],
  content: item_content.Content,
  trained: np.ndarray | None = None,
) -> str:
  """The path of a file ``.npy`` of vectors ``[V, M]`` of items.

  A vector has a part for the text and one for the picture, of those whose
  encoder is named. Each part is centred, or whitened, on its own, over the
  trained items that have it, and has the same mean square length; so where an
  item lacks one, the zeros there are the mean of these items, and what the
  other part says is the same with and without it. A part that is alone is only
  scaled where it is not whitened. The mean square length of the whole is 1.

  Args:
    spec: ``texts`` and ``pictures``, see `item_content.text_encoder` and
      `item_content.picture_encoder`; 'minilm' for texts if neither is there.
      ``width``: numbers of each part after whitening that is fitted on trained
      items, 0 = without it. ``arm``: 'text', the vectors themselves, or a
      placebo: 'random', normal numbers with the mean and deviation of the real
      ones where an item has these, or 'permuted', those of other items;
      ``seed`` of the placebo.
    content: of V items.
    trained: ``[V]``, whether an item is a target of training; None = unknown.

  Raises:
    ValueError: for an unknown arm or setting, or parts that no items have.

  References:
    Su et al., Whitening sentence representations, 2021.
  """
  arm = _arm_of(spec)
  parts = encode(spec, content)
  made = {
    part: _scaled(part, some, trained, spec.get('width', 0), len(parts) > 1)
    for part, some in parts.items()
  }
  vectors = np.concatenate(list(made.values()), axis=1)  # [V, M]
  there = np.concatenate(
    [np.repeat(parts[p].mask[:, None], x.shape[1], 1) for p, x in made.items()],
    axis=1,
  )
  if len(parts) > 1:
    vectors = np.where(there, vectors, 0)
    some = there.any(1) if trained is None else there.any(1) & trained
    vectors = vectors / np.sqrt((vectors[some] ** 2).sum(1).mean())
  rng = np.random.default_rng(spec.get('seed', 0))
  if arm == 'permuted':
    order = rng.permutation(len(vectors))
    vectors, there = vectors[order], there[order]
  if arm == 'random':
    drawn = rng.normal(size=vectors.shape)
    starts = np.cumsum([x.shape[1] for x in made.values()])[:-1]
    moments = [
      (own[parts[part].mask].mean(0), own[parts[part].mask].std(0))
      for part, own in zip(made, np.split(vectors, starts, 1), strict=True)
    ]
    mean, deviation = (np.concatenate(x) for x in zip(*moments, strict=True))
    vectors = mean + deviation * drawn
  return encoders.to_file(np.where(there, vectors, 0), _cache())


def blank_file(spec: Mapping[str, Any], count: int) -> str:
  """A file of zeros in the shape of `make_file`.

  It stands for vectors that a checkpoint has, so that neither texts nor
  pictures need be at hand.

  Args:
    spec: as of `make_file`.
    count: V.
  """
  _arm_of(spec)
  width = spec.get('width', 0)
  features = [
    width or _encoder(part, name).features
    for part, name in encoders_of(spec).items()
  ]
  return encoders.to_file(np.zeros((count, sum(features))), _cache())


def content_of(column: data.Column) -> item_content.Content:
  """Texts and pictures of the items that a column's classes from 1 are."""
  return item_content.Content(
    column.names[1:],
    text=(column.texts or column.names)[1:],
    picture=column.pictures[1:] or None,
  )


def encoders_of(spec: Mapping[str, Any]) -> dict[str, str]:
  """Part of a vector ('text', 'picture') -> the name of its encoder.

  Raises:
    ValueError: if there is none.

  Example:
    >>> encoders_of({}), encoders_of({'pictures': 'efficientnet'})
    ({'text': 'minilm'}, {'picture': 'efficientnet'})
  """
  named = dict(spec) if spec.get('pictures') else {'texts': 'minilm', **spec}
  made = {part: named[key] for part, key in PARTS.items() if named.get(key)}
  if not made:
    raise ValueError(
      'Expected an encoder of texts or pictures in model.inputs.vectors, found '
      "none; set texts to 'minilm', pictures to 'efficientnet', or both."
    )
  return made


def encode(
  spec: Mapping[str, Any], content: item_content.Content
) -> dict[str, encoders.Vectors]:
  """Vectors of each part as its encoder makes them, once.

  Args:
    spec: as of `make_file`.
    content: of V items.

  Raises:
    ValueError: if the data have no such part, or a picture cannot be read.
  """
  return {
    part: encoders.encode_items(
      encoder,
      items,
      _cache(),
      what='titles' if part == 'text' else 'pictures',
      names=content.names,
    )
    for part, encoder, items in _parts(spec, content)
  }


def digest(spec: Mapping[str, Any], content: item_content.Content) -> str:
  """A digest of what vectors are made of: encoders, texts and pictures.

  The vectors themselves may differ in their last digits between machines.

  Args:
    spec: as of `make_file`.
    content: of V items.
  """
  parts = _parts(spec, content)
  return '-'.join(encoders.digest_items(x, items)[:32] for _, x, items in parts)


def _parts(spec, content):
  """Name, encoder and items of each part of the vectors."""
  for part, name in encoders_of(spec).items():
    items = getattr(content, part)
    if items is None:
      raise ValueError(
        f'Expected {PARTS[part]} of items in the data for '
        f'model.inputs.vectors.{PARTS[part]}, found none; set data.settings.'
        + FROM[part]
      )
    if part == 'picture':
      items = list(map(_path, content.names, items))
    yield part, _encoder(part, name), [item or None for item in items]


def _encoder(part, name):
  make = {
    'text': item_content.text_encoder,
    'picture': item_content.picture_encoder,
  }
  return make[part](name)


def _cache():
  return packages.cache_dir() / 'vectors'


def _path(name, picture):
  if not isinstance(picture, str) or not picture:
    return picture
  path = pathlib.Path(picture)
  if not path.is_file():
    raise ValueError(
      f'Expected a picture of item {name!r} in {path}, found no such file; put '
      'it there, or start from the folder that training was started from.'
    )
  return path


def _scaled(part, encoded, trained, width, centred):
  """A part ``[V, M]`` whose mean square length over trained items is 1."""
  vectors, there = encoded
  rows = there if trained is None else there & trained
  known = vectors[rows]
  if not known.any() or ((width or centred) and not np.ptp(known, 0).any()):
    raise ValueError(
      f'Expected trained items with {PARTS[part]} that differ, found '
      f'{len(known)} with the same or none; leave {PARTS[part]!r} out of '
      'model.inputs.vectors.'
    )
  if width and len(known) <= width:
    raise ValueError(
      f'Expected more than {width} trained items with a {part}, for vectors of '
      f'width {width}, found {len(known)}; set model.inputs.vectors.width to '
      f'less, or leave {PARTS[part]!r} out.'
    )
  if width:
    vectors = encoders.fit_whitening(known, width)(vectors)
  elif centred:
    vectors = vectors - known.mean(0)
  # So that rows made of them begin as long as rows that are learned.
  return vectors / np.sqrt((vectors[rows] ** 2).sum(1).mean())


def _arm_of(spec):
  for name in spec:
    if name not in SETTINGS:
      raise ValueError(
        f'Expected a setting of the vectors of items, found {name!r}; '
        + names_lib.nearest(name, SETTINGS)
      )
  arm = spec.get('arm', 'text')
  if arm not in ARMS:
    raise ValueError(
      f'Expected an arm of the vectors of items, found {arm!r}; '
      + names_lib.nearest(arm, ARMS)
    )
  return arm
