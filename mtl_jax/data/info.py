"""Facts about a data set before training, and faults of its labels."""

from collections.abc import Collection, Mapping
import dataclasses

import numpy as np

from mtl_jax import names as names_lib, tasks
from mtl_jax.data import encoding, sources
from mtl_jax.data.columns import numbers

# Statistics of a split that is not in memory come from as many rows of it.
SAMPLE = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataInfo:
  """Facts about a data set before training; keys are those of the batch.

  Means, counts and standard deviations are those of the training split; of one
  that is not in memory, of 10,000 rows spread evenly over it.

  Attributes:
    sizes: examples of each split.
    shapes: of one example.
    classes: names of the classes, of labels whose classes have names.
    cardinalities: how many values an integer may take: classes, tokens,
      categories; of other integers the largest one of all splits, plus 1.
    counts: training examples of each class.
    means: of single floats and, as tuples, of vectors; missing ones left out.
    stds: standard deviations of the same.
    pooled: mean and deviation of all numbers of a vector together, such as the
      labels of all steps.
  """

  sizes: Mapping[str, int]
  shapes: Mapping[str, tuple[int, ...]]
  classes: Mapping[str, tuple[str, ...]]
  cardinalities: Mapping[str, int]
  counts: Mapping[str, tuple[int, ...]]
  means: Mapping[str, float | tuple[float, ...]]
  stds: Mapping[str, float | tuple[float, ...]]
  pooled: Mapping[str, tuple[float, float]] = dataclasses.field(
    default_factory=dict
  )


def describe(
  splits: Mapping[str, sources.Source],
  encoder: encoding.Encoder,
  train: str = 'train',
) -> DataInfo:
  """Facts and statistics of encoded splits.

  Args:
    splits: sources by name.
    encoder: what made them.
    train: the split that statistics are taken of.
  """
  one = splits[train].take(np.zeros(1, int))
  shapes = {key: values.shape[1:] for key, values in one.items()}
  columns = encoder.columns
  single = [
    key
    for key, column in columns.items()
    if key in one and len(shapes[key]) <= (column.kind == 'float')
  ]
  seen = sample(splits[train], single)
  known = {
    key: column.size
    for key, column in columns.items()
    if column.size is not None and column.kind not in ('multihot', 'derived')
  }
  counted = {
    key: np.bincount(seen[key][seen[key] >= 0], minlength=column.size)
    for key, column in columns.items()
    if column.kind == 'class' and column.size and key in seen
  }
  floats = [
    key
    for key in single
    if one[key].dtype == np.float32
    and not np.isnan(seen[key]).all(axis=0).any()
  ]
  vectors = [
    key
    for key in single
    if one[key].dtype == np.float32
    and seen[key].ndim == 2
    and not np.isnan(seen[key]).all()
  ]
  return DataInfo(
    sizes={split: len(source) for split, source in splits.items()},
    shapes=shapes,
    classes={key: _names(c) for key, c in columns.items() if c.names},
    cardinalities=known | _largest(splits, columns, one),
    counts={key: tuple(c.tolist()) for key, c in counted.items()},
    means={k: _plain(numbers.moments(seen[k])[0]) for k in floats},
    stds={k: _plain(numbers.moments(seen[k])[1]) for k in floats},
    pooled={k: _pooled(seen[k]) for k in vectors},
  )


def _pooled(values):
  mean, std = numbers.moments(values.reshape(-1))
  return float(mean), float(std)


def sample(
  source: sources.Source, keys: Collection[str] | None
) -> sources.Batch:
  """All rows of a source in memory, else some spread evenly over it."""
  count = len(source)
  if not isinstance(source, sources.Columns):
    count = min(count, SAMPLE)
  rows = np.linspace(0, len(source) - 1, count).round().astype(int)
  return source.take(rows, keys)


def _largest(splits, columns, one):
  keys = [
    key
    for key, c in columns.items()
    if c.kind == 'integer' and not c.mean and key in one
  ]
  if not keys:
    return {}
  found = [sample(source, keys) for source in splits.values()]
  return {
    key: max(0, *(int(values[key].max()) for values in found)) + 1
    for key in keys
  }


def _names(column):
  """Names of classes in the order of codes; the positive one of two is 1."""
  if not column.positive:
    return column.names
  others = [name for name in column.names if name != column.positive]
  other = others[0] if len(others) == 1 else f'not {column.positive}'
  return other, column.positive


