"""From the features of a table to the arrays of a batch.

What is learned from the training split (vocabularies, tokenizers, means) is
kept in one record that is saved with a checkpoint and used to predict.
"""

import collections
from collections.abc import Collection, Iterable, Mapping
import dataclasses
import functools
import itertools
import json
from typing import Any

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import cells, parsing, tables, text as text_lib
from mtl_jax.tasks import mask_key

HIDDEN = '\0'  # begins the keys of what others are derived from
MASKED = ('text', 'sequence')  # id 0 is padding
EMPTY = ('text', 'set', 'sequence', 'list')  # a missing one has no members

# (key, feature, 'cells' | 'missing' | 'unknown' | 'cut') -> how many
Counts = collections.Counter[tuple[str, str, str]]
# key of a column of groups -> the values of a split, in order: numbers, or
# names and their places.
Groups = Mapping[str, np.ndarray | dict[str, int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
  """Recipe of one array of the batch.

  Attributes:
    kind: that of the field; a string is 'text', 'category' or, as a label, a
      'class'; several features make a 'vector', and 'derived' ones are made by
      the table. A 'group' is a number per value of a split, -1 of a missing
      one, whatever training has.
    features: what it is made from.
    kinds: of the fields of these.
    shape: of one value of a feature.
    size: number of classes, categories or tokens, where that is known.
    names: of the classes, where they have names, and of the members of a set.
    texts: of the classes, where more is said of them than a name.
    pictures: paths of those of the classes, '' = none; () = of none.
    vocabulary: of a category; id 0 is any other name. Of a sequence, whose id 0
      is padding and 1 any other name. Of a class, the names
      that training has, where they are not those of its classes.
    by_value: of a class: whether codes are given to values by ``names``, or
      values are codes; of a set, whether it is a label; of a list, whether it
      holds whole numbers; of whole numbers, whether ``fill`` is an id of its
      own; of a group, whether a number below 0 is a value.
    positive: of a class, the name that is 1 where all others are 0.
    fold: whether names are compared without regard to case.
    tokenizer: of a text, as JSON.
    length: steps of a padded list or sequence.
    mean: subtracted from each of the features, in float64.
    std: they are divided by it.
    fill: what a missing number of each feature is replaced by; none is if
      empty, as in labels.
    seen: of ids: start and stop of each run of whole numbers in training.
    indicator: whether 1 or 0 for each feature that is missing or not follows.
    refuse: whether a missing number is an error.
  """

  kind: str
  features: tuple[str, ...]
  kinds: tuple[str, ...] = ()
  shape: tuple[int, ...] = ()
  size: int | None = None
  names: tuple[str, ...] = ()
  texts: tuple[str, ...] = ()
  pictures: tuple[str, ...] = ()
  vocabulary: tuple[str, ...] = ()
  by_value: bool = False
  positive: str = ''
  fold: bool = False
  tokenizer: str = ''
  length: int = 0
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  fill: tuple[float, ...] = ()
  seen: tuple[int, ...] = ()
  indicator: bool = False
  refuse: bool = False

  @functools.cached_property
  def codes(self) -> dict[str, int]:
    """Name of a value -> number of its class, category or member."""
    if self.kind in ('category', 'sequence'):
      first = 1 if self.kind == 'category' else text_lib.UNKNOWN + 1
      return {name: i for i, name in enumerate(self.vocabulary, start=first)}
    if self.positive:
      return {name: int(name == self.positive) for name in self.vocabulary}
    names = self.names or map(str, range(self.size or 0))
    return {name: i for i, name in enumerate(names)}


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
  def _hidden(self) -> tuple[str, ...]:
    """Features that are only kept to derive others from."""
    kinds = {column.kind for column in self.columns.values()}
    return self.derived.reads if self.derived and 'derived' in kinds else ()

  @property
  def features(self) -> tuple[str, ...]:
    """Features that are read from the table."""
    read = {
      feature
      for column in self.columns.values()
      if column.kind != 'derived'
      for feature in column.features
    }
    return tuple(sorted(read | set(self._hidden)))

  def parse(
    self, raw: Mapping[str, Any], reading: cells.Reading = cells.DEFAULT
  ) -> tables.Raw:
    """Values as a user gives them, typed as those of the training table were.

    Args:
      raw: ``{feature: list of values}``.
      reading: how they are written.

    Raises:
      ValueError: naming the example with a value of another kind.
    """
    typed = dict(raw)
    for feature, kind in self.kinds.items():
      if feature not in raw:
        continue
      values = list(raw[feature])
      try:
        if kind == 'multihot':
          typed[feature] = self._multihot(feature, values, reading)
        elif kind == 'declared':
          column = self._declared[feature]
          typed[feature] = class_ids(
            values, column.names, feature, column.size, reading
          )
        else:
          found = parsing.parse(values, kind, reading)
          words = kind in ('string', 'class')
          typed[feature] = found.to_pylist() if words else found
      except cells.CellError as error:
        message = error.message
        if '{example}' not in message:
          message = f'{feature!r}, example {{example}}: {message}'
        raise ValueError(
          message.replace('{example}', str(error.position + 1))
        ) from None
    return typed

  def _multihot(self, feature, values, reading):
    """Lists of declared classes, by name or number."""
    column = self._declared[feature]
    return [
      []
      if names is None
      else class_ids(
        names, column.names, feature, column.size, reading
      ).tolist()
      for names in parsing.parse(values, 'set', reading)
    ]

  @functools.cached_property
  def kinds(self) -> dict[str, str]:
    """Feature -> kind of cells it is read as.

    Besides `parsing.KINDS` there are 'array' of nested lists, and 'declared'
    and 'multihot' of classes that the data set declares.
    """
    found = {}
    for column in self.columns.values():
      kinds = column.kinds or _kinds_of(column)
      for feature, kind in zip(column.features, kinds, strict=True):
        whole = 'integer' if column.by_value else 'float'
        found[feature] = {
          'class': 'declared',
          'name': 'class',
          'list': whole,
          'image': 'array',
        }.get(kind, kind)
        if kind in ('integer', 'float') and len(column.shape) > 1:
          found[feature] = 'array'
    return found

  def file_kinds(self, features: Collection[str]) -> dict[str, str]:
    """The kinds of columns that a file of some features is read by."""
    kinds = {'declared': 'class', 'multihot': 'set'}
    return {
      feature: kinds.get(self.kinds.get(feature, ''), self.kinds[feature])
      if feature in self.kinds
      else 'array'
      for feature in features
    }

  def may_lack(self, feature: str) -> bool:
    """Whether a missing value of an input has a meaning."""
    return all(
      column.kind in (*EMPTY, 'category', 'group')
      or (bool(column.fill) and not column.refuse)
      for column in self.columns.values()
      if feature in column.features
    )

  @functools.cached_property
  def _declared(self):
    return {
      feature: column
      for column in self.columns.values()
      if column.kind in ('class', 'multihot')
      for feature in column.features
    }

  def encode(
    self,
    raw: tables.Raw,
    *,
    name: str = '',
    first: int = 1,
    counts: Counts | None = None,
    groups: Groups | None = None,
  ) -> dict[str, np.ndarray]:
    """Compact arrays ``[n, ...]``; keys whose features are absent are skipped.

    So texts without labels can be encoded, to predict the labels.

    Args:
      raw: typed values, see `parse`.
      name: what error messages call the table.
      first: number of the first example, for error messages.
      counts: how many values are missing and unknown is added to it.
      groups: of `find_groups`; without them there are no arrays of groups.

    Raises:
      ValueError: if a value is not of its column's kind, or has no place.
    """
    counts = collections.Counter() if counts is None else counts
    groups = groups or {}
    stored = {}
    for key, column in self.columns.items():
      if column.kind == 'derived' or not raw.keys() >= set(column.features):
        continue
      if column.kind == 'group' and key not in groups:
        continue
      try:
        if column.kind == 'group':
          (feature,) = column.features
          made = _group_numbers(column, raw[feature], groups[key])
          counts[key, feature, 'cells'] += len(made)
          counts[key, feature, 'missing'] += int((made < 0).sum())
        else:
          made = self._encode(key, column, raw, counts)
      except cells.CellError as error:
        raise ValueError(
          f'{name}, ' * bool(name)
          + error.message.replace('{example}', str(first + error.position))
        ) from None
      stored |= made if isinstance(made, dict) else {key: made}
    # Apart from the keys of the batch, whose names are the user's to choose.
    hidden = {HIDDEN + name: np.asarray(raw[name]) for name in self._hidden}
    return stored | hidden

  def _encode(self, key, column, raw, counts):
    values = [raw[feature] for feature in column.features]
    (feature, *_) = column.features
    counts[key, feature, 'cells'] += len(values[0])
    if column.kind == 'text':
      texts = strings(values[0])
      ids = self.tokenizers[key].encode(texts)
      counts[key, feature, 'missing'] += sum(not text for text in texts)
      counts[key, feature, 'tokens'] += int((ids != text_lib.PAD).sum())
      counts[key, feature, 'unknown'] += int((ids == text_lib.UNKNOWN).sum())
      return ids
    if column.kind == 'category':
      names = _folded(strings(values[0]), column.fold)
      ids = _look_up(column.codes, names, 0)
      absent = names.count('')
      own = '' in column.codes  # training has missing ones too
      counts[key, feature, 'missing'] += absent
      counts[key, feature, 'unknown'] += int((ids == 0).sum())
      counts[key, feature, 'unknown'] -= 0 if own else absent
      return ids
    if column.kind == 'set':
      return _members(key, column, values[0], counts)
    if column.kind == 'sequence':
      return _steps(key, column, values[0], counts)
    if column.kind == 'multihot':
      hot = np.zeros((len(values[0]), column.size or 0), np.uint8)
      for row, classes in zip(hot, values[0], strict=True):
        row[np.asarray(classes, int)] = 1
      return hot
    if column.kind == 'class':
      return _classes(key, column, values[0])
    if column.kind == 'multilabel':
      return _hot(key, column, values, counts)
    if column.kind == 'list':
      return _padded(key, column, values[0], counts)
    return _numbers(key, column, values, counts)

  def finish(
    self, stored: Mapping[str, np.ndarray], keys: Collection[str] | None = None
  ) -> dict[str, np.ndarray]:
    """The batch ``{key: [n, ...]}``, or those keys of it, from `encode`'s."""
    batch = {}
    for key, values in stored.items():
      if key.startswith(HIDDEN):
        continue
      kind = self.columns[key].kind if key in self.columns else 'float'
      if keys is None or key in keys:
        batch[key] = to_batch(values, kind)
      mask = mask_key(key)
      if kind in MASKED and (keys is None or mask in keys):
        batch[mask] = (values != text_lib.PAD).astype(np.float32)
    if self.derived is not None and self._hidden:
      wanted = {
        key: column.features[0]
        for key, column in self.columns.items()
        if column.kind == 'derived' and (keys is None or key in keys)
      }
      if wanted:
        made = self.derived.make({h: stored[HIDDEN + h] for h in self._hidden})
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
    lists = [
      field.name
      for field in dataclasses.fields(Column)
      if 'tuple' in str(field.type)
    ]
    return cls(
      {
        key: Column(
          **column | {k: tuple(column[k]) for k in lists if k in column}
        )
        for key, column in json.loads(serialized).items()
      }
    )


def find_groups(encoder: Encoder, table: tables.Table, chunk: int) -> Groups:
  """The values of a split by which its rows are grouped.

  Args:
    encoder: of all splits.
    table: the split.
    chunk: how many rows are read at a time.
  """
  groups: dict[str, np.ndarray | dict[str, int]] = {}
  for key, column in encoder.columns.items():
    if column.kind != 'group':
      continue
    (feature,) = column.features
    names: set[str] = set()
    numbers = []
    for start in range(0, table.size, chunk):
      rows = range(start, min(start + chunk, table.size))
      values = table.read(rows, [feature])[feature]
      if isinstance(values, np.ndarray) and values.dtype.kind in 'biuf':
        numbers.append(np.unique(values[~_no_group(column, values)]))
      else:
        names.update(_folded(strings(values), column.fold))
    groups[key] = (
      np.unique(np.concatenate(numbers))
      if numbers
      else {name: i for i, name in enumerate(sorted(names - {''}))}
    )
  return groups


def _no_group(column, values):
  absent = cells.missing(values)
  return absent if column.by_value else absent | (values < 0)


def _group_numbers(column, values, known):
  """Numbers of groups ``[n]`` int32, -1 where there is none."""
  if isinstance(known, dict):
    return _look_up(known, _folded(strings(values), column.fold), -1)
  found = np.searchsorted(known, values)
  return np.where(_no_group(column, values), -1, found).astype(np.int32)


def to_batch(values: np.ndarray, kind: str) -> np.ndarray:
  """Converts values to int32 or float32; images to [0, 1]."""
  if kind == 'image':
    return values.astype(np.float32) / 255
  dtype = np.float32 if values.dtype.kind == 'f' else np.int32
  return values.astype(dtype, copy=False)


def _kinds_of(column):
  """Of a column that an older version saved."""
  kind = {'vector': 'float', 'text': 'string', 'category': 'string'}.get(
    column.kind, column.kind
  )
  return (kind,) * len(column.features)


def _numbers(key, column, values, counts):
  """Numbers ``[n, ...]``: filled, standardized in float64, then narrowed."""
  vector = column.kind == 'vector'
  found, absent = [], []
  for feature, one in zip(column.features, values, strict=True):
    shape = column.shape if column.kinds else None
    array = numbers(one, feature, shape)
    if array.shape[1:] != column.shape and column.kinds:
      raise _wrong_shape(feature, column.shape, one)
    hole = cells.missing(array)
    if column.seen:
      known = array[~hole]
      # Between a start and its stop there is an odd number of bounds.
      new = np.searchsorted(column.seen, known, side='right') % 2 == 0
      counts[key, feature, 'members'] += len(known)
      counts[key, feature, 'unknown'] += int(new.sum())
    counts[key, feature, 'missing'] += int(
      hole.any(tuple(range(1, hole.ndim))).sum()
    )
    counts[key, feature, 'cells'] += (
      0 if feature == column.features[0] else len(array)
    )
    if hole.any():
      if column.refuse:
        raise cells.CellError(
          _first(hole),
          f'{feature!r}: expected a value, found none in example {{example}}; '
          f"mend it, or set data.fill[{key!r}] to 'mean' or 'indicator'.",
        )
      array = np.where(hole, np.nan, array)
    found.append(array)
    absent.append(hole)
  array = np.stack(found, axis=-1) if vector else found[0]
  hole = np.stack(absent, axis=-1) if vector else absent[0]
  if column.fill and hole.any():
    array = np.where(hole, np.asarray(column.fill).reshape(_per(column)), array)
  if column.mean:
    array = array.astype(np.float64) - np.asarray(column.mean).reshape(
      _per(column)
    )
    array /= np.asarray(column.std).reshape(_per(column))
  array = _compact(array, column, key)
  if column.indicator:
    flags = hole.astype(np.float32)
    if array.ndim == 1:
      return np.stack([array, flags], axis=-1)
    return np.concatenate([array, flags], axis=-1)
  return array


def _per(column):
  """The shape of a number per feature, beside values ``[n, ...]``."""
  count = max(len(column.fill), len(column.mean), 1)
  return () if column.kind != 'vector' and count == 1 else (count,)


def _wrong_shape(name, shape, values):
  position = next(
    i for i, value in enumerate(values) if np.shape(value) != shape
  )
  return cells.CellError(
    position,
    f'{name!r}: expected {_numbers_of(shape)}, as in other rows, found '
    f'{_numbers_of(np.shape(values[position]))} in example {{example}}; mend '
    'the example.',
  )


def _numbers_of(shape):
  if len(shape) > 1:
    return f'shape {shape}'
  return f'a list of {shape[0]} numbers' if shape else 'one number'


def _first(bad):
  """The first row ``[n, ...]`` in which something is true."""
  return int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))


