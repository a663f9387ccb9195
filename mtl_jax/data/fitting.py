"""Encoders fitted on the training split: vocabularies, tokenizers, means."""

from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import decimal
from typing import Any

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import cells, encoding, tables, text as text_lib
from mtl_jax.tasks import EXAMPLE_MASK

Features = Mapping[str, str | Sequence[str]]
# Tokenizers and means of longer training splits are learned from as many rows,
# spread evenly; classes and categories from all.
FIT_ROWS = 200_000
# Kinds of task whose labels are classes.
CLASSES = ('classification', 'binary')
# Kinds of field whose values may be groups of rows.
GROUPED = ('class', 'integer', 'float', 'string', 'name')
FILLS = ('mean', 'indicator', 'category', 'refuse')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
  """Label that a task learns from a key of the batch.

  Attributes:
    kind: 'classification', 'binary', 'multilabel' or 'regression'; 'group' is
      no label but the number of a row's group in its split.
    num_classes: where whole numbers are classes 0, ..., num_classes - 1, also
      those that training lacks; 0 = the values that training has.
    positive: of 'binary': the name that is 1, all others being 0.
    shift: of 'regression': whether a constant may be taken off, as where all
      that is asked are differences.
    of: of 'group': the key whose values are the groups.
  """

  kind: str
  num_classes: int = 0
  positive: str = ''
  shift: bool = False
  of: str = ''


def fit_encoder(
  table: tables.Table,
  features: Features,
  *,
  text: Mapping[str, text_lib.TextOptions] | None = None,
  standardize: Collection[str] = (),
  labels: Mapping[str, str | Label] | None = None,
  fill: Mapping[str, str] | None = None,
  categories: Mapping[str, int] | None = None,
  ids: Collection[str] = (),
  ignore_case: bool = False,
) -> encoding.Encoder:
  """Learns from a training table how its features become arrays.

  Args:
    table: the training split.
    features: ``{key in the batch: feature}``; several features of numbers make
      one vector. The keys of groups need not be among them.
    text: keys that are texts, and how to tokenize each; other strings are
      categories. By default the key ``tokens``, if it is a string.
    standardize: keys of floats that get mean 0 and standard deviation 1.
    labels: ``{key: kind of task, or Label}`` of the keys that are learned. For
      'classification' and 'binary' strings and whole numbers become classes:
      the values of the training split in sorted order. For 'multilabel' sets
      become 0/1 vectors. For 'regression' whole numbers become floats. Keys
      that are not among them are inputs, whose missing values are filled;
      without any mapping nothing is filled.
    fill: what becomes of a missing number of an input, by key: 'mean' (of the
      training split, and the default), 'indicator' (the same, and 1 or 0 for
      each feature beside it), 'category' (of ids: one of its own) or 'refuse'.
    categories: of 'category', key -> the id of a missing one.
    ids: keys of whole numbers that are rows of a table, of which those that
      training has are kept, to count others.
    ignore_case: compare names of classes and categories without their case.

  Returns:
    An encoder for all splits.

  Raises:
    ValueError: if a feature is unknown, or does not fit its use.

  Example:
    >>> from mtl_jax.data import arrays
    >>> table = arrays.from_arrays({'text': ['a b', 'b a'], 'stars': [1., 2.]})
    >>> encoder = fit_encoder(
    ...   table,
    ...   {'tokens': 'text', 'rating': 'stars'},
    ...   text={'tokens': text_lib.TextOptions(max_length=3)},
    ... )
    >>> stored = encoder.encode(table.read([0], encoder.features))
    >>> encoder.finish(stored)['token_mask']
    array([[1., 1., 0.]], dtype=float32)
  """
  if text is None:
    text = (
      {'tokens': text_lib.TextOptions()} if _is_text(table, features) else {}
    )
  fill = fill or {}
  features = with_groups(features, labels)
  for key in (*text, *standardize, *fill):
    if key not in features:
      raise ValueError(
        f'{table.name}: expected a key of the batch, found {key!r}; '
        + names_lib.nearest(key, features)
      )
  for key, how in fill.items():
    if how not in FILLS:
      raise ValueError(
        f'Expected data.fill[{key!r}] to be one of {", ".join(FILLS)}, found '
        f'{how!r}; name one of these.'
      )
  learned = {
    key: Label(kind=label) if isinstance(label, str) else label
    for key, label in (labels or {}).items()
    if key not in text
  }
  fit = _Fit(table, labels is not None, categories or {}, ignore_case, ids)
  columns = {
    key: fit.label(key, feature, learned[key])
    if key in learned
    else fit.input(
      key, feature, text.get(key), key in standardize, fill.get(key, 'mean')
    )
    for key, feature in features.items()
  }
  _check_masks(table.name, columns)
  _check_fill(table.name, columns, learned, fill)
  return encoding.Encoder(columns, table.derived)


