"""From the features of a table to the arrays of a batch.

What is learned from the training split (vocabularies, tokenizers, means) is
kept in one record that is saved with a checkpoint and used to predict.
"""

from collections.abc import Collection, Iterable, Mapping
import dataclasses
import functools
import json
from typing import Any

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import tables, text as text_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
  """How one array of the batch is made.

  Attributes:
    kind: that of the field; a string is 'text', 'category' or, as a label, a
      'class'; several features make a 'vector', and 'derived' ones are made by
      the table.
    features: what it is made from.
    size: number of classes, categories or tokens, where that is known.
    names: of the classes, where they have names.
    vocabulary: of a category; id 0 is any other name.
    tokenizer: of a text, as JSON.
    mean: subtracted from each of the features.
    std: they are divided by it.
  """

  kind: str
  features: tuple[str, ...]
  size: int | None = None
  names: tuple[str, ...] = ()
  vocabulary: tuple[str, ...] = ()
  tokenizer: str = ''
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Encoder:
  """Makes batches out of the values of a table.

  `encode` gives compact arrays, to be kept; `finish` makes a batch out of them:
  int32 and float32, images in [0, 1], and a mask beside each text.

  Attributes:
    columns: by the key in the batch.
    derived: how the table makes its derived features.
  """

  columns: Mapping[str, Column]
  derived: tables.Derived | None = None

  @functools.cached_property
  def tokenizers(self) -> dict[str, text_lib.Tokenizer]:
    """The tokenizers of the texts, by key."""
    return {
      key: text_lib.Tokenizer(column.tokenizer)
      for key, column in self.columns.items()
      if column.kind == 'text'
    }

  @functools.cached_property
  def _ids(self):
    return {
      key: {name: i for i, name in enumerate(column.vocabulary, start=1)}
      for key, column in self.columns.items()
      if column.kind == 'category'
    }

  @functools.cached_property
  def _hidden(self) -> tuple[str, ...]:
    """Features that are only kept to derive others from."""
    kinds = {column.kind for column in self.columns.values()}
    return self.derived.reads if self.derived and 'derived' in kinds else ()

  @property
  def features(self) -> tuple[str, ...]:
    """What has to be read from the table."""
    read = {
      feature
      for column in self.columns.values()
      if column.kind != 'derived'
      for feature in column.features
    }
    return tuple(sorted(read | set(self._hidden)))

  def encode(self, raw: tables.Raw) -> dict[str, np.ndarray]:
    """Compact arrays ``[n, ...]``; keys whose features are absent are skipped.

    So texts without labels can be encoded, to predict the labels. A class that
    has a name may be given by it.

    Raises:
      ValueError: if a value is not of its column's kind.
    """
    stored = {
      key: self._encode(key, column, raw)
      for key, column in self.columns.items()
      if column.kind != 'derived' and raw.keys() >= set(column.features)
    }
    # Apart from the keys of the batch, whose names are the user's to choose.
    hidden = {f'/{name}': np.asarray(raw[name]) for name in self._hidden}
    return stored | hidden

  def _encode(self, key, column, raw):
    values = [raw[feature] for feature in column.features]
    if column.kind == 'text':
      return self.tokenizers[key].encode(strings(values[0], key))
    if column.kind == 'category':
      ids, found = self._ids[key], strings(values[0], key)
      return np.array([ids.get(v, 0) for v in found], np.int32)
    if column.kind == 'multihot':
      hot = np.zeros((len(values[0]), column.size or 0), np.uint8)
      for row, classes in zip(hot, values[0], strict=True):
        row[np.asarray(classes, int)] = 1
      return hot
    if column.kind == 'vector':
      found = [numbers(raw[feature], feature) for feature in column.features]
      array = np.stack([v.astype(np.float32) for v in found], axis=-1)
    elif column.kind == 'class' and column.names:
      array = _compact(class_ids(values[0], column.names, key), 'class')
    else:
      array = _compact(numbers(values[0], key), column.kind)
    if column.mean:
      mean, std = np.float32(column.mean), np.float32(column.std)
      array = (array - mean) / std
    return array

  def finish(
    self, stored: Mapping[str, np.ndarray], keys: Collection[str] | None = None
  ) -> dict[str, np.ndarray]:
    """The batch ``{key: [n, ...]}``, or those keys of it, from `encode`'s."""
    batch = {}
    for key, values in stored.items():
      if key.startswith('/'):
        continue
      kind = self.columns[key].kind
      if keys is None or key in keys:
        batch[key] = to_batch(values, kind)
      mask = mask_key(key)
      if kind == 'text' and (keys is None or mask in keys):
        batch[mask] = (values != text_lib.PAD).astype(np.float32)
    if self.derived is not None and self._hidden:
      wanted = {
        key: column.features[0]
        for key, column in self.columns.items()
        if column.kind == 'derived' and (keys is None or key in keys)
      }
      if wanted:
        made = self.derived.make({h: stored[f'/{h}'] for h in self._hidden})
        batch |= {key: made[feature] for key, feature in wanted.items()}
    return batch

  def to_json(self) -> str:
    """Everything but how derived features are made, which the table knows."""
    return json.dumps(
      {key: dataclasses.asdict(column) for key, column in self.columns.items()}
    )

  @classmethod
  def from_json(cls, serialized: str) -> 'Encoder':
    """The encoder that `to_json` wrote."""
    lists = ('features', 'names', 'vocabulary', 'mean', 'std')
    return cls(
      {
        key: Column(**column | {name: tuple(column[name]) for name in lists})
        for key, column in json.loads(serialized).items()
      }
    )


