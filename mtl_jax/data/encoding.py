"""Encoders: from the features of a table to the arrays of a batch.

What is learned from the training split (vocabularies, tokenizers, means) is
kept in one record that is saved with a checkpoint and used to predict. Classes
that a data set declares, and values that stay as they are, need nothing of it
and are told apart here; all else that is particular to a kind of column is in
`columns`.
"""

import collections
from collections.abc import Collection, Mapping, Sequence
import dataclasses
import functools
import json

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import cells, fills, tables, tokenization
from mtl_jax.data.columns import (
  fitted_numbers,
  fitting,
  named_classes,
  numbers,
  recipe,
  row_groups,
  sequences,
  sets,
  strings,
)
from mtl_jax.tasks import EXAMPLE_MASK, mask_key

Features = Mapping[str, str | Sequence[str]]
HIDDEN = '\0'  # begins the keys of what others are derived from
MASKED = ('text', 'sequence')  # id 0 is padding
EMPTY = ('text', 'set', 'sequence', 'list')  # a missing one has no members
NUMBERS = ('integer', 'float', 'vector', 'list')
AS_IT_IS = recipe.InputUse()


@dataclasses.dataclass(frozen=True)
class Encoder:
  """Makes batches out of the values of a table.

  `encode` gives compact arrays, to be kept; `finish` makes a batch out of them:
  int32 and float32, images in [0, 1], and a mask beside each text.

  Attributes:
    columns: by the key in the batch.
    derived: how the table makes its derived features.
  """

  columns: Mapping[str, recipe.Column]
  derived: tables.Derived | None = None

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

  def encode(
    self,
    raw: tables.Raw,
    *,
    name: str = '',
    first: int = 1,
    counts: recipe.Counts | None = None,
    groups: row_groups.Groups | None = None,
  ) -> dict[str, np.ndarray]:
    """Compact arrays ``[n, ...]``; keys whose features are absent are skipped.

    So texts without labels can be encoded, to predict the labels.

    Args:
      raw: typed values, see `new_rows.parse`.
      name: what error messages call the table.
      first: number of the first example, for error messages.
      counts: how many values are missing and unknown is added to it.
      groups: of `row_groups.find`; without them there are no arrays of groups.

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
      values = [raw[feature] for feature in column.features]
      counts[key, column.features[0], 'cells'] += len(values[0])
      try:
        if column.kind == 'group':
          made = row_groups.encode(key, column, values, counts, groups[key])
        else:
          encode = ENCODERS.get(column.kind, numbers.encode)
          made = encode(key, column, values, counts)
      except cells.CellError as error:
        raise ValueError(
          f'{name}, ' * bool(name)
          + error.message.replace('{example}', str(first + error.position))
        ) from None
      stored |= made if isinstance(made, dict) else {key: made}
    # Apart from the keys of the batch, whose names are the user's to choose.
    hidden = {HIDDEN + name: np.asarray(raw[name]) for name in self._hidden}
    return stored | hidden

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
        batch[mask] = (values != tokenization.PAD).astype(np.float32)
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
      for field in dataclasses.fields(recipe.Column)
      if 'tuple' in str(field.type)
    ]
    return cls(
      {
        key: recipe.Column(
          **column | {k: tuple(column[k]) for k in lists if k in column}
        )
        for key, column in json.loads(serialized).items()
      }
    )


def to_batch(values: np.ndarray, kind: str) -> np.ndarray:
  """Converts values to int32 or float32; images to [0, 1]."""
  if kind == 'image':
    return values.astype(np.float32) / 255
  dtype = np.float32 if values.dtype.kind == 'f' else np.int32
  return values.astype(dtype, copy=False)


def fit_encoder(
  table: tables.Table,
  features: Features,
  *,
  text: Mapping[str, tokenization.TextOptions] | None = None,
  standardize: Collection[str] = (),
  labels: Mapping[str, str | recipe.Label] | None = None,
  fill: Mapping[str, str] | None = None,
  categories: Mapping[str, int] | None = None,
  ids: Collection[str] = (),
  ignore_case: bool = False,
) -> Encoder:
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
    >>> table = arrays.as_table({'text': ['a b', 'b a'], 'stars': [1., 2.]})
    >>> encoder = fit_encoder(
    ...   table,
    ...   {'tokens': 'text', 'rating': 'stars'},
    ...   text={'tokens': tokenization.TextOptions(max_length=3)},
    ... )
    >>> stored = encoder.encode(table.read([0], encoder.features))
    >>> encoder.finish(stored)['token_mask']
    array([[1., 1., 0.]], dtype=float32)
  """
  if text is None:
    is_text = _is_text(table, features)
    text = {'tokens': tokenization.TextOptions()} if is_text else {}
  fill = fill or {}
  features = with_groups(features, labels)
  for key in (*text, *standardize, *fill):
    if key not in features:
      raise ValueError(
        f'{table.name}: expected a key of the batch, found {key!r}; '
        + names_lib.nearest(key, features)
      )
  if fill:
    fills.check_names(fill)
  learned = {
    key: recipe.Label(kind=label) if isinstance(label, str) else label
    for key, label in (labels or {}).items()
    if key not in text
  }
  training = fitting.Training(
    table=table,
    fills=labels is not None,
    categories=categories or {},
    fold=ignore_case,
    ids=ids,
  )
  columns = {}
  for key, feature in features.items():
    if key in learned:
      columns[key] = _label(training, key, feature, learned[key])
      continue
    use = recipe.InputUse(
      text=text.get(key),
      standardize=key in standardize,
      fill=fill.get(key, 'mean'),
    )
    columns[key] = _input(training, key, feature, use)
  _check_masks(table.name, columns)
  if fill:
    fills.check_columns(table.name, columns, learned, fill)
  return Encoder(columns, table.derived)