def with_groups(
  features: Features, labels: Mapping[str, str | Label] | None
) -> dict[str, str | Sequence[str]]:
  """Features by key, and those of the groups among the labels."""
  groups = {
    key: features[label.of]
    for key, label in (labels or {}).items()
    if isinstance(label, Label) and label.of in features
  }
  return {**features, **groups}


def _check_fill(name, columns, learned, fill):
  """Checks that filled columns are numbers; ids need one of their own."""
  for key, how in fill.items():
    column = columns[key]
    if key in learned or column.kind not in ('integer', 'float', 'vector'):
      what = 'a label' if key in learned else f'of kind {column.kind}'
      raise ValueError(
        f'{name}: expected a number among the inputs for data.fill[{key!r}], '
        f'found that it is {what}, whose missing values have a meaning of '
        'their own; leave it out of data.fill.'
      )
    if how == 'category' and column.kind != 'integer':
      raise ValueError(
        f"{name}: expected whole numbers for data.fill[{key!r}] = 'category', "
        f"found a {column.kind}; set it to 'mean' or 'indicator'."
      )


def _check_masks(name, columns):
  if EXAMPLE_MASK in columns:
    raise ValueError(
      f'{name}: expected {EXAMPLE_MASK!r} to be free for the mask of rows that '
      'pad a batch, found a feature of that name; rename it in data.features.'
    )
  masks: dict[str, str] = {}
  for key, column in columns.items():
    if column.kind not in ('text', 'sequence', 'list'):
      continue
    mask = encoding.mask_key(key)
    other = masks.get(mask)
    if mask in columns or other:
      taken = f'that of {other!r}' if other else 'another feature'
      raise ValueError(
        f'{name}: expected {mask!r} to be free for the mask of {key!r}, found '
        f'{taken} of that name; rename one of the keys.'
      )
    masks[mask] = key


def reads(table: tables.Table, features: Features) -> tuple[str, ...]:
  """The stored features of a table that a mapping needs.

  Raises:
    ValueError: if a feature is unknown.
  """
  needed: set[str] = set()
  for feature in features.values():
    for name in (feature,) if isinstance(feature, str) else feature:
      _look_up(table, name)
      derived = table.derived
      made = derived is not None and name in derived.fields
      needed |= set(derived.reads) if made else {name}
  return tuple(sorted(needed))