def _compact(array, column, key):
  """Small integers and images as they are, others in 32 bits if they fit."""
  if array.dtype in (np.uint8, np.int8, np.int16):
    return array
  if column.kind in ('float', 'vector') or column.mean:
    with np.errstate(over='ignore'):
      narrow = array.astype(np.float32)
    bad = np.isinf(narrow)
    if np.isinf(array).any():
      raise cells.CellError(
        _first(np.isinf(array)),
        f'{key!r}: expected finite numbers, or NaN for a missing one, found '
        'inf in example {example}; mend it.',
      )
    if bad.any():
      raise cells.CellError(
        _first(bad),
        f'{key!r}: expected numbers that 32 bits hold, found '
        f'{array[bad].flat[0]:g} in example {{example}}; mend it, write it in '
        f'another unit, or list {key!r} in data.standardize if it is an input.',
      )
    return narrow
  if array.dtype.kind == 'f':  # whole numbers, some of which were missing
    array = np.nan_to_num(array, nan=-1)
    if (bad := array != np.floor(array)).any():
      raise cells.CellError(
        _first(bad),
        f'{key!r}: expected whole numbers, as in training, found '
        f'{array[bad].flat[0]:g} in example {{example}}; mend it, or give '
        'floats in training too.',
      )
    array = array.astype(np.int64)
  limits = np.iinfo(np.int32)
  bad = (array < limits.min) | (array > limits.max)
  if bad.any():
    raise cells.CellError(
      _first(bad),
      f'{key!r}: expected whole numbers of 32 bits, found '
      f'{array[bad].flat[0]} in example {{example}}; list {key!r} in '
      "data.standardize if it is a quantity, or read ids as kind 'string'.",
    )
  return array.astype(np.int32)


