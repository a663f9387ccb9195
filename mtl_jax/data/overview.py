"""Overview of data before training: labels, gaps, leaks."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any
import unicodedata

import numpy as np

from mtl_jax import tasks
from mtl_jax.data import encoding, info as info_lib, loading, shared_rows

LABEL_COLUMNS = ('task', 'split', 'classes or values', 'labelled', 'missing')
SHOWN = 6  # classes in one cell of the table
ENOUGH = 20  # rows, in which two columns are hardly alike by chance
FEW = 1_000  # categories that are compared with each other
# Names of classes and categories that are seldom meant as such, in small.
BLANKS = (
  '-', '--', '---', '.', 'n.a.', 'n.d.', 'na', 'n/a', 'nil', 'nan', 'none',
  'null', '(null)', 'undefined', 'missing', 'unknown', 'not available',
  '#value!', '#div/0!', '#ref!', '#name?', '#num!',
)  # fmt: skip


def label_rows(
  data: loading.Data, labels: Mapping[str, str], steps: Collection[str] = ()
) -> list[tuple[str, ...]]:
  """Labels of each task in each split, as cells under `LABEL_COLUMNS`.

  Args:
    data: of one stream.
    labels: task -> key of its label in the batch.
    steps: keys of labels that have one for each step: steps are counted.

  Example:
    >>> from mtl_jax.data import own_data
    >>> rows = {'x': [0.0, 1.0, 2.0], 'sick': ['no', 'yes', None]}
    >>> data = own_data.from_splits(
    ...   {'train': rows, 'test': rows}, labels={'sick': 'binary'}
    ... )
    >>> label_rows(data, {'sick': 'sick'})[0]
    ('sick', 'train', 'no 1, yes 1 (1 = yes)', '2', '1')
  """
  rows: list[tuple[str, ...]] = []
  keys = {*labels.values(), *map(tasks.mask_key, labels.values())}
  found = {
    split: info_lib.sample(source, keys)
    for split, source in data.splits.items()
  }
  for task, key in labels.items():
    column = data.encoder.columns.get(key)
    for split, batch in found.items():
      values, known = batch[key], is_known(batch, key)
      if key in steps:
        values = values.reshape(-1, *values.shape[2:])
        known = known.reshape(values.shape)
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


def is_known(batch: Mapping[str, np.ndarray], key: str) -> np.ndarray:
  """Mask of the known labels of a batch, as tasks see it."""
  codes = batch[key].dtype.kind != 'f'
  return np.asarray(tasks.known(batch, key, codes=codes))


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
    counts = np.bincount(values[known & (values >= 0)], minlength=size)
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
  data: loading.Data,
  labels: Mapping[str, str],
  stream: str = '',
  inputs: Collection[str] | None = None,
) -> list[str]:
  """One line for each thing that is doubtful, most doubtful first.

  Args:
    data: of one stream.
    labels: task -> key of its label.
    stream: named in the lines, if there are several.
    inputs: keys that the model reads; by default all that are no labels.
  """
  if inputs is None:
    inputs = data.encoder.columns.keys() - set(labels.values())
  lines = [
    *_leaks(data, labels, inputs),
    *_copies(data, labels, inputs),
    *(shared_rows.lines(data) if data.origins else ()),
    *_rare(data, labels),
    *gaps(data.splits, data.encoder, inputs),
    *_groups(data),
    *_alike(data, {*labels.values(), *inputs}),
    *_odd_names(data, {*labels.values(), *inputs}),
    *data.doubts,
  ]
  return [f'{stream}: {line}' if stream else line for line in lines]


def _leaks(data, labels, inputs) -> Iterator[str]:
  columns = data.encoder.columns
  for task, key in labels.items():
    if key not in columns:
      continue
    mask = tasks.mask_key(key)
    if mask in columns:
      yield f'{mask!r} says which labels {key!r} of task {task} count.'
    for other, column in columns.items():
      shared = set(column.features) & set(columns[key].features)
      if other in inputs and shared:
        (name, *_) = sorted(shared)
        what = 'an input' if other == key else f'a part of the input {other!r}'
        yield (
          f'{name!r} is the label of task {task} and {what}: leave it out of '
          'the inputs unless it is meant.'
        )


def _copies(data, labels, inputs) -> Iterator[str]:
  """Lines for numbers among the inputs that are a label in other units."""
  columns = data.encoder.columns
  if 'train' not in data.splits:
    return
  numbers = {
    key for key in inputs if columns[key].kind in ('integer', 'float', 'vector')
  } - set(labels.values())
  masks = map(tasks.mask_key, labels.values())
  train = data.splits['train']
  rows = np.linspace(0, len(train) - 1, min(len(train), info_lib.SAMPLE))
  batch = train.take(rows.astype(int), {*numbers, *labels.values(), *masks})
  for task, key in labels.items():
    known = is_known(batch, key)
    if known.ndim > 1 or known.sum() < ENOUGH or key not in columns:
      continue
    label = _centred(batch[key][known][:, None])
    for other in sorted(numbers):
      features = columns[other].features
      if batch[other].ndim > 2:
        continue
      values = batch[other][known].reshape(len(label), -1)
      alike = np.abs((_centred(values) * label).sum(axis=0)) > 1 - 1e-6
      if len(features) == 1:  # a number, or a vector
        alike = alike.any(keepdims=True)
      for feature in np.array(features)[alike[: len(features)]]:
        if feature not in columns[key].features:
          yield (
            f'{str(feature)!r} in the input {other!r} is the label of task '
            f'{task} in other units, in {len(label):,} rows of train: leave it '
            'out unless it is meant.'
          )


def _centred(values):
  """Columns ``[n, F]`` of mean 0 and norm 1, or all 0 if they are constant."""
  values = values.astype(np.float64)
  values = values - values.mean(axis=0)
  norm = np.linalg.norm(values, axis=0)
  return values / np.where(norm > 0, norm, 1)


def _rare(data, labels) -> Iterator[str]:
  for task, key in labels.items():
    counts, several = {}, False
    for split, source in data.splits.items():
      batch = info_lib.sample(source, [key, tasks.mask_key(key)])
      values, known = batch[key], is_known(batch, key)
      if not known.any():
        yield f'{split} has no labels of task {task}.'
      elif values.dtype.kind == 'f' and np.ptp(values[known]) == 0:
        yield (
          f'{split} has {_number(data, key, values[known][0])} as every label '
          f'of task {task}; its scores there are undefined.'
        )
      made = _class_counts(data.encoder.columns.get(key), values, known)
      several = values.ndim > 1
      if made is not None:
        counts[split] = made
    if 'train' in counts:
      yield from _lacking(task, data.info.classes.get(key, ()), counts, several)


def _number(data, key, value):
  column = data.encoder.columns.get(key)
  shift = column.mean[0] if column is not None and column.mean else 0
  return f'{float(value) + shift:.5g}'


def _class_counts(column, values, known):
  """Rows of each class ``[C]``, of sets of each member; None of numbers."""
  if values.dtype.kind == 'f':
    return None
  sets = column is not None and column.kind in ('set', 'multilabel', 'multihot')
  if sets and values.ndim == 2:
    return ((values > 0) & known).sum(axis=0)
  if values.ndim > 1:
    return None
  size = (column and column.size) or 0
  return np.bincount(values[known & (values >= 0)], minlength=size)


def _lacking(task, names, counts, several) -> Iterator[str]:
  """Lines for classes that training, or only training, has rows of."""
  size = max(len(names), *map(len, counts.values()))
  padded = {
    split: np.pad(count, (0, size - len(count)))
    for split, count in counts.items()
  }
  trained = padded['train'] > 0
  if several and not trained.all():
    found = _these(names, ~trained, 'label', 'labels')
    yield f'train has no row of {found} of task {task}.'
  for split, count in padded.items():
    there = count > 0
    if split == 'train' or not there.any():
      continue
    new, absent = there & ~trained, trained & ~there
    if new.any() and not several:
      yield (
        f'train has no row of {_these(names, new)} of task {task}, which '
        f'{split} has: shuffle the rows before they are split.'
      )
    if absent.any() and size <= SHOWN:
      undefined = '; its AUC there is undefined' * (size == 2 or several)
      what = ('label', 'labels') if several else ('class', 'classes')
      found = _these(names, absent, *what)
      yield f'{split} has no row of {found} of task {task}{undefined}.'


def _these(names, which, one='class', many='classes'):
  some = [names[i] if i < len(names) else str(i) for i in np.flatnonzero(which)]
  some = list(map(_in_a_line, some))
  listed = ', '.join(some[:3]) + (', ...' if len(some) > 3 else '')
  if len(some) == 1:
    return f'the {one} {listed}'
  return f'{len(some):,} {many} ({listed})'


def gaps(
  splits: Mapping[str, Any],
  encoder: encoding.Encoder,
  inputs: Collection[str],
) -> Iterator[str]:
  """A line for missing values of inputs, and for what training did not have.

  Args:
    splits: sources with ``counts``.
    encoder: of them.
    inputs: keys that the model reads.
  """
  tables = {split: source.counts for split, source in splits.items()}
  said = set()
  for key, column in encoder.columns.items():
    if key not in inputs:
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
        f'{tasks.mask_key(key)!r}' + (f'; cut: {cut}.' if cut else '.')
      )


def _groups(data) -> Iterator[str]:
  tables = {split: source.counts for split, source in data.splits.items()}
  for key, column in data.encoder.columns.items():
    if column.kind == 'group':
      (feature,) = column.features
      gaps = _shares(tables, key, feature, 'missing', 'cells')
      if gaps:
        yield f'rows without {feature!r}: {gaps}; they are in no group.'


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
  if column.kind in encoding.EMPTY:
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


def _alike(data, keys) -> Iterator[str]:
  """A line for each column with two names that may be meant as one."""
  for key, column in data.encoder.columns.items():
    names = column.names or column.vocabulary
    if key not in keys or len(names) > FEW and key not in data.info.classes:
      continue
    seen: dict[str, str] = {}
    for name in names:
      plain = unicodedata.normalize('NFKC', name).casefold()
      other = seen.setdefault(' '.join(plain.split()), name)
      if other == name:
        continue
      what, advice = 'their case', 'set data.ignore_case'
      if other.casefold() != name.casefold():
        what, advice = 'spaces or the width of letters', 'mend them'
      yield (
        f'the names {other!r} and {name!r} of {key!r} differ in {what} only: '
        f'{advice} if they are one.'
      )
      break


def _odd_names(data, keys) -> Iterator[str]:
  """Lines for names that look like missing values, lists or several names."""
  for key, column in data.encoder.columns.items():
    names = column.names or column.vocabulary
    if key not in keys or not names or column.kind == 'multilabel':
      continue
    blanks = [name for name in names if name.casefold() in BLANKS]
    if blanks:
      yield (
        f'{_listed(blanks)} among the names of {key!r}: add to data.missing '
        'what stands for a missing value.'
      )
    if column.kind in ('set', 'sequence'):
      (feature,) = column.features
      counts = data.splits['train'].counts if 'train' in data.splits else {}
      alone = counts.get((key, feature, 'members'), 1) <= counts.get(
        (key, feature, 'cells'), 0
      )
      joined = [name for name in names if any(x in name for x in ',;|')]
      if alone and joined:
        yield (
          f'{_listed(joined)} among the names of {key!r}, of which no row has '
          'several: set data.set_separator to what is between names.'
        )
      continue
    lists = [name for name in names if name[:1] + name[-1:] == '[]']
    if lists:
      yield (
        f'{_listed(lists)} among the names of {key!r}: read the column as kind '
        "'set' or 'sequence' if these are lists."
      )


def _listed(names):
  some = ', '.join(map(repr, names[:3]))
  return some + (f' and {len(names) - 3:,} more' if len(names) > 3 else '')