def mask_key(key: str) -> str:
  """The key of a text's mask.

  Example:
    >>> mask_key('tokens')
    'token_mask'
  """
  return key.removesuffix('s') + '_mask'


def to_batch(values: np.ndarray, kind: str) -> np.ndarray:
  """What a model reads: int32 or float32; images in [0, 1]."""
  if kind == 'image':
    return values.astype(np.float32) / 255
  dtype = np.float32 if values.dtype.kind == 'f' else np.int32
  return values.astype(dtype, copy=False)


def _compact(array, kind):
  """Labels in 32 bits; small integers and images stay as they are."""
  if kind == 'float':
    return array.astype(np.float32, copy=False)
  small = array.dtype in (np.uint8, np.int8, np.int16)
  return array if small else array.astype(np.int32)


def numbers(values: Any, name: str) -> np.ndarray:
  """An array of numbers ``[n, ...]``.

  Raises:
    ValueError: naming the example that holds anything else.
  """
  try:
    array = np.asarray(values)
  except ValueError:  # of lists that differ in length
    array = np.asarray(None)
  if array.dtype.kind in 'biuf':
    return array
  for row, value in enumerate(values, 1):
    if np.asarray(value).dtype.kind not in 'biuf':
      raise ValueError(
        f'{name!r}: expected numbers, found {value!r} in example {row}; mend '
        'or remove the example.'
      )
  raise ValueError(
    f'{name!r}: expected as many numbers in every example, found lists of '
    'several lengths; pad them.'
  )


def class_ids(
  values: Any, names: tuple[str, ...], name: str = 'label'
) -> np.ndarray:
  """Classes ``[n]`` that are given by number or by name; '' is missing, -1.

  Raises:
    ValueError: naming what is neither.
  """
  array = np.asarray(values)
  if array.dtype.kind in 'biu':
    return array
  ids = {'': -1} | {known: i for i, known in enumerate(names)}
  found = np.empty(len(values), np.int32)
  for row, value in enumerate(values):
    if isinstance(value, int | np.integer):
      found[row] = value
      continue
    (text,) = strings([value]) if isinstance(value, str | bytes) else (None,)
    if text not in ids:
      given = repr(value if text is None else text)
      raise ValueError(
        f'{name!r}: expected a class of the training split, found {given}; '
        + names_lib.nearest(str(text), names)
      )
    found[row] = ids[text]
  return found


def strings(values: Iterable[Any], name: str = 'text') -> list[str]:
  """Strings, whether stored as such or as UTF-8 bytes.

  Raises:
    ValueError: naming the example that holds None.
  """
  values = list(values)
  for row, value in enumerate(values, 1):
    if value is None:
      raise ValueError(
        f"{name!r}: expected a string, found null in example {row}; write '' "
        'if it is missing.'
      )
  return [
    v.decode('utf-8', 'replace') if isinstance(v, bytes) else str(v)
    for v in values
  ]
