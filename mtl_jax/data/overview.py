"""Overview of data before training: labels, gaps, leaks."""

from collections.abc import Collection, Iterator, Mapping
import itertools
from typing import Any

import numpy as np

from mtl_jax.data import encoding, info as info_lib, loading, sources

LABEL_COLUMNS = ('task', 'split', 'classes or values', 'labelled', 'missing')
SHOWN = 6  # classes in one cell of the table


def label_rows(
  data: loading.Data, labels: Mapping[str, str], steps: Collection[str] = ()
) -> list[tuple[str, ...]]:
  """Labels of each task in each split, as cells under `LABEL_COLUMNS`.

  Args:
    data: of one stream.
    labels: task -> key of its label in the batch.
    steps: keys of labels that have one for each step: steps are counted.

  Example:
    >>> rows = {'x': [0.0, 1.0, 2.0], 'sick': ['no', 'yes', None]}
    >>> data = loading.from_splits(
    ...   {'train': rows, 'test': rows}, labels={'sick': 'binary'}
    ... )
    >>> label_rows(data, {'sick': 'sick'})[0]
    ('sick', 'train', 'no 1, yes 1 (1 = yes)', '2', '1')
  """
  rows: list[tuple[str, ...]] = []
  found = {
    split: info_lib.sample(source, set(labels.values()))
    for split, source in data.splits.items()
  }
  for task, key in labels.items():
    column = data.encoder.columns.get(key)
    for split, batch in found.items():
      values = batch[key]
      if key in steps:
        values = values.reshape(-1, *values.shape[2:])
      known = is_known(values)
      whole = known.reshape(len(known), -1).any(axis=1)
      part = '' if len(batch[key]) == len(data.splits[split]) else '~'
      rows.append(
        (
          task,
          split,
          _describe(values, known, column, data.info.classes.get(key, ())),
          f'{part}{int(whole.sum()):,}',
          f'{part}{int((~whole).sum()):,}' if not whole.all() else '-',
        )
      )
  return rows


def is_known(values: np.ndarray) -> np.ndarray:
  """Mask of the known labels of a batch: codes >= 0, numbers but NaN."""
  return ~np.isnan(values) if values.dtype.kind == 'f' else values >= 0


def _describe(values, known, column, names):
  if not known.any():
    return 'none'
  if values.dtype.kind == 'f':
    offset = column.mean[0] if column is not None and column.mean else 0.0
    numbers = values[known].astype(np.float64) + offset
    return (
      f'mean {numbers.mean():.5g}, deviation {numbers.std():.3g}, '
      f'{numbers.min():.5g} to {numbers.max():.5g}'
    )
  if values.ndim > 1:
    counts = ((values > 0) & known).reshape(-1, values.shape[-1]).sum(axis=0)
  else:
    size = max(len(names), (column and column.size) or 0)
    counts = np.bincount(values[known], minlength=size)
  names = names or tuple(map(str, range(len(counts))))
  if len(counts) > SHOWN:
    empty = int((counts == 0).sum())
    return (
      f'{len(counts):,} classes of {counts.min():,} to {counts.max():,} rows'
      + (f', {empty:,} of them without any' if empty else '')
    )
  names = [_in_a_line(name) for name in names]
  text = ', '.join(f'{n} {c:,}' for n, c in zip(names, counts, strict=True))
  if values.ndim == 1 and len(counts) == 2 and names != ['0', '1']:
    text += f' (1 = {names[1]})'
  return text


def _in_a_line(name):
  """A name without line breaks and the like."""
  return name if name.isprintable() else repr(name)


def notes(
  data: loading.Data, labels: Mapping[str, str], stream: str = ''
) -> list[str]:
  """One line for each thing that is doubtful, most doubtful first.

  Args:
    data: of one stream.
    labels: task -> key of its label.
    stream: named in the lines, if there are several.
  """
  lines = [
    *_leaks(data, labels),
    *_shared(data),
    *_rare(data, labels),
    *gaps(data.splits, data.encoder, set(labels.values())),
    *_alike(data),
  ]
  return [f'{stream}: {line}' if stream else line for line in lines]


def _leaks(data, labels) -> Iterator[str]:
  columns = data.encoder.columns
  for task, key in labels.items():
    if key not in columns:
      continue
    for other, column in columns.items():
      shared = set(column.features) & set(columns[key].features)
      if other not in labels.values() and shared:
        (name,) = shared
        yield (
          f'{name!r} is the label of task {task} and a part of the input '
          f'{other!r}: leave it out of data.features unless it is meant.'
        )


def _shared(data) -> Iterator[str]:
  for a, b in itertools.combinations(data.splits, 2):
    same = 0
    if a in data.origins and b in data.origins:
      (file, rows), (other, others) = data.origins[a], data.origins[b]
      same = len(np.intersect1d(rows, others)) if file == other else 0
      if same:
        yield f'{a} and {b} share {_rows(same)} of {file}.'
    one, two = data.splits[a], data.splits[b]
    both = isinstance(one, sources.Columns) and isinstance(two, sources.Columns)
    if same or not both or a not in data.origins:
      continue
    first, second = _hashes(one), _hashes(two)
    # Rows of few values are equal by chance: then they are within a split too.
    _, counts = np.unique(first, return_counts=True)
    chance = (counts[counts > 1].sum() + 3) / len(first)
    equal = int(np.isin(second, first).sum())
    if equal > 2 * chance * len(second):
      yield f'{a} and {b} share {_rows(equal)} of equal content.'


def _rows(count):
  return f'{count:,} row{"s" * (count != 1)}'