def with_groups(
  features: Features, labels: Mapping[str, str | recipe.Label] | None
) -> dict[str, str | Sequence[str]]:
  """Features by key, and those of the groups among the labels."""
  groups = {
    key: features[label.of]
    for key, label in (labels or {}).items()
    if isinstance(label, recipe.Label) and label.of in features
  }
  return {**features, **groups}


def _check_masks(name, columns):
  if EXAMPLE_MASK in columns:
    raise ValueError(
      f'{name}: expected {EXAMPLE_MASK!r} to be free for the mask of rows that '
      'pad a batch, found a feature of that name; rename it in data.features.'
    )
  masks: dict[str, str] = {}
  for key, column in columns.items():
    if column.kind not in (*MASKED, 'list'):
      continue
    mask = mask_key(key)
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
  training, derived = fitting.Training(table=table), table.derived
  needed: set[str] = set()
  for feature in features.values():
    for name in (feature,) if isinstance(feature, str) else feature:
      training.field(name)
      if derived is not None and name in derived.fields:
        needed |= set(derived.reads)
      else:
        needed.add(name)
  return tuple(sorted(needed))


def _label(training, key, feature, label) -> recipe.Column:
  """The column of what a task learns."""
  column = None
  if not isinstance(feature, str):
    if label.kind == 'multilabel':
      column = sets.fit_labels(training, key, tuple(feature))
  elif label.kind in LABELS:
    field = training.field(feature)
    if not training.is_derived(feature):
      column = LABELS[label.kind](training, key, feature, field, label)
  return column or _input(training, key, feature)


