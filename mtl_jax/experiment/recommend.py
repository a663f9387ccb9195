"""Recommendations for new histories: items, interests, ratings.

A history is a JSON object per line, ``{"items": [...], "ratings": [...],
"times": [...], "time": ...}``: original ids, oldest first; ratings and times,
in seconds, may be absent, and so may the time that the next item is asked for
at, by default that of the last event. Users need no id: a model of sequences
knows none. Under "new" there may be texts and pictures of items to be ranked,
see `new_items`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import functools
import itertools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import tasks as tasks_lib
from mtl_jax.experiment import item_vectors, log_tasks, trained
from mtl_jax.recommendation import interactions, windows
from mtl_jax.tasks.metrics import item_ranks

KEYS = ('items', 'ratings', 'times')
TIME = 'time'  # at which the next item is asked for


def head_of(experiment: Any, task: tasks_lib.Task) -> Mapping[str, Any]:
  """Section of a task's head in the config."""
  section = experiment.settings.model
  return section.heads.get(task.name, section.head)


def label_of(experiment: Any, task: tasks_lib.Task) -> str:
  """The key of a task's labels."""
  return experiment.settings.targets[task.name].get('label') or task.name


def read_histories(
  path: pathlib.Path | str,
  check: Callable[[Mapping[str, Any], str], None] | None = None,
) -> list[dict[str, Any]]:
  """Histories of a JSONL file.

  Args:
    path: of the file.
    check: called with each history and with where it stands, to raise if a
      model cannot read it.

  Raises:
    ValueError: naming the line that is none.
  """
  rows = []
  text = pathlib.Path(path).read_text(encoding='utf-8')
  # A text may hold what other ends of lines are to `str.splitlines`.
  for number, line in enumerate(text.split('\n'), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except json.JSONDecodeError as error:
      raise ValueError(
        f'Expected a JSON object in line {number} of {path}, found something '
        f'else ({error}); write one history per line.'
      ) from None
    _check(row, f'line {number} of {path}')
    if check is not None:
      check(row, f'line {number} of {path}')
    rows.append(row)
  if not rows:
    raise ValueError(
      f'Expected at least one history in {path}, found none; is it empty?'
    )
  return rows


def _check(row, where) -> None:
  items = row.get('items') if isinstance(row, dict) else None
  if not isinstance(items, list) or not items:
    raise ValueError(
      f'Expected a list of item ids under "items" in {where}, found '
      f'{items!r}; write {{"items": [...]}}, oldest first.'
    )
  for key in KEYS[1:]:
    values = row.get(key)
    if values is None:
      continue
    numbers = isinstance(values, list) and all(
      isinstance(x, (int, float)) or (x is None and key == 'ratings')
      for x in values
    )
    if not numbers or len(values) != len(items):
      raise ValueError(
        f'Expected {len(items)} numbers under "{key}" in {where}, one per '
        f'item, found {str(values)[:60]}; leave it out if they are not known.'
      )
    if key == 'times':
      _check_times(values, where)
  _check_time(row.get(TIME), row.get('times'), where)
  check_new(row.get('new', []), where)


def check_new(new: Any, where: str) -> None:
  """Raises a `ValueError` unless these are new items.

  Args:
    new: a list, each of it a text, or ``{'text': ..., 'picture': path}`` with
      at least one of both.
    where: they stand.
  """
  if not isinstance(new, list) or not all(map(_is_item, new)):
    raise ValueError(
      f'Expected a list of new items under "new" in {where}, each a text or '
      f'{{"text": ..., "picture": path}} with at least one of both, found '
      f'{str(new)[:60]}; write {{"new": ["a title"]}}, or leave it out.'
    )


def _is_item(new):
  """Whether it is a new item: a text, or an object with a text or a path."""
  parts = {'text': new} if isinstance(new, str) else new
  return (
    isinstance(parts, Mapping)
    and parts.keys() <= item_vectors.PARTS.keys()
    and all(isinstance(x, str | None) for x in parts.values())
    and any(x and x.strip() for x in parts.values())
  )


def _check_times(times, where) -> None:
  if any(not -np.inf < x < interactions.YEAR_2200 for x in times):
    raise ValueError(
      f'Expected times in seconds, before the year 2200, in {where}, found '
      f'{str(times)[:60]}; divide milliseconds by 1000.'
    )
  if any(a > b for a, b in itertools.pairwise(times)):
    raise ValueError(
      f'Expected times that never fall in {where}, oldest first, found '
      f'{str(times)[:60]}; sort the history by time.'
    )


def _check_time(time, times, where) -> None:
  if time is None:
    return
  number = isinstance(time, (int, float)) and not isinstance(time, bool)
  last = times[-1] if times else np.nan  # no time is after that
  if not number or not last <= time < interactions.YEAR_2200:
    raise ValueError(
      f'Expected a time in seconds under "{TIME}" in {where}, at or after the '
      f'last of the "times", found {str(time)[:60]}; leave it out if it is '
      'that of the last event.'
    )


def batch_of(
  rows: Sequence[Mapping[str, Any]], model: trained.Trained, stream: str
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Arrays of histories as training has them, and what was left out.

  Args:
    rows: of `read_histories`.
    model: that reads them.
    stream: whose inputs they are.

  Returns:
    ``{key: [N, ...]}``, and sentences on unknown items and ratings, and on what
    the model reads and histories do not have.

  Raises:
    ValueError: if a history has no known item.
  """
  columns = model.experiment.data[stream].encoder.columns
  names = columns['items'].names
  known = {name: number for number, name in enumerate(names) if number}
  length = model.experiment.example_batch()[stream]['items'].shape[1]
  rated = columns['ratings'].names[1:] if 'ratings' in columns else ()
  levels = np.array([float(x) for x in rated])
  found = [
    _history(row, number, known, levels) for number, row in enumerate(rows, 1)
  ]
  notes = [note for _, own in found for note in own]
  notes += _absent(rows, model.experiment.inputs(stream))
  most = max(len(np.unique(arrays['items'])) for arrays, _ in found)
  batch = {
    key: np.zeros((len(rows), length), np.int32)
    for key in ('items', 'ratings', 'gaps', 'times')
  }
  batch['seen'] = np.zeros((len(rows), most), np.int32)
  for i, (arrays, _) in enumerate(found):
    own = np.unique(arrays['items'])
    batch['seen'][i, : len(own)] = own
    for key in ('items', 'ratings', 'gaps', 'times'):
      last = arrays[key][-length:]
      batch[key][i, length - len(last) :] = last
  batch['mask'] = (batch['items'] > 0).astype(np.float32)
  asked = np.array([arrays['asked'] for arrays, _ in found], np.int32)
  after = [batch['times'][:, 1:], asked[:, None]]
  batch['next_times'] = np.concatenate(after, axis=1)
  return batch, notes


def _absent(rows, reads) -> list[str]:
  """Sentences on keys that a model reads and some histories do not have."""
  notes = []
  for keys, key, told, taken in (
    ({'ratings'}, 'ratings', 'ratings', 'its items count as not rated'),
    ({'gaps', 'times'}, 'times', 'times', 'all events count as of one moment'),
    ({'next_times'}, TIME, f'"{TIME}" of the next item',
     'it is asked for 0 seconds after the last event'),
  ):  # fmt: skip
    number = sum(row.get(key) is None for row in rows)
    if reads & keys and number:
      notes.append(
        f'{number} of {len(rows)} histories have no {told}, which the model '
        f'reads: {taken}.'
      )
  return notes


def _history(row, number, known, levels):
  """Codes of one history without its unknown items, and what to say of it."""
  items = np.array([known.get(_id(x), 0) for x in row['items']], np.int32)
  some = items > 0
  absent = [str(x) for x, there in zip(row['items'], some, strict=True)
            if not there]  # fmt: skip
  if not some.any():
    raise ValueError(
      f'Expected an item of the catalogue in history {number}, found none of '
      f'them ({", ".join(absent[:3])}); are they ids of the log?'
    )
  given = [np.nan if x is None else x for x in row.get('ratings') or []]
  ratings = np.array(given or [np.nan] * len(items), np.float64)
  times = np.array(row.get('times') or [0] * len(items), np.float64)
  asked = times[-1] if row.get(TIME) is None else row[TIME]
  gaps = windows.gap_codes(np.diff(times[some], prepend=times[some][:1]))
  gaps[0] = 0
  arrays = {
    'items': items[some],
    'ratings': windows.rating_codes(levels, ratings)[some],
    'gaps': gaps,
    'times': (times[some] - times[some][0]).astype(np.int32),
    'asked': int(asked - times[some][0]),
  }
  notes = []
  if absent:
    notes.append(
      f'history {number}: {len(absent)} of {len(items)} items are not in the '
      f'catalogue and were left out: {", ".join(absent[:5])}'
      + ('.' if len(absent) <= 5 else ', ...')
    )
  known_ratings = ratings[some & ~np.isnan(ratings)]
  other = [x for x in known_ratings if len(levels) and x not in levels]
  if other:
    notes.append(
      f'history {number}: {len(other)} ratings are none of those in training '
      f'({levels.min():g} to {levels.max():g}), '
      f'and were read as the nearest: {", ".join(f"{x:g}" for x in other[:5])}'
      + ('.' if len(other) <= 5 else ', ...')
    )
  return arrays, notes


def _id(value):
  whole = isinstance(value, float) and value.is_integer()
  return str(int(value)) if whole else str(value)


def predict(
  model: trained.Trained, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
  """Predicts the next items of each history, and other tasks.

  Args:
    model: of a log, with tasks that a history is enough for.
    rows: of `read_histories`.

  Returns:
    Per history ``{task: ...}``: of the next item the best ones,
    ``{'item', 'name', 'score'}`` each and, of tasks whose head is given an
    item, what they predict for it; of interests the probability of each by its
    name. The best are not in the history where the head has ``seen``. And
    sentences about items that were left out, or are in the history. Without a
    task of the next item no item is there to be asked about.

  Raises:
    ValueError: for a history without a known item, scores that are NaN, or
      tasks that all ask about an item.
  """
  experiment = model.experiment
  task = experiment.item_task
  log: Any = log_tasks.of(experiment.settings)
  stream = log.stream if task is None else task.stream
  if task is None:
    _check_states(experiment, stream)
  batch, notes = batch_of(rows, model, stream)
  if task and not head_of(experiment, task).get('seen'):
    notes.append(
      'Items of a history may be among its best ones: the head of the next '
      "item has no 'seen'."
    )
  size = experiment.streams[stream].evaluation_batch_size
  run = jax.jit(functools.partial(_outputs, model, task, stream))
  parts = []
  for start in range(0, len(rows), size):
    chunk = {key: x[start : start + size] for key, x in batch.items()}
    short = size - len(chunk['items']) if len(rows) > size else 0
    padded = {
      key: np.concatenate([x, np.repeat(x[:1], short, axis=0)])
      for key, x in chunk.items()
    }
    found = jax.device_get(run(padded))
    real = len(chunk['items'])
    parts.append(jax.tree.map(lambda x, n=real: x[:n], found))
  whole = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
  return _readable(model, task, *whole), notes


def _check_states(experiment, stream) -> None:
  """Raises if every task of a stream asks about an item."""
  names = [t.name for t in experiment.tasks if t.stream == stream]
  if given_item(experiment).issuperset(names):
    raise ValueError(
      'Expected a task of the next item to predict by histories, or one that '
      f'asks about no item, found only {", ".join(names)}; train with a target '
      "of the kind 'next_item' as well."
    )


def _outputs(model, task, stream, batch):
  """Predictions at the last step ``[N, ...]``, and those given each best item.

  The latter are ``{task: [N, k, ...]}``; none without a task of the next item.
  """
  experiment = model.experiment
  tasks = [t for t in experiment.tasks if t.stream == stream]
  batch = whole_batch(model, task or tasks[0], batch)
  names = tuple(t.name for t in tasks)
  arguments = (model.params, model.model_state)
  features, _ = experiment.model.features(
    *arguments, batch, stream=stream, train=False, key=None
  )

  def outputs(batch, names):
    found, _ = experiment.model.outputs(
      *arguments, features, batch, tasks=names, train=False, key=None
    )
    return {
      t.name: t.predict(found[t.name])[:, -1] for t in tasks if t.name in names
    }

  about = tuple(name for name in names if name in given_item(experiment))
  first = outputs(batch, names)
  states = {n: x for n, x in first.items() if n not in about}
  if task is None:
    return states, {}
  k = (first[task.name].shape[-1] - item_ranks.FIRST_BEST) // 2
  start = item_ranks.FIRST_BEST
  best = first[task.name][:, start : start + k].astype(jnp.int32)
  label, shape = label_of(experiment, task), batch['items'].shape

  def given(items):  # [N]
    chosen = jnp.broadcast_to(items[:, None], shape)
    return outputs({**batch, label: chosen}, about)

  beside = jax.vmap(given, in_axes=1, out_axes=1)(best) if about else {}
  return states, beside


def whole_batch(
  model: trained.Trained, task: tasks_lib.Task, batch: Mapping[str, Any]
) -> dict[str, Any]:
  """Arrays of `batch_of` and, of labels and the like, that there are none."""
  example = model.experiment.example_batch()[task.stream]
  number, length = batch['items'].shape
  others = {
    key: jnp.zeros((number, *x.shape[1:]), x.dtype)
    for key, x in example.items()
    if key not in batch
  }
  none = jnp.full((number, length), -1, jnp.int32)
  return {**others, **batch, label_of(model.experiment, task): none}


def given_item(experiment: Any) -> set[str]:
  """The tasks whose head is given the item that it is about."""
  return {
    task.name
    for task in experiment.tasks
    if head_of(experiment, task).get('name') == 'item'
  }


def _readable(model, task, first, beside) -> list[dict[str, Any]]:
  tasks = {t.name: t for t in model.experiment.tasks}
  rows: list[dict[str, Any]] = [{} for _ in next(iter(first.values()))]
  if task is not None:
    for row, best in zip(
      rows, _best(model, task, first[task.name], beside), strict=True
    ):
      row[task.name] = best
  for name, values in first.items():
    for row, own in zip(rows, values, strict=True):
      if name not in row:
        row[name] = plain(own, tasks[name])
  return rows


def _best(model, task, first, beside) -> Iterator[list[dict[str, Any]]]:
  """The best items of each history, with what is predicted of them."""
  columns = model.experiment.data[task.stream].encoder.columns
  label = label_of(model.experiment, task)
  ids, titles = columns['items'].names, columns[label].names
  tasks = {t.name: t for t in model.experiment.tasks}
  start = item_ranks.FIRST_BEST
  k = (first.shape[-1] - start) // 2
  for i, numbers in enumerate(first):
    if np.isnan(numbers[start + k :]).any():
      raise ValueError(
        f'Expected finite scores, found NaN for history {i + 1}; train again '
        'with a lower learning rate.'
      )
    best = []
    for j in range(k):
      item = int(numbers[start + j])
      if not item:
        break
      entry: dict[str, Any] = {'item': ids[item]}
      if titles[item] != ids[item]:
        entry['name'] = titles[item]
      entry['score'] = round(float(numbers[start + k + j]), 6)
      for name, values in beside.items():
        entry[name] = plain(values[i, j], tasks[name])
      best.append(entry)
    yield best


def plain(values: Any, task: tasks_lib.Task) -> Any:
  """A number, or numbers by the names of labels, the largest first."""
  values = np.round(np.asarray(values, np.float64), 6).reshape(-1)
  if values.size == 1:
    return float(values[0])
  if len(task.labels) != values.size:
    return values.tolist()
  order = np.argsort(-values, kind='stable')
  return {task.labels[c]: float(values[c]) for c in order}


def lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
  """JSON lines of predictions."""
  return [
    json.dumps(row, allow_nan=False, ensure_ascii=False) + '\n' for row in rows
  ]
