"""New items of a recommender, known by text and picture: their place, and more.

Where rows of the table of items are made of the items' texts and pictures, an
item that training never saw has a row as well. So a line of a file to predict
may have new items under "new", next to the history that they are ranked for:
texts, or ``{"text": ..., "picture": path}`` with at least one of both.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import combinators
from mtl_jax.data import item_content
from mtl_jax.encoders import pictures as pictures_lib
from mtl_jax.experiment import (
  build,
  item_vectors,
  recommend,
  trained,
)
from mtl_jax.models import items as items_lib
from mtl_jax.tasks.metrics import item_ranks

KEY = 'new'
VECTORS = 'constants/inputs/vectors'
ATTRIBUTES = 'constants/inputs/attributes'
TOLERANCE = 1e-3  # of stored vectors, in their deviations; of cosines


class NewItem(NamedTuple):
  """An item that training never saw.

  Attributes:
    text: '' = none.
    picture: path of a file, relative to the folder of the data; '' = none.
  """

  text: str = ''
  picture: str = ''


def predict(
  model: trained.Trained, rows: Sequence[Mapping[str, Any]]
) -> list[list[dict[str, Any]]]:
  """Ranks and describes the new items of each history.

  Args:
    model: a recommender whose rows of items are made of texts or pictures.
    rows: of `recommend.read_histories`; ``new`` has new items.

  Returns:
    Per history and new item ``{'text', 'picture', 'place', 'of'}``: what it is
    known by; its place among the items that are not in the history, itself
    among them; and what tasks whose head is given an item predict for it, such
    as ratings; and what the others, such as interests, predict of someone of
    whom it is all that is known.

  Raises:
    ValueError: if the model does not read what an item is known by, a picture
      cannot be read, or a score is NaN.
  """
  experiment = model.experiment
  for number, row in enumerate(rows, 1):
    check(experiment, row, f'history {number}')
  pairs = [
    (i, _item_of(new)) for i, row in enumerate(rows) for new in row.get(KEY, ())
  ]
  if not pairs:
    return [[] for _ in rows]
  items = list(dict.fromkeys(item for _, item in pairs))
  task: Any = experiment.item_task
  grown = grow(model, task, items)
  size = experiment.data[task.stream].info.cardinalities['items']
  ids = np.array([size + items.index(item) for _, item in pairs], np.int32)
  batch, _ = recommend.batch_of([rows[i] for i, _ in pairs], model, task.stream)
  if not recommend.head_of(experiment, task).get('seen'):
    batch['seen'] = np.zeros_like(batch['seen'])  # users come back to items
  candidates = size - (batch['seen'] > 0).sum(1)
  every = np.arange(size, size + len(items), dtype=np.int32)
  others = np.where(every == ids[:, None], 0, every)  # not of this pair
  batch['seen'] = np.concatenate([batch['seen'], others], axis=1)
  outputs = jax.device_get(jax.jit(_make_step(grown, task))(batch, ids))
  tasks = {t.name: t for t in experiment.tasks}
  made: list[list[dict[str, Any]]] = [[] for _ in rows]
  for j, (i, item) in enumerate(pairs):
    better, equal = outputs[task.name][j, [item_ranks.BETTER, item_ranks.EQUAL]]
    if np.isnan(better):
      raise ValueError(
        f'Expected finite scores, found NaN for {item.text or item.picture!r}; '
        'train again with a lower learning rate.'
      )
    entry: dict[str, Any] = {
      **{part: known for part, known in item._asdict().items() if known},
      'place': round(float(1 + better + equal / 2)),
      'of': int(candidates[j]),
    }
    for name, values in outputs.items():
      if name != task.name:
        entry[name] = recommend.plain(values[j], tasks[name])
    made[i].append(entry)
  return made


def check(experiment: Any, row: Mapping[str, Any], where: str) -> None:
  """Raises a `ValueError` if a model cannot read the new items of a history.

  Args:
    experiment: of the model.
    row: the history.
    where: it stands.
  """
  new = row.get(KEY, [])
  recommend.check_new(new, where)
  if not new:
    return
  reads = item_vectors.encoders_of(_vectors_spec(experiment))
  folder = _folder(experiment)
  for item in map(_item_of, new):
    for part, known in item._asdict().items():
      if known and part not in reads:
        raise ValueError(
          f'Expected new items that are known by a {" and a ".join(reads)} in '
          f'{where}, found the {part} {known[:60]!r}, of which the model reads '
          f'nothing; leave it out, or train with '
          f'{item_vectors.PARTS[part]!r} in model.inputs.vectors.'
        )
    if item.picture:
      _check_picture(pathlib.Path(folder, item.picture), where)


def _check_picture(path, where):
  if not path.is_file():
    raise ValueError(
      f'Expected a picture of a new item in {path} ({where}), found no such '
      'file; correct the path, which is relative to the folder of the data, or '
      'leave it out.'
    )
  try:
    pictures_lib.open_picture(path)
  except ValueError as error:
    raise ValueError(f'In {where}: {error}') from error


def _item_of(new) -> NewItem:
  if isinstance(new, str):
    return NewItem(new)
  return NewItem(**{part: known or '' for part, known in new.items()})


def _folder(experiment) -> str:
  """The folder that paths of pictures are relative to, as in training."""
  stream = experiment.item_task.stream
  return experiment.streams[stream].settings.get('folder', '')


def _vectors_spec(experiment) -> Mapping[str, Any]:
  """The settings of vectors that are made of texts and pictures."""
  spec = experiment.settings.model.inputs
  vectors = spec.get('vectors')
  arm = vectors.get('arm', 'text') if isinstance(vectors, Mapping) else ''
  if not isinstance(vectors, Mapping) or arm != 'text':
    raise ValueError(
      f'Expected a recommender whose rows of items are made of their texts or '
      f'pictures, found rows {spec.get("rows", "ids")!r} of '
      f'{f"vectors of the arm {arm!r}" if arm else "no texts"}; a new item has '
      'no row there: train with model.inputs.vectors.'
    )
  return vectors


def grow(
  model: trained.Trained, task: Any, items: Sequence[NewItem]
) -> trained.Trained:
  """The model with further items behind those of its catalogue.

  Where a row is the sum of one that is learned and one that is made of text and
  picture, the learned part of a new item is 0. Its mean rating and genres are
  those of all.

  Args:
    model: whose rows of items are made of texts or pictures.
    task: of the next item.
    items: the n new ones.

  Raises:
    ValueError: if rows are made of something else.
  """
  experiment = model.experiment
  vectors = _vectors_spec(experiment)
  source = experiment.data[task.stream]
  column = source.encoder.columns[recommend.label_of(experiment, task)]
  folder = _folder(experiment)
  content = item_content.Content(
    [item.text or item.picture for item in items],
    text=[item.text for item in items],
    picture=[x.picture and str(pathlib.Path(folder, x.picture)) for x in items],
  )
  (stored,) = [
    np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.model_state)
    if combinators.path_name(path).endswith(VECTORS)
  ]
  known = item_vectors.content_of(column)
  new = _vectors_of(vectors, known, stored[1:], content)

  def extend(path, leaf):
    name, count = combinators.path_name(path), len(items)
    if name.endswith(items_lib.LEARNED):
      rows = np.zeros((count, leaf.shape[1]))
    elif name.endswith(VECTORS):
      rows = new
    elif name.endswith(ATTRIBUTES):
      rows = np.repeat(leaf[:1], count, axis=0)
    else:
      return leaf
    return jnp.concatenate([leaf, jnp.asarray(rows, leaf.dtype)])

  params, state = (
    jax.tree_util.tree_map_with_path(extend, tree)
    for tree in (model.params, model.model_state)
  )
  return dataclasses.replace(
    model,
    experiment=_grown(experiment, task, len(items)),
    params=params,
    model_state=state,
  )


def _grown(experiment, task, count):
  """The experiment with a larger catalogue."""
  source, label = (
    experiment.data[task.stream],
    recommend.label_of(experiment, task),
  )
  known = dict(source.info.cardinalities)
  known |= {key: known[key] + count for key in ('items', label)}
  info = dataclasses.replace(source.info, cardinalities=known)
  streams = {
    **experiment.data,
    task.stream: dataclasses.replace(source, info=info),
  }
  tasks = tuple(
    dataclasses.replace(t, size=t.size + count) if t.name == task.name else t
    for t in experiment.tasks
  )
  section = experiment.settings.model
  # The parameters are there: no file is read. Other new items are not ranked.
  inputs = {**section.inputs, 'vectors': 'of the checkpoint'}
  head = {**recommend.head_of(experiment, task), 'seen': 'seen'}
  heads = {**section.heads, task.name: head}
  section = dataclasses.replace(section, inputs=inputs, heads=heads)
  settings = dataclasses.replace(experiment.settings, model=section)
  return dataclasses.replace(
    experiment,
    tasks=tasks,
    data=streams,
    make_model=lambda axis_name: build.make_model(
      settings, tasks, streams, axis_name
    ),
  )


def _vectors_of(spec, known, stored, new) -> np.ndarray:
  """Vectors ``[n, M]`` of new items, made as those of the catalogue were.

  Args:
    spec: of `item_vectors.make_file`.
    known: content of the catalogue.
    stored: ``[V, M]``, its vectors.
    new: content of n items.

  Raises:
    ValueError: if the stored vectors are of other weights or content.
  """
  raw = item_vectors.encode(spec, known)
  fresh = item_vectors.encode(spec, new)
  width = spec.get('width', 0)
  widths = [width or x.values.shape[1] for x in raw.values()]
  fitted = []
  if stored.shape[1] == sum(widths):
    own = np.split(stored, np.cumsum(widths)[:-1], axis=1)
    fitted = [
      _find_map(x, y, width, len(raw) > 1)
      for x, y in zip(raw.values(), own, strict=True)
    ]
  maps = [affine for affine in fitted if affine is not None]
  if len(maps) < len(raw):
    named = item_vectors.encoders_of(spec)
    raise ValueError(
      'Expected vectors of the catalogue that are those of its '
      + ' and '.join(f'{item_vectors.PARTS[p]} by {named[p]!r}' for p in named)
      + ', found others; give the weights and files that the run was trained '
      'with.'
    )
  return np.concatenate(
    [
      np.where(x.mask[:, None], affine(x.values), 0)
      for affine, x in zip(maps, fresh.values(), strict=True)
    ],
    axis=1,
  )


def _find_map(encoded, stored, width, centred):
  """The affine map that made a part ``[V, M]`` of the catalogue, or None.

  Whitening and scale are found from what they made of the known items; if the
  stored vectors are of other weights, there is no such map. Of fewer items than
  numbers of an encoder any vectors can be made, but not by a whitening, whose
  directions are at right angles.
  """
  raw, there = encoded
  known, made = raw[there], stored[there]  # others have no vector
  mean, shift = 0.0, 0.0
  if width or centred:
    mean, shift = known.mean(0, dtype=np.float64), made.mean(0)
  x, y = known - mean, made - shift
  if width:
    matrix, *_ = np.linalg.lstsq(x, y, rcond=1e-7)
    if not _is_whitening(matrix, y):
      return None
  else:
    scale = (x * y).sum() / (x * x).sum()

  def affine(vectors):
    vectors = vectors - mean
    return (vectors @ matrix if width else vectors * scale) + shift

  fits = np.abs(affine(known) - made).max() <= TOLERANCE * made.std()
  return affine if fits and not stored[~there].any() else None


def _is_whitening(matrix, made) -> bool:
  """Whether the columns ``[D, M]`` that made ``[V, M]`` are orthogonal."""
  spread = made.std(0)
  # Where items do not differ, such as in a constant number, nothing is known.
  some = matrix[:, spread > spread.max() / 2]
  some = some / np.linalg.norm(some, axis=0)
  return np.abs(some.T @ some - np.eye(some.shape[1])).max() <= TOLERANCE


def _make_step(model, task):
  """``(batch, ids [N]) -> {task: [N, ...]}`` for the new item of each row."""
  experiment = model.experiment
  label = recommend.label_of(experiment, task)
  tasks = [t for t in experiment.tasks if t.stream == task.stream]
  given = {task.name, *recommend.given_item(experiment)}
  arguments = (model.params, model.model_state)

  def outputs(batch, own):
    features, _ = experiment.model.features(
      *arguments, batch, stream=task.stream, train=False, key=None
    )
    found, _ = experiment.model.outputs(
      *arguments,
      features,
      batch,
      tasks=tuple(t.name for t in own),
      train=False,
      key=None,
    )
    return {t.name: t.predict(found[t.name])[:, -1] for t in own}

  def step(batch, ids):
    whole = recommend.whole_batch(model, task, batch)
    asked = whole[label].at[:, -1].set(ids)
    found = outputs(
      {**whole, label: asked}, [t for t in tasks if t.name in given]
    )
    rest = [t for t in tasks if t.name not in given]
    if rest:
      alone = {key: jnp.zeros_like(x) for key, x in whole.items()}
      alone['items'] = alone['items'].at[:, -1].set(ids)
      alone['mask'] = alone['mask'].at[:, -1].set(1)
      alone[label] = whole[label]
      found |= outputs(alone, rest)
    return found

  return step