@dataclasses.dataclass(frozen=True)
class _Fit:
  """Makes columns of one training table."""

  table: tables.Table
  fills: bool
  categories: Mapping[str, int]
  fold: bool
  ids: Collection[str]

  def label(self, key, feature, label) -> encoding.Column:
    """The column of what a task learns."""
    if not isinstance(feature, str):
      if label.kind == 'multilabel':
        return self._labels(key, tuple(feature))
      return self.input(key, feature, None, False, '')
    field = _look_up(self.table, feature)
    derived = self.table.derived
    if derived and feature in derived.fields:
      return self.input(key, feature, None, False, '')
    if label.kind == 'group':
      return self._group(key, feature, field)
    if label.kind in CLASSES:
      return self._class(key, feature, field, label)
    if label.kind == 'multilabel':
      return self._multilabel(key, feature, field)
    if label.kind == 'regression':
      if field.kind == 'class':  # of which -1 is missing: `checks` refuses it
        return self.input(key, feature, None, False, '')
      if field.kind not in ('integer', 'float'):
        raise ValueError(
          f'{self.table.name}, label {key!r}: expected numbers for regression, '
          f'found {_plural(field.kind)}; choose classification, or another '
          'feature.'
        )
      return self._value(key, feature, field, label)
    return self.input(key, feature, None, False, '')

  def _group(self, key, feature, field):
    if field.shape or field.kind not in GROUPED:
      raise ValueError(
        f'{self.table.name}, {key!r}: expected one number or name per row, '
        f'found {_plural(field.kind, field.shape)}; name another column.'
      )
    return encoding.Column(
      kind='group',
      features=(feature,),
      kinds=(field.kind,),
      by_value=self.table.own,
      fold=self.fold,
    )

  def _class(self, key, feature, field, label):
    column = encoding.Column(
      kind='class',
      features=(feature,),
      kinds=(field.kind,),
      shape=field.shape,
      size=field.size,
      names=field.names,
      texts=field.texts,
      pictures=field.pictures,
      positive=label.positive,
      vocabulary=field.names if label.positive else (),
    )
    declared = self._is_declared(key, field, label)
    if field.kind == 'integer' and declared:
      return self.input(key, feature, None, False, '')
    if declared:
      if label.positive:
        column = self._positive(key, column, field.names, label)
      return column
    if field.kind in ('integer', 'float') and label.num_classes:
      return dataclasses.replace(
        column, size=label.num_classes, names=(), by_value=True
      )
    names = self._classes(key, feature, field, label)
    column = dataclasses.replace(
      column, names=names, size=len(names), by_value=True, fold=self.fold
    )
    if label.positive:
      return self._positive(key, column, names, label)
    return self._coded(key, column, field, names, label)

  def _is_declared(self, key, field, label):
    """Whether the table declares the classes; raises if there are none."""
    declared = field.kind == 'class' or (
      field.kind == 'integer' and not self.table.own
    )
    if field.kind not in ('class', 'integer', 'float', 'string', 'name') or (
      field.shape and not declared
    ):
      advice = "choose the kind 'multilabel', or another feature"
      if field.shape == (1,):
        advice = 'take the axis of length 1 away, as in values[:, 0]'
      raise ValueError(
        f'{self.table.name}, label {key!r}: expected one class per row for '
        f'{label.kind}, found {_plural(field.kind, field.shape)}; {advice}.'
      )
    return declared

  def _classes(self, key, feature, field, label) -> tuple[str, ...]:
    """The names of the classes that training has, in order."""
    found: set[str] = set()
    # In all rows: a class that is missed here would be an error later.
    for values in self._chunks(feature):
      if isinstance(values, np.ndarray):
        found.update(encoding.value_names(np.unique(values)))
      else:
        found.update(encoding.strings(set(values)))
    found = {name.casefold() for name in found} if self.fold else found
    if field.kind == 'float':
      odd = sorted(n for n in found if not n.lstrip('-').isdecimal() and n)
      if odd:
        raise ValueError(
          f'{self.table.name}, label {key!r}: expected whole numbers or names '
          f'for {label.kind}, found {odd[0]}; choose regression, or read the '
          "column as kind 'class'."
        )
    names = class_names(found)
    if label.num_classes and label.num_classes != len(names):
      raise ValueError(
        f'{self.table.name}, label {key!r}: expected {label.num_classes} names '
        f'of classes, as num_classes says, found {len(names)} '
        f'({", ".join(names[:5])}); leave num_classes out.'
      )
    if self.fills and label.kind == 'classification' and len(names) < 2:
      raise ValueError(
        f'{self.table.name}, label {key!r}: expected at least two classes, '
        f'found {len(names)} ({", ".join(names) or "no label"}); shuffle the '
        'rows before they are split, or leave the task out.'
      )
    return names

  def _coded(self, key, column, field, names, label) -> encoding.Column:
    """The column, whose names are codes where they count from 0."""
    codes = tuple(map(str, range(max(len(names), 2))))
    counted = field.kind != 'name' and field.kind != 'string'
    if counted and names == codes[: len(names)] and names:
      # Numbers that count from 0 are their own codes.
      size = 2 if label.kind == 'binary' and len(names) <= 2 else len(names)
      return dataclasses.replace(column, names=(), size=size)
    if counted and label.kind == 'binary' and set(names) < {'0', '1'}:
      return dataclasses.replace(column, names=(), size=2)
    if label.kind == 'binary' and len(names) != 2:
      several = len(names) > 2
      advice = (
        "set positive of the target to the name that is 1, choose 'classifi"
        "cation', or leave the cells of missing labels empty (None or NaN in "
        'arrays)'
        if several
        else 'shuffle the rows before they are split, or label some'
      )
      raise ValueError(
        f'{self.table.name}, label {key!r}: expected two names for a binary '
        f'task, found {len(names)} ({", ".join(names[:5]) or "none"}); '
        f'{advice}.'
      )
    return column

  def _positive(self, key, column, names, label):
    positive = label.positive.casefold() if self.fold else label.positive
    if positive not in names or len(names) < 2:
      raise ValueError(
        f'{self.table.name}, label {key!r}: expected positive to be one of at '
        f'least two names that training has, found {positive!r}; '
        + names_lib.nearest(positive, names)
      )
    rest = [name for name in names if name != positive]
    other = rest[0] if len(rest) == 1 else f'not {positive}'
    if not column.by_value:
      return dataclasses.replace(column, positive=positive, size=2)
    return dataclasses.replace(
      column,
      names=(other, positive),
      vocabulary=names,
      positive=positive,
      size=2,
    )

  def _multilabel(self, key, feature, field):
    if field.kind in ('class', 'multihot'):
      return self.input(key, feature, None, False, '')
    column = encoding.Column(
      kind='multilabel',
      features=(feature,),
      kinds=(field.kind,),
      shape=field.shape,
      by_value=True,
      fold=self.fold,
    )
    if field.kind in ('integer', 'float') and len(field.shape) == 1:
      if not self.table.own:
        return dataclasses.replace(column, kind=field.kind, by_value=False)
      for values in self._chunks(feature):
        known = values[~cells.missing(values)]
        if not np.isin(known, (-1, 0, 1)).all():
          return self._set(column, key)  # ids, by chance equally many
      return column
    if field.kind in ('set', 'list'):
      return self._set(column, key)
    raise ValueError(
      f'{self.table.name}, label {key!r}: expected a set or a list of 0 and 1 '
      f'per row for multilabel, found {_plural(field.kind)}; read the column '
      "as kind 'set'."
    )

  def _labels(self, key, features):
    """The column of several features of 0 and 1, which name the labels."""
    fields = [_look_up(self.table, name) for name in features]
    for name, field in zip(features, fields, strict=True):
      if field.shape or field.kind not in ('class', 'integer', 'float'):
        raise ValueError(
          f'{self.table.name}, label {key!r}: expected columns of 0 and 1 for '
          f'multilabel, found {name!r} of kind {field.kind}; leave it out.'
        )
    return encoding.Column(
      kind='multilabel',
      features=features,
      kinds=tuple(field.kind for field in fields),
      names=features,
      size=len(features),
      by_value=self.table.own,
    )

  def _set(self, column, key):
    names: set[str] = set()
    repeats = None
    for values in self._chunks(column.features[0]):
      for row in values:
        if isinstance(row, np.ndarray):
          found = encoding.value_names(row)
          repeats = found if len(set(found)) < len(found) else repeats
          names.update(found)
        elif row is not None:
          names.update(row)
    if repeats and column.by_value and names <= {'', '0', '1'}:
      raise ValueError(
        f'{self.table.name}, label {key!r}: expected lists of 0 and 1 of one '
        f'length, or lists of ids of which none occurs twice, found '
        f'{repeats[:9]} among lists of several lengths; mend the lists.'
      )
    names = {name.casefold() for name in names} if self.fold else names
    if not names - {''}:
      raise ValueError(
        f'{self.table.name}, {key!r}: expected a set with a member in some row '
        'of the training split, found none; leave it out.'
      )
    ordered = class_names(names)
    return dataclasses.replace(
      column, kind='set', names=ordered, size=len(ordered), shape=()
    )

  def _value(self, key, feature, field, label):
    column = encoding.Column(
      kind='float', features=(feature,), kinds=(field.kind,), shape=field.shape
    )
    if not self.table.own:
      return dataclasses.replace(column, shape=(), kinds=())
    values = _sample(self.table, (feature,))[feature]
    if _keeps_differences(values, 1e-5):
      return column
    if label.shift and not field.shape:
      mean = float(np.round(np.nanmean(_holes(values))))
      return dataclasses.replace(column, mean=(mean,), std=(1.0,))
    raise ValueError(
      f'{self.table.name}, label {key!r}: expected numbers whose differences '
      f'32 bits hold, found values around {np.nanmean(_holes(values)):g}; take '
      'a constant off the column.'
    )

  def input(self, key, feature, options, standardize, fill) -> encoding.Column:
    """The column of what a model may read."""
    table = self.table
    names = (feature,) if isinstance(feature, str) else tuple(feature)
    fields = [_look_up(table, name) for name in names]
    field = fields[0]
    if table.derived and names[0] in table.derived.fields:
      return encoding.Column(kind='derived', features=names, size=field.size)
    if len(names) > 1:
      for name, one in zip(names, fields, strict=True):
        if one.shape or one.kind not in ('class', 'integer', 'float'):
          raise ValueError(
            f'{table.name}: expected numbers to make the vector {key!r} of, '
            f'found {name!r} of kind {one.kind}; leave it out.'
          )
    vector = len(names) > 1
    column = encoding.Column(
      kind='vector' if vector else field.kind,
      features=names,
      kinds=tuple(one.kind for one in fields),
      shape=field.shape,
      size=None if vector else field.size,
      names=() if vector else field.names,
      texts=() if vector else field.texts,
      pictures=() if vector else field.pictures,
      fold=self.fold and field.kind in ('string', 'name', 'set', 'sequence'),
    )
    if options is not None and column.kind not in ('string', 'name'):
      raise ValueError(_unfit(table, key, column, 'a string', 'the texts'))
    numbers = ('integer', 'float', 'vector', 'list')
    if standardize and column.kind not in numbers:
      raise ValueError(_unfit(table, key, column, 'numbers', 'standardize'))
    if field.kind == 'name' and not self.fills and not vector:
      return self._class(key, names[0], field, Label(kind='classification'))
    if field.kind in ('string', 'name') and not vector:
      return self._string(column, options)
    if field.kind == 'set':
      return self._set(dataclasses.replace(column, by_value=False), key)
    if field.kind == 'sequence':
      return self._sequence(column, key)
    if field.kind == 'list':
      return self._list(column, standardize)
    if column.kind not in numbers:
      return column
    if key in self.ids and column.kind == 'integer' and not standardize:
      column = dataclasses.replace(column, seen=self._ids(names[0]))
    return self._number(key, column, standardize, fill)

  def _number(self, key, column, standardize, fill):
    fills = self.fills and self.table.own and fill
    if not (standardize or fills):
      return column
    if fills and key in self.categories:
      return dataclasses.replace(
        column, fill=(float(self.categories[key]),), by_value=True
      )
    raw = _sample(self.table, column.features)
    values = np.stack([_holes(raw[name]) for name in column.features], axis=-1)
    if len(column.features) == 1 and values.ndim > 2:
      values = values[..., 0]  # its own last axis is that of the features
      values = self._present(column.features[0], values)
    parts = values.shape[-1]
    values = values.reshape(-1, parts) if parts else values[:0]  # [N T, F]
    empty = np.isnan(values).all(axis=0)
    if empty.any() or not empty.size:
      which = int(np.argmax(empty)) if empty.size else 0
      name = column.features[which % len(column.features)]
      raise ValueError(
        f'{self.table.name}: expected a value of {name!r} in some row of the '
        f'training split, found none; leave it out of {key!r}.'
      )
    mean, std = moments(values)
    if standardize:
      std = np.where(std > 0, std, 1)  # a constant stays a constant
      column = dataclasses.replace(
        column, mean=tuple(mean.tolist()), std=tuple(std.tolist())
      )
    elif column.kind != 'integer' and self.table.own:
      for name in column.features:
        if not _keeps_differences(raw[name]):
          raise ValueError(
            f'{self.table.name}: expected numbers whose differences 32 bits '
            f'hold, found {name!r} around {np.nanmean(_holes(raw[name])):g}; '
            f'list {key!r} in data.standardize.'
          )
    if not fills:
      return column
    whole = column.kind == 'integer' and not standardize
    return dataclasses.replace(
      column,
      fill=tuple((np.round(mean) if whole else mean).tolist()),
      indicator=fill == 'indicator',
      refuse=fill == 'refuse',
    )

  def _present(self, name, values):
    """Vectors ``[N, ..., D]``, NaN where their mask says that there is none."""
    mask = encoding.mask_key(name)
    field = self.table.fields.get(mask)
    if field is None or field.shape not in (values.shape[1:-1], (1,)):
      return values
    there = _sample(self.table, (name, mask))[mask]
    there = there.reshape(len(there), *values.shape[1:-1], 1)
    return np.where(there > 0, values, np.nan)

  def _string(self, column, options):
    if options is not None:
      texts = encoding.strings(
        _sample(self.table, column.features)[column.features[0]]
      )
      tokenizer = text_lib.train_tokenizer(texts, options)
      return dataclasses.replace(
        column,
        kind='text',
        size=tokenizer.size,
        tokenizer=tokenizer.to_json(),
        fold=False,
      )
    found: set[str] = set()
    for values in self._chunks(column.features[0]):
      found.update(encoding.strings(set(values)))
    found = {name.casefold() for name in found} if column.fold else found
    vocabulary = tuple(sorted(found))
    return dataclasses.replace(
      column,
      kind='category',
      size=len(vocabulary) + 1,
      vocabulary=vocabulary,
    )

  def _sequence(self, column, key):
    found: set[str | None] = set()
    length = 1
    for values in self._chunks(column.features[0]):
      for names in values:
        found.update(names or ())
        length = max(length, len(names or ()))
    names = {name.casefold() if self.fold else name for name in found if name}
    if not names:
      raise ValueError(
        f'{self.table.name}, {key!r}: expected a sequence with a name in some '
        'row of the training split, found none; leave it out.'
      )
    vocabulary = class_names(names)
    return dataclasses.replace(
      column,
      vocabulary=vocabulary,
      size=len(vocabulary) + 2,
      length=length,
      shape=(),
    )

  def _list(self, column, standardize):
    length, whole, parts = 1, True, [np.zeros(0)]
    for values in self._chunks(column.features[0]):
      for row in values:
        if row is not None:
          length = max(length, len(row))
          whole = whole and row.dtype.kind in 'iu'
          parts.append(_holes(row))
    column = dataclasses.replace(
      column, length=length, by_value=whole, shape=()
    )
    if not standardize:
      return column
    mean, std = moments(np.concatenate(parts))
    return dataclasses.replace(
      column, mean=(float(mean),), std=(float(std) if std > 0 else 1.0,)
    )

  def _ids(self, feature):
    """Bounds of the runs of whole numbers that the table has."""
    chunks = [np.unique(values) for values in self._chunks(feature)]
    values = np.unique(np.concatenate(chunks))
    values = values[~cells.missing(values)]
    first = np.flatnonzero(np.diff(values, prepend=values[:1] - 2) != 1)
    last = np.append(first[1:], len(values)) - 1
    bounds = np.stack([values[first], values[last] + 1], axis=1)
    return tuple(bounds.ravel().tolist())

  def _chunks(self, feature):
    for start in range(0, self.table.size, FIT_ROWS):
      rows = range(start, min(start + FIT_ROWS, self.table.size))
      yield self.table.read(rows, [feature])[feature]