def _plain(found):
  """A number, or a tuple of them."""
  found = found.tolist()
  return tuple(found) if isinstance(found, list) else found


def check_labels(
  source: sources.Source,
  labels: Mapping[str, tuple[str, int]],
  *,
  steps: Collection[str] = (),
  name: str = 'data',
) -> None:
  """Raises if a label is absent from the data, or out of its range.

  Every row of a source in memory is looked at, and 10,000 of a larger one.

  Args:
    source: one split.
    labels: ``{key: (kind, size)}``: 'classification' in {0, ..., size - 1},
      'binary' in {0, 1}, 'multilabel' ``[size]`` of these, 'regression' any
      finite number, or ``[size]`` of these. -1 or NaN stands for a missing
      label.
    steps: keys of labels that have one for each step of a sequence, in front.
    name: what the message calls the split.

  Raises:
    ValueError: naming the label, the value, the row, and what to do.

  Example:
    >>> from mtl_jax.data import own_data
    >>> source = own_data.from_arrays({'department': np.array([0, 6])})
    >>> check_labels(source, {'department': ('classification', 6)})
    Traceback (most recent call last):
    ...
    ValueError: data, label 'department': expected classes from 0 to 5, or -1
    for a missing one, found 6 in example 2; count the classes again or mend the
    labels.
  """
  check_keys(source, labels, name=name)
  found = sample(source, {*labels, *map(tasks.mask_key, labels)})
  for key, (kind, size) in labels.items():
    values = found[key]
    _check_mask(source, key, values, found.get(tasks.mask_key(key)), name)
    vector = kind == 'multilabel' or (kind == 'regression' and size > 1)
    shape = (size,) if vector else ()
    if values.shape[1 + (key in steps) :] != shape:
      advice = 'choose another kind of task or another feature'
      if values.shape[1:] == (1,):
        advice = 'take the axis of length 1 away, as in values[:, 0]'
      raise ValueError(
        f'{name}, label {key!r}: expected one value of shape {shape} per '
        f'{"step" if key in steps else "example"} for {kind}, found shape '
        f'{values.shape[1:]}; {advice}.'
      )
    floats = values.dtype.kind == 'f'
    if floats != (kind == 'regression'):
      raise ValueError(
        f'{name}, label {key!r}: expected '
        f'{"whole numbers" if floats else "floats, of which NaN is missing,"} '
        f'for {kind}, found {values.dtype}; declare the feature as '
        f'{"a class" if floats else "a float"}, or choose another kind of task.'
      )
    if kind == 'regression':
      bad, expected = np.isinf(values), 'finite numbers, or NaN'
      advice = 'mend the labels.'
    else:
      top = size - 1 if kind == 'classification' else 1
      bad = (values < -1) | (values > top)
      expected = f'classes from 0 to {top}, or -1'
      advice = 'count the classes again or mend the labels.'
    if bad.any():
      row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
      value = np.atleast_1d(values[row])[np.atleast_1d(bad[row])].flat[0]
      raise ValueError(
        f'{name}, label {key!r}: expected {expected} for a missing one, found '
        f'{value:g} in example {_row(source, row, len(values))}; {advice}'
      )


def _check_mask(source, key, values, mask, name):
  if mask is None or mask.shape != values.shape:
    return
  absent = np.isnan(values) if values.dtype.kind == 'f' else values < 0
  bad = absent & (mask > 0)
  if bad.any():
    row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
    raise ValueError(
      f'{name}, label {key!r}: expected a label where its mask '
      f'{tasks.mask_key(key)!r} is not 0, found none in example '
      f'{_row(source, row, len(values))}; set the mask to 0 there, or leave it '
      'out.'
    )


def _row(source, position, count):
  return int(np.linspace(0, len(source) - 1, count).round()[position]) + 1


def check_keys(
  source: sources.Source, keys: Collection[str], *, name: str = 'data'
) -> None:
  """Raises if a batch of the source would lack one of some keys."""
  known = source.take(np.zeros(1, int))
  for key in keys:
    if key not in known:
      raise ValueError(
        f'{name}: expected {key!r} in its batches, found none; '
        + names_lib.nearest(key, known)
      )
