"""New items of a recommender, known by a text alone: their place, and more.

Where rows of the table of items are made of the items' texts, an item that
training never saw has a row as well. So a line of a file to predict may have
texts under "new", next to the history that they are ranked for.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import combinators, encoders
from mtl_jax.data import item_content, packages
from mtl_jax.experiment import models as models_lib, recommend, trained
from mtl_jax.tasks.metrics import item_ranks

KEY = 'new'
IDS = 'embed/embedding'
VECTORS = 'constants/inputs/vectors'
ATTRIBUTES = 'constants/inputs/attributes'
TOLERANCE = 1e-3  # of stored vectors, in their deviations


def predict(
  model: trained.Trained, rows: Sequence[Mapping[str, Any]]
) -> list[list[dict[str, Any]]]:
  """Ranks and describes the new items of each history.

  Args:
    model: a recommender whose rows of items are made of texts.
    rows: of `recommend.read_histories`; ``new`` has texts.

  Returns:
    Per history and text ``{'text', 'place', 'of'}``: its place among the items
    that are not in the history, itself among them; and what tasks whose head is
    given an item predict for it, such as ratings; and what the others, such as
    interests, predict of someone of whom it is all that is known.

  Raises:
    ValueError: if the model knows no texts, or a score is NaN.
  """
  pairs = [(i, text) for i, row in enumerate(rows) for text in row.get(KEY, ())]
  if not pairs:
    return [[] for _ in rows]
  texts = list(dict.fromkeys(text for _, text in pairs))
  experiment = model.experiment
  task: Any = experiment.item_task
  grown = grow(model, task, texts)
  size = experiment.data[task.stream].info.cardinalities['items']
  ids = np.array([size + texts.index(text) for _, text in pairs], np.int32)
  batch, _ = recommend.batch_of([rows[i] for i, _ in pairs], model, task.stream)
  if not recommend.head_of(experiment, task).get('seen'):
    batch['seen'] = np.zeros_like(batch['seen'])  # users come back to items
  candidates = size - (batch['seen'] > 0).sum(1)
  every = np.arange(size, size + len(texts), dtype=np.int32)
  others = np.where(every == ids[:, None], 0, every)  # not of this pair
  batch['seen'] = np.concatenate([batch['seen'], others], axis=1)
  outputs = jax.device_get(jax.jit(_make_step(grown, task))(batch, ids))
  tasks = {t.name: t for t in experiment.tasks}
  made: list[list[dict[str, Any]]] = [[] for _ in rows]
  for j, (i, text) in enumerate(pairs):
    better, equal = outputs[task.name][j, [item_ranks.BETTER, item_ranks.EQUAL]]
    if np.isnan(better):
      raise ValueError(
        f'Expected finite scores, found NaN for {text!r}; train again with a '
        'lower learning rate.'
      )
    entry: dict[str, Any] = {
      'text': text,
      'place': round(float(1 + better + equal / 2)),
      'of': int(candidates[j]),
    }
    for name, values in outputs.items():
      if name != task.name:
        entry[name] = recommend.plain(values[j], tasks[name])
    made[i].append(entry)
  return made


def grow(
  model: trained.Trained, task: Any, texts: Sequence[str]
) -> trained.Trained:
  """The model with further items behind those of its catalogue.

  Where a row is the sum of one that is learned and one that is made of the
  text, the learned part of a new item is 0. Its mean rating and genres are
  those of all.

  Args:
    model: whose rows of items are made of texts.
    task: of the next item.
    texts: n of them, of the new items.

  Raises:
    ValueError: if rows are made of something else.
  """
  experiment = model.experiment
  settings = experiment.settings
  spec = settings.model.inputs
  vectors = spec.get('vectors')
  arm = vectors.get('arm', 'text') if isinstance(vectors, Mapping) else ''
  if arm != 'text':
    raise ValueError(
      f'Expected a recommender whose rows of items are made of their texts, '
      f'found rows {spec.get("rows", "ids")!r} of '
      f'{f"vectors of the arm {arm!r}" if arm else "no texts"}; a new item has '
      'no row there: train with model.inputs.vectors.'
    )
  source = experiment.data[task.stream]
  column = source.encoder.columns[recommend.label_of(experiment, task)]
  known = column.texts or column.names
  (stored,) = [
    np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.model_state)
    if combinators.path_name(path).endswith(VECTORS)
  ]
  new = _vectors_of(vectors, known[1:], stored[1:], texts)

  def extend(path, leaf):
    name, count = combinators.path_name(path), len(texts)
    if name.endswith(IDS):
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
    experiment=_grown(experiment, task, len(texts)),
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
    make_model=lambda axis_name: models_lib.make_model(
      settings, tasks, streams, axis_name
    ),
  )


def _vectors_of(spec, known, stored, texts) -> np.ndarray:
  """Vectors ``[n, M]`` of texts, made as those of the catalogue were.

  Whitening and scale are an affine map, found from what it made of the known;
  if the stored vectors are of other weights, there is none, which is said.
  """
  encoder = item_content.text_encoder(spec.get('texts', 'minilm'))
  cache = packages.cache_dir() / 'vectors'
  (raw, there), (new, _) = (
    encoders.encode_items(encoder, [x or None for x in some], cache)
    for some in (known, texts)
  )
  raw, stored = raw[there], stored[there]  # others have no vector
  if spec.get('width', 0):
    mean, shift = raw.mean(0, dtype=np.float64), stored.mean(0)
    matrix, *_ = np.linalg.lstsq(raw - mean, stored - shift, rcond=1e-7)
    raw, new = ((x - mean) @ matrix + shift for x in (raw, new))
  else:
    scale = (raw * stored).sum() / (raw * raw).sum()
    raw, new = raw * scale, new * scale
  if np.abs(raw - stored).max() > TOLERANCE * stored.std():
    raise ValueError(
      'Expected vectors of the catalogue that are those of its texts by '
      f'{spec.get("texts", "minilm")!r}, found others; give the weights that '
      'the run was trained with.'
    )
  return new


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
