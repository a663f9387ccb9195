"""Faults of data that are found when an experiment is built."""

from collections.abc import Collection, Mapping

import numpy as np

from mtl_jax import names as names_lib, tasks
from mtl_jax.data import info, sources


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
    >>> source = sources.from_arrays({'department': np.array([0, 6])})
    >>> check_labels(source, {'department': ('classification', 6)})
    Traceback (most recent call last):
    ...
    ValueError: data, label 'department': expected classes from 0 to 5, or -1
    for a missing one, found 6 in example 2; count the classes again or mend the
    labels.
  """
  check_keys(source, labels, name=name)
  found = info.sample(source, {*labels, *map(tasks.mask_key, labels)})
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