def _classes(key, column, values):
  """Classes ``[n, ...]`` as codes, -1 where missing."""
  if column.by_value:
    if isinstance(values, np.ndarray):
      distinct, where = np.unique(values, return_inverse=True)
      names = value_names(distinct)
    else:
      names, where = _folded(strings(values), column.fold), None
    codes = _look_up({**column.codes, '': -1}, names, -2)
    found = codes if where is None else codes[where]
    if (found == -2).any():
      position = int(np.argmax(found == -2))
      given = names[position if where is None else int(where[position])]
      known = list(column.codes)
      if not column.names:
        raise cells.CellError(
          position,
          f'label {key!r}: expected classes from 0 to {len(known) - 1}, found '
          f'{given!r} in example {{example}}; set num_classes of the target, '
          'shuffle the rows before they are split, or leave the cells of '
          'missing labels empty (None in arrays).',
        )
      hint = (
        names_lib.nearest(given, known)
        if len(known) <= 20
        else f'it has {len(known)}.'
      )
      raise cells.CellError(
        position,
        f'label {key!r}: expected a class of the training split, found '
        f'{given!r} in example {{example}}; shuffle the rows before they are '
        f'split, or leave that cell empty; {hint}',
      )
    return found
  array = np.asarray(values)
  if array.dtype.kind in 'biu':
    codes = _compact(
      array.astype(np.uint8) if array.dtype == bool else array, column, key
    )
  else:
    codes = class_ids(values, column.names, key, column.size)
  if column.positive:
    one = column.names.index(column.positive)
    codes = np.where(codes < 0, -1, codes == one).astype(np.int32)
  return codes


