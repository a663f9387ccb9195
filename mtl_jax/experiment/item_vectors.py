"""Frozen vectors of a table of items, from the items' names, and placebos."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_jax import encoders, names as names_lib
from mtl_jax.data import item_content, packages

ARMS = ('text', 'random', 'permuted')
SETTINGS = ('texts', 'arm', 'width', 'seed')


def make_file(
  spec: Mapping[str, Any],
  titles: Sequence[str],
  trained: np.ndarray | None = None,
) -> str:
  """The path of a file ``.npy`` of vectors ``[V, M]``, 0 without a title.

  Args:
    spec: ``texts``, see `item_content.text_encoder`; ``arm``: 'text', or a
      placebo: 'random', normal numbers with the mean and deviation of the real
      ones, or 'permuted', those of other items; ``width``: M after whitening
      that is fitted on trained items, 0 = without it; ``seed`` of the placebo.
      Their mean square length is 1.
    titles: V names of items.
    trained: ``[V]``, whether an item is a target of training; None = unknown.

  Raises:
    ValueError: for an unknown arm or setting.

  References:
    Su et al., Whitening sentence representations, 2021.
  """
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
  cache = packages.cache_dir() / 'vectors'
  encoder = item_content.text_encoder(spec.get('texts', 'minilm'))
  vectors, there = encoders.encode_items(
    encoder, [title or None for title in titles], cache, what='titles'
  )
  width = spec.get('width', 0)
  rows = there if trained is None else there & trained
  if width:
    vectors = encoders.fit_whitening(vectors[rows], width)(vectors)
  # So that rows made of them begin as long as rows that are learned.
  vectors = vectors / np.sqrt((vectors[rows] ** 2).sum(1).mean())
  rng = np.random.default_rng(spec.get('seed', 0))
  if arm == 'permuted':
    order = rng.permutation(len(vectors))
    vectors, there = vectors[order], there[order]
  if arm == 'random':
    drawn = rng.normal(size=vectors.shape)
    vectors = vectors[there].mean(0) + vectors[there].std(0) * drawn
  return encoders.to_file(np.where(there[:, None], vectors, 0), cache)