def _plural(kind, shape=()):
  if shape:
    return f'lists of {shape[0]} numbers'
  several = ('string', 'name', 'set', 'sequence')
  return f'{kind}s' if kind in several else f'{kind} values'


def _holes(values: Any) -> np.ndarray:
  """Numbers as float64, NaN where missing."""
  array = np.asarray(values)
  return np.where(cells.missing(array), np.nan, array.astype(np.float64))


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation over the first axis in float64, NaN left out.

  Of numbers of any size, such as 1e-300; the deviation of a constant is 0, and
  not what rounding makes of it.
  """
  values = np.asarray(values, np.float64)
  # By a power of two, which rounds nothing.
  _, power = np.frexp(np.nanmax(np.abs(values), axis=0, initial=0))
  values = np.ldexp(values, -power)
  same = np.nanmin(values, axis=0) == np.nanmax(values, axis=0)
  std = np.where(same, 0, np.nanstd(values, axis=0))
  return (
    np.ldexp(np.nanmean(values, axis=0), power),
    np.ldexp(std, power),
  )


def _keeps_differences(values, tolerance=1e-4) -> bool:
  """Whether rounding to 32 bits is small beside the spread of numbers."""
  exact = _holes(values)
  known = exact[~np.isnan(exact)]
  if known.size == 0 or np.abs(known).max() > np.finfo(np.float32).max:
    return known.size == 0
  # Numbers too small to be normal ones are 0 to a compiled program.
  small = np.abs(known) < np.finfo(np.float32).tiny
  narrow = np.where(small, 0, known.astype(np.float32))
  std = moments(known)[1]
  return bool(np.abs(known - narrow).max() <= tolerance * std or std == 0)


def _unfit(table, key, column, expected, where):
  return (
    f'{table.name}: expected {key!r} to be {expected}, found '
    f'{column.features[0]!r} of kind {column.kind}; leave it out of {where}.'
  )


def _is_text(table, features):
  feature = features.get('tokens')
  field = table.fields.get(feature) if isinstance(feature, str) else None
  return field is not None and field.kind == 'string'


def _look_up(table, name):
  known = dict(table.fields)
  if table.derived:
    known |= table.derived.fields
  if name not in known:
    raise ValueError(
      f'{table.name}: expected the name of a feature, found {name!r}; '
      + names_lib.nearest(name, known)
    )
  return known[name]


def _sample(table, features):
  shape = table.fields[features[0]].shape
  per_row = max(int(np.prod(shape or 1)), 1)
  count = max(min(table.size, FIT_ROWS // per_row), 1)
  rows = np.linspace(0, table.size - 1, count).astype(int)
  return table.read(rows, features)


def class_names(values: Iterable[str | None]) -> tuple[str, ...]:
  """Class names in order: by value if all are numbers, else alphabetically.

  None and the empty string stand for missing ones.

  Example:
    >>> class_names(['10', '9', None, '9', '9.5'])
    ('9', '9.5', '10')
  """
  found = {value for value in values if value}
  if all(map(cells.NUMBER.fullmatch, found)):
    return tuple(sorted(found, key=lambda n: (decimal.Decimal(n), n)))
  return tuple(sorted(found))