def _class(training, key, feature, field, label) -> recipe.Column | None:
  """The column of classes; None of integers that are their own codes."""
  column = recipe.Column(
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
  declared = _is_declared(training, key, field, label)
  if field.kind == 'integer' and declared:
    return None
  if declared and label.positive:
    return named_classes.with_positive(
      training, key, column, field.names, label
    )
  if declared:
    return column
  if field.kind in ('integer', 'float') and label.num_classes:
    return dataclasses.replace(
      column, size=label.num_classes, names=(), by_value=True
    )
  return named_classes.fit(training, key, column, field, label)


def _is_declared(training, key, field, label):
  """Whether the table declares the classes; raises if there are none."""
  declared = field.kind == 'class' or (
    field.kind == 'integer' and not training.table.own
  )
  if field.kind not in ('class', 'integer', 'float', 'string', 'name') or (
    field.shape and not declared
  ):
    advice = "choose the kind 'multilabel', or another feature"
    if field.shape == (1,):
      advice = 'take the axis of length 1 away, as in values[:, 0]'
    raise ValueError(
      f'{training.name}, label {key!r}: expected one class per row for '
      f'{label.kind}, found {recipe.plural(field.kind, field.shape)}; {advice}.'
    )
  return declared


def _codes(key, column, values, counts) -> np.ndarray:
  """Classes ``[n, ...]`` as codes, -1 where missing."""
  del counts
  (given,) = values
  if column.by_value:
    return named_classes.encode(key, column, given)
  array = np.asarray(given)
  if array.dtype.kind in 'biu':
    whole = array.astype(np.uint8) if array.dtype == bool else array
    codes = numbers.compact(whole, column, key)
  else:
    codes = named_classes.class_ids(given, column.names, key, column.size)
  if column.positive:
    one = column.names.index(column.positive)
    codes = np.where(codes < 0, -1, codes == one).astype(np.int32)
  return codes


def _value(training, key, feature, field, label) -> recipe.Column | None:
  """The column of values to regress; None of classes, which checks refuse."""
  if field.kind == 'class':
    return None
  if field.kind not in ('integer', 'float'):
    raise ValueError(
      f'{training.name}, label {key!r}: expected numbers for regression, '
      f'found {recipe.plural(field.kind)}; choose classification, or another '
      'feature.'
    )
  if not training.table.own:
    return recipe.Column(kind='float', features=(feature,))
  return fitted_numbers.fit_label(training, key, feature, field, label)


def _input(training, key, feature, use=AS_IT_IS) -> recipe.Column:
  """The column of what a model may read."""
  names = (feature,) if isinstance(feature, str) else tuple(feature)
  fields = [training.field(name) for name in names]
  field = fields[0]
  if training.is_derived(names[0]):
    return recipe.Column(kind='derived', features=names, size=field.size)
  vector = len(names) > 1
  if vector:
    for name, one in zip(names, fields, strict=True):
      if one.shape or one.kind not in ('class', 'integer', 'float'):
        raise ValueError(
          f'{training.name}: expected numbers to make the vector {key!r} of, '
          f'found {name!r} of kind {one.kind}; leave it out.'
        )
  column = recipe.Column(
    kind='vector' if vector else field.kind,
    features=names,
    kinds=tuple(one.kind for one in fields),
    shape=field.shape,
    size=None if vector else field.size,
    names=() if vector else field.names,
    texts=() if vector else field.texts,
    pictures=() if vector else field.pictures,
    fold=training.fold and field.kind in recipe.NAMED,
  )
  if use.text is not None and column.kind not in ('string', 'name'):
    raise ValueError(_unfit(training, key, column, 'a string', 'the texts'))
  if use.standardize and column.kind not in NUMBERS:
    raise ValueError(_unfit(training, key, column, 'numbers', 'standardize'))
  if column.kind == 'name' and not training.fills:
    label = recipe.Label(kind='classification')
    return _class(training, key, names[0], field, label) or column
  fit = INPUTS.get(column.kind)
  return fit(training, key, column, use) if fit else column


def _number(training, key, column, use) -> recipe.Column:
  """The column of one number, a vector or ids among the inputs."""
  integer = column.kind == 'integer'
  if key in training.ids and integer and not use.standardize:
    column = fitted_numbers.with_seen(training, column)
  fills = training.fills and training.table.own and use.fill
  if not (use.standardize or fills):
    return column
  return fitted_numbers.fit(training, key, column, use, bool(fills))


def _unfit(training, key, column, expected, where):
  return (
    f'{training.name}: expected {key!r} to be {expected}, found '
    f'{column.features[0]!r} of kind {column.kind}; leave it out of {where}.'
  )


def _is_text(table, features):
  feature = features.get('tokens')
  field = table.fields.get(feature) if isinstance(feature, str) else None
  return field is not None and field.kind == 'string'


# Kind of a task -> the column of its label; None if it is as of an input.
LABELS = {
  'group': row_groups.fit,
  'classification': _class,
  'binary': _class,
  'multilabel': sets.fit_label,
  'regression': _value,
}
# Kind of a field among the inputs -> its column; others are as they are.
INPUTS = {
  'string': strings.fit,
  'name': strings.fit,
  'set': sets.fit_input,
  'sequence': sequences.fit,
  'list': sequences.fit_list,
  'integer': _number,
  'float': _number,
  'vector': _number,
}
# Kind of a column -> its array; others are numbers.
ENCODERS = {
  'text': strings.encode_text,
  'category': strings.encode_category,
  'set': sets.encode,
  'multilabel': sets.encode_labels,
  'multihot': sets.encode_classes,
  'sequence': sequences.encode,
  'list': sequences.encode_list,
  'class': _codes,
}