def _hashes(source):
  """A number of 64 bits for the content of each row, labels included."""
  total = np.full(len(source), 0xCBF29CE484222325, np.uint64)
  for key in sorted(source.arrays):
    values = source.arrays[key].reshape(len(total), -1)
    if values.dtype.itemsize != 4:
      values = values.astype(np.int32)
    for word in values.view(np.uint32).T:
      total ^= word
      total *= np.uint64(0x9E3779B97F4A7C15)
      total ^= total >> np.uint64(29)
  return total


def _rare(data, labels) -> Iterator[str]:
  for task, key in labels.items():
    column = data.encoder.columns.get(key)
    names = data.info.classes.get(key, ())
    counts = {}
    for split, source in data.splits.items():
      values = info_lib.sample(source, [key])[key]
      known = is_known(values)
      if not known.any():
        yield f'{split} has no labels of task {task}.'
      if values.dtype.kind == 'f' or values.ndim > 1:
        continue
      size = max(len(names), (column and column.size) or 0)
      counts[split] = np.bincount(values[known], minlength=size)
    if not counts or 'train' not in counts:
      continue
    trained = counts['train'] > 0
    for split, number in counts.items():
      size = max(len(number), len(trained))
      have = (
        np.resize(trained, size)
        if len(trained) == size
        else (np.pad(trained, (0, size - len(trained))))
      )
      there = np.pad(number > 0, (0, size - len(number)))
      for lacks, where in ((there & ~have, 'train'), (have & ~there, split)):
        if split == 'train' or not lacks.any() or not number.sum():
          continue
        some = [
          names[i] if i < len(names) else str(i) for i in np.flatnonzero(lacks)
        ]
        listed = ', '.join(some[:3]) + (', ...' if len(some) > 3 else '')
        many = (
          f'{len(some):,} classes ({listed})'
          if len(some) > 1
          else (f'the class {listed}')
        )
        if where == 'train':
          yield (
            f'train has no row of {many} of task {task}, which {split} has: '
            'shuffle the rows before they are split.'
          )
        elif len(names) == 2 or size <= SHOWN:
          undefined = '; its AUC there is undefined' if size == 2 else ''
          yield f'{split} has no row of {many} of task {task}{undefined}.'


def gaps(
  splits: Mapping[str, Any],
  encoder: encoding.Encoder,
  labels: Collection[str] = (),
) -> Iterator[str]:
  """A line for missing values of inputs, and for what training did not have.

  Args:
    splits: sources with ``counts``.
    encoder: of them.
    labels: keys to leave out.
  """
  columns = encoder.columns
  tables = {split: source.counts for split, source in splits.items()}
  said = set()
  for key, column in columns.items():
    if key in labels:
      continue
    for feature in column.features:
      name = feature if key == feature else f'{feature} ({key})'
      gaps = _shares(tables, key, feature, 'missing', 'cells')
      line = f'{gaps}; {_filled(column)}.'
      if gaps and (feature, line) not in said:
        said.add((feature, line))
        yield f'missing inputs {name!r}: {line}'
    yield from _unknown(tables, key, column)
    feature = column.features[0]
    cut = _shares(tables, key, feature, 'cut', 'cells')
    if column.kind in ('list', 'sequence'):
      steps = 'numbers' if column.kind == 'list' else 'names'
      yield (
        f'{column.kind}s {key!r} are padded to {column.length} {steps}, with '
        'the mask '
        f'{encoding.mask_key(key)!r}' + (f'; cut: {cut}.' if cut else '.')
      )


# Kind of a column -> what its parts are called, and how they are counted.
_PARTS = {
  'text': ('unknown tokens of', 'tokens'),
  'set': ('unknown members of', 'members'),
  'sequence': ('unknown names of', 'members'),
}


def _unknown(tables, key, column) -> Iterator[str]:
  """A line for what training did not have."""
  feature = column.features[0]
  what, base = _PARTS.get(column.kind, ('unknown categories of', 'cells'))
  if column.seen:
    base = 'members'
  shares = _shares(tables, key, feature, 'unknown', base)
  if not shares:
    return
  if column.seen:
    yield (
      f'ids of {key!r} that train lacks: {shares}; their rows of the table '
      'stay untrained.'
    )
    return
  largest = max(
    counts[key, feature, 'unknown'] / max(counts[key, feature, base], 1)
    for counts in tables.values()
  )
  advice = ''
  if largest > 0.3 and column.kind == 'text':
    advice = f"; set data.text[{key!r}] to kind 'bpe', or lower min_frequency"
  yield f'{what} {key!r}: {shares}{advice}.'


def _filled(column):
  if column.kind == 'category':
    own = '' in column.vocabulary
    return 'they are ' + ('a category' if own else 'unknown as new ones are')
  if column.kind in ('text', 'set', 'sequence', 'list'):
    return 'they are empty'
  if not column.fill:
    return 'they are left as they are'
  if len(column.fill) == 1 and column.kind == 'integer' and not column.mean:
    return f'they are {column.fill[0]:g}'
  return 'filled with the mean of train' + (
    ', with an indicator' if column.indicator else ''
  )


def _shares(tables: Mapping[str, Any], key, feature, what, base) -> str:
  """'2.1% of train, 3% of test', of the splits in which there are any."""
  parts = []
  for split, counts in tables.items():
    number, total = counts[key, feature, what], counts[key, feature, base]
    if number:
      parts.append(f'{100 * number / max(total, 1):.3g}% of {split}')
  return ', '.join(parts)


def _alike(data) -> Iterator[str]:
  for key, names in data.info.classes.items():
    folded: dict[str, str] = {}
    for name in names:
      other = folded.setdefault(name.casefold(), name)
      if other != name:
        yield (
          f'the classes {other!r} and {name!r} of {key!r} differ in their case '
          'only: set data.ignore_case if they are one.'
        )
        break