def value_names(values: np.ndarray) -> list[str]:
  """The names of numbers as classes; '' is missing."""
  absent = cells.missing(values)
  return [
    ''
    if hole
    else str(int(value))
    if float(value).is_integer()
    else repr(float(value))
    for value, hole in zip(values.tolist(), absent, strict=True)
  ]


def _folded(names, fold):
  return [name and name.casefold() for name in names] if fold else names


def _members(key, column, values, counts):
  """Sets as 0/1 ``[n, L]``; of labels, -1 where the whole set is missing."""
  label = column.by_value
  hot = np.zeros((len(values), len(column.names)), np.int8)
  (feature,) = column.features
  for position, names in enumerate(values):
    if names is None:
      counts[key, feature, 'missing'] += 1
      hot[position] = -1 if label else 0
      continue
    if isinstance(names, np.ndarray):  # ids
      names = value_names(names)
    for name in _folded(names, column.fold):
      code = column.codes.get(name)
      if code is not None:
        hot[position, code] = 1
      elif label:
        hint = names_lib.nearest(name, column.names)
        raise cells.CellError(
          position,
          f'label {key!r}: expected names of the training split, found '
          f'{name!r} in example {{example}}; leave it out, or shuffle the file '
          f'before it is cut: {hint}',
        )
      else:
        counts[key, feature, 'unknown'] += 1
    counts[key, feature, 'members'] += len(names)
  return hot


def _hot(key, column, values, counts):
  """Lists or columns of 0 and 1 ``[n, L]``, -1 where missing."""
  found = []
  for feature, one in zip(column.features, values, strict=True):
    array = numbers(one, feature, column.shape)
    if array.shape[1:] != column.shape:
      raise _wrong_shape(feature, column.shape, one)
    found.append(np.where(cells.missing(array), np.nan, array))
  array = found[0] if column.shape else np.stack(found, axis=-1)
  hole = np.isnan(array)
  counts[key, column.features[0], 'missing'] += int(hole.all(axis=1).sum())
  if not column.by_value:  # the data set says that they are classes
    hole = hole | (array < 0)
  if (bad := ~(hole | np.isin(array, (0, 1)))).any():
    raise cells.CellError(
      _first(bad),
      f'label {key!r}: expected 0 and 1, found {array[bad].flat[0]:g} in '
      'example {example}; leave missing ones empty (None), or read ids as kind '
      "'set'.",
    )
  array = np.where(hole, -1, array)
  return array.astype(np.int8)


def _steps(key, column, values, counts):
  """Sequences of names as ids ``[n, T]``: 0 is padding, 1 unknown."""
  (feature,) = column.features
  ids = np.full((len(values), column.length), text_lib.PAD, np.int32)
  for position, names in enumerate(values):
    if names is None:
      counts[key, feature, 'missing'] += 1
      continue
    counts[key, feature, 'cut'] += len(names) > column.length
    names = names[: column.length]
    for step, name in enumerate(_folded(names, column.fold)):
      if name is None:  # A step that is missing is as padding.
        continue
      ids[position, step] = column.codes.get(name, text_lib.UNKNOWN)
    counts[key, feature, 'members'] += len(names)
  unknown = int((ids == text_lib.UNKNOWN).sum())
  counts[key, feature, 'unknown'] += unknown
  return ids


def _padded(key, column, values, counts):
  """Lists of several lengths as ``[n, T]``, and a mask of the same shape."""
  (feature,) = column.features
  padded = np.zeros((len(values), column.length))
  mask = np.zeros((len(values), column.length), np.float32)
  for position, row in enumerate(values):
    if row is None:
      counts[key, feature, 'missing'] += 1
      continue
    row = np.atleast_1d(row)
    counts[key, feature, 'cut'] += len(row) > column.length
    row = row[: column.length]
    known = ~cells.missing(row)
    padded[position, : len(row)] = np.where(known, row, 0)
    mask[position, : len(row)] = known
  if column.mean:
    padded = np.where(mask > 0, (padded - column.mean[0]) / column.std[0], 0)
  whole = column.by_value and not column.mean
  array = padded.astype(np.int64) if whole else padded
  kind = dataclasses.replace(column, kind='integer' if whole else 'float')
  return {key: _compact(array, kind, key), mask_key(key): mask}


def numbers(
  values: Any, name: str, shape: tuple[int, ...] | None = None
) -> np.ndarray:
  """An array of numbers ``[n, ...]``.

  Raises:
    CellError: naming the example that holds anything else.
  """
  if isinstance(values, np.ndarray) and values.dtype.kind in 'biuf':
    return values
  rows = [np.nan if value is None else value for value in values]
  try:
    array = np.asarray(rows)
  except ValueError:  # of lists that differ in length
    array = np.asarray(None)
  if array.dtype.kind in 'biuf':
    return array
  for row, value in enumerate(rows):
    if np.asarray(value).dtype.kind not in 'biuf':
      raise cells.CellError(
        row,
        f'{name!r}: expected numbers, found {value!r} in example {{example}}; '
        'mend or remove the example.',
      )
  if shape is None:
    counts = collections.Counter(np.shape(value) for value in rows)
    ((shape, _),) = counts.most_common(1)
  raise _wrong_shape(name, shape, rows)


def class_ids(
  values: Any,
  names: tuple[str, ...],
  name: str = 'label',
  size: int | None = None,
  reading: cells.Reading = cells.DEFAULT,
) -> np.ndarray:
  """Classes ``[n]`` that are given by name, or by number; missing is -1.

  A number that is the name of a class is that class.

  Raises:
    CellError: naming what is neither.
  """
  texts = parsing.parse(list(values), 'class', reading).to_pylist()
  codes = {known: i for i, known in enumerate(names)}
  size = size or len(names)
  if size == 2:
    codes = {'false': 0, 'true': 1} | codes
  found = np.full(len(texts), -1, np.int32)
  for row, text in enumerate(texts):
    if text is None or text == '-1' and '-1' not in codes:
      continue
    whole = text.isdecimal() and int(text) < size
    if text not in codes and not whole:
      hint = names_lib.nearest(text, names) if names else ''
      raise cells.CellError(
        row,
        f'{name!r}: expected one of {size} classes, found {text!r} in example '
        '{example}; give its name, or its number from 0: ' + hint,
      )
    found[row] = codes[text] if text in codes else int(text)
  return found


def _look_up(codes, names, default):
  """Codes ``[n]`` int32 of names; of many rows, so without a loop of Python."""
  found = map(codes.get, names, itertools.repeat(default))
  return np.fromiter(found, np.int32, len(names))


def strings(values: Iterable[Any]) -> list[str]:
  """Strings, whether stored as such or as UTF-8 bytes; '' is missing."""
  if isinstance(values, np.ndarray) and values.dtype == bool:
    return ['true' if value else 'false' for value in values.tolist()]
  if isinstance(values, np.ndarray) and values.dtype.kind in 'iuf':
    return value_names(values)
  values = list(values)
  if set(map(type, values)) <= {str, type(None)}:
    return [value or '' for value in values]
  return [
    ''
    if v is None
    else v.decode('utf-8', 'replace')
    if isinstance(v, bytes)
    else str(v)
    for v in values
  ]
