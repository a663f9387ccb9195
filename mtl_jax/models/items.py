"""A table of items that inputs and heads share, and the head that ranks it.

Items are numbered from 1; row 0 is padding, and is never recommended. The table
is a parameter of the input encoder, so it is shared by all tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.models import (
  content_adapter,
  embedding_table,
  item_scores,
  layers,
  softmax,
)

Array = jax.Array
LEARNED = 'embed/embedding'  # path of the learned rows, at the end
TABLE = 'item_table'  # key in the batch of heads: an `ItemTable` to read
STEP = 'step'  # key in the batch of the number of the step, ``[B]``
ROWS = ('ids', 'vectors', 'sum')
POSITIONS = ('last', 'all')


class ItemTable(nn.Module):
  r"""Rows of items, and sequences of them as a trunk reads them.

  .. math:: x_t = \sqrt{D} \, E_{i_t} + \sum_f F_f[c_{f,t}]

  with a row of E for item i and a row of a small table for each further
  feature, such as the rating that the user gave or how long it took. Padding is
  zero.

  Attributes:
    size: rows V + 1, of which row 0 is padding.
    features: width D.
    items: name in the batch of ids ``[B, T]``.
    rows: 'ids': a row per item is learned; 'vectors': rows are ``W v_i + b`` of
      frozen vectors; 'sum': both are added.
    vectors: file ``.npy`` of frozen vectors ``[V, M]``, in the order of ids.
      They are a part of the model's state, so that a checkpoint has them.
    widths: hidden units of an MLP in place of W, see `ContentAdapter`; the row
      of an item whose vector is 0 is 0.
    categorical: name in the batch of codes ``[B, T]`` of further features, to
      how many there are.
    attributes: file ``.npy`` ``[V + 1, 1 + G]`` of what is known of each item:
      its mean rating in training, drawn towards that of all, and 1 for each of
      its genres; row 0 has the means over training events. The trunk does not
      read it, heads may: `ProfileHead`, `ItemHead`. Like vectors it is a part
      of the model's state.
    dtype: dtype of the result; parameters are float32 in any case.

  Example:
    >>> table = ItemTable(size=6, features=4)
    >>> batch = {'items': jnp.array([[0, 3, 5]])}
    >>> x, _ = table.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape, float(abs(x[0, 0]).max())
    ((1, 3, 4), 0.0)

  References:
    Kang and McAuley, Self-attentive sequential recommendation, ICDM 2018 (the
    table that inputs and scores share). Vaswani et al., Attention is all you
    need, NeurIPS 2017 (the factor).
  """

  size: int
  features: int = 64
  items: str = 'items'
  rows: str = 'ids'
  vectors: str = ''
  widths: Sequence[int] = ()
  categorical: Mapping[str, int] | None = None
  attributes: str = ''
  dtype: Any = None

  def __post_init__(self):
    layers.check_positive(self, 'size', 'features')
    layers.check_option(self, 'rows', ROWS)
    if (self.rows != 'ids') != bool(self.vectors):
      raise ValueError(
        "ItemTable: expected a file of vectors with rows 'vectors' or 'sum', "
        f'and none else, found rows={self.rows!r} and vectors={self.vectors!r}'
        '; set both.'
      )
    for name, count in (self.categorical or {}).items():
      if not isinstance(count, int) or count < 1:
        raise ValueError(
          f'ItemTable: expected categorical[{name!r}] to be how many codes '
          f'there are, found {count!r}; give that number.'
        )
    super().__post_init__()

  def setup(self) -> None:
    """Makes the tables."""
    if self.rows != 'vectors':
      self.embed = embedding_table.EmbeddingTable(
        self.size,
        self.features,
        nn.initializers.normal(self.features**-0.5),
        name='embed',
      )
    if self.rows != 'ids':
      self.frozen = self.variable('constants', 'vectors', self._load)
      self.project = content_adapter.ContentAdapter(
        self.features, self.widths, name='project'
      )
    if self.attributes:
      self.told = self.variable('constants', 'attributes', self._attributes)
    self.codes = {
      name: nn.Embed(
        count,
        self.features,
        embedding_init=nn.initializers.normal(0.02 * self.features**0.5),
        name=f'embed_{name}',
      )
      for name, count in sorted((self.categorical or {}).items())
    }

  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> Array:
    """Steps ``[B, T, D]`` of the ids in the batch."""
    del train  # Uniform with the trunks.
    ids = layers.read_array(self, 'items', batch)
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
      raise ValueError(
        f'ItemTable: expected ids {self.items!r} [B, T] of items, found '
        f'{ids.dtype} of shape {ids.shape}; name the history.'
      )
    x = self.read(ids) * self.features**0.5
    for name, table in self.codes.items():
      if name not in batch:
        raise ValueError(
          f'ItemTable: expected codes {name!r} in the batch, found '
          f'{", ".join(sorted(batch))}; name a feature, or leave it out.'
        )
      x = x + table(batch[name])
    x = jnp.where(ids[..., None] > 0, x, 0)
    return x.astype(self.dtype or x.dtype)

  def table(self) -> Array:
    """All rows, ``[V + 1, D]``; only where a batch may read all of them."""
    x: Any = 0.0
    if self.rows != 'vectors':
      x = self.embed.table
      if isinstance(x, embedding_table.Rows):
        raise ValueError(
          'ItemTable: expected heads that read some rows, found one that reads '
          'all; leave MultiTaskModel.tables out.'
        )
    if self.rows != 'ids':
      x = x + self.project(self.frozen.value)
    return x

  def read(self, ids: Array) -> Array:
    """Rows of some ids, ``[..., D]``; an id without a row is NaN.

    So that a run stops instead of learning from another row.
    """
    # A number below zero, which stands for no row there, is none here.
    ids = jnp.where(ids < 0, self.size, ids)
    x: Any = 0.0
    if self.rows != 'vectors':
      x = self.embed(ids)
    if self.rows != 'ids':
      vectors = embedding_table.read_rows(self.frozen.value, ids)
      x = x + self.project(vectors)
    return x

  def mean_rating(self, ids: Array | int) -> Array:
    """Mean training rating of items, ``[...]``; of id 0 that of all."""
    return self._known(ids)[..., 0]

  def genres(self, ids: Array | int) -> Array:
    """Genres of items, ``[..., G]``; of id 0 their shares in training."""
    return self._known(ids)[..., 1:]

  def _known(self, ids):
    if not self.attributes:
      raise ValueError(
        'ItemTable: expected attributes for a head that reads them, found '
        "none; set model.inputs.attributes to 'log'."
      )
    # Of an id without a row NaN, as of `read`.
    values = jnp.asarray(self.told.value)
    return values.at[jnp.maximum(ids, 0)].get(mode='fill', fill_value=jnp.nan)

  def _attributes(self):
    values = _read_file(self.attributes, 'attributes')
    if values.ndim != 2 or len(values) != self.size:
      raise ValueError(
        f'ItemTable: expected attributes of {self.size - 1} items and a first '
        f'row of their means, found shape {values.shape} in '
        f'{self.attributes!r}; give a row per item, in the order of their '
        'numbers.'
      )
    return jnp.asarray(values, jnp.float32)

  def _load(self):
    vectors = _read_file(self.vectors, 'vectors')
    if vectors.ndim != 2 or len(vectors) != self.size - 1:
      raise ValueError(
        f'ItemTable: expected vectors of {self.size - 1} items, [V, M], found '
        f'shape {vectors.shape} in {self.vectors!r}; give a row per item, in '
        'the order of their numbers.'
      )
    return jnp.pad(jnp.asarray(vectors, jnp.float32), ((1, 0), (0, 0)))


def _read_file(path, what):
  try:
    return np.load(path, allow_pickle=False)
  except (OSError, ValueError) as error:
    raise ValueError(
      f'ItemTable: expected {what} in a file .npy, found that {path!r} cannot '
      f'be read ({error}); save them with numpy.save.'
    ) from error


class NextItemHead(nn.Module):
  r"""Scores of all items of the catalogue as the next one, by the shared table.

  The score of item i at position t is :math:`s_{ti} = h_t^\top E_i / \tau`, and
  the loss of a target y the softmax over all items,
  :math:`\log \sum_i e^{s_{ti}} - s_{ty}`. With ``negatives`` the sum is
  estimated without bias from N items that are drawn from q, some for each row
  of a batch, and shared by all its positions,

  .. math:: e^{s_{ty}} + \sum_{j \ne y} \frac{e^{s_{tj}}}{N q_j} ;

  a draw that is the target itself counts for nothing. If N would be all items
  or more, each is taken once. A step then reads the rows of histories, targets
  and draws only, see docs/large_tables.md.

  Its outputs are numbers about the target, and no score per item: see
  `tasks.metrics.item_ranks`. Catalogues are read in chunks. When it is not
  trained, it ranks: items in ``seen`` are left out, and a target among them is
  a miss.

  Attributes:
    size: rows of the table, with that of padding.
    targets: name in the batch of the next item ``[B, T]``, -1 = none.
    seen: name in the batch of items ``[B, S]``, padded with 0, that are not
      ranked; '' ranks all.
    negatives: items drawn for each row of a batch; 0 sums over all of them.
    sampling: q: 'uniform', or 'popularity', which items have as targets of the
      training split (and 1 more each).
    counts: of items as targets of training, ``[size]``, for 'popularity' and
      for ``untrained``.
    untrained: whether items that are no target of training are in the sum and
      among the draws. Without them training never reads the row of an item
      that a protocol leaves out; it is ranked in any case.
    lags: weights of the next events as targets of a position in training: with
      ``(1, 1/2)`` the event after next is a target too, with half the weight,
      as far as the window has it. Where what comes next is known by its
      neighbourhood more than by its order, each event teaches more. Ranks and
      validation losses are of the next event alone.
    temperature: :math:`\tau`.
    normalize: whether h and the rows have length 1, for a low temperature.
    positions: where it ranks: 'last' (in evaluation each row has one target
      then, at its last step), or 'all'.
    top: how many of the best items are put out.
    chunk: items scored at a time.
    dtype: dtype of the scores.

  References:
    Kang and McAuley, ICDM 2018. Bengio and Senecal, Adaptive importance
    sampling to accelerate training of a neural probabilistic language model,
    IEEE TNN 2008 (the correction). Pancha et al., PinnerFormer: sequence
    modeling for user representation at Pinterest, KDD 2022 (later events as
    targets, there drawn from a future window).
  """

  size: int
  targets: str = 'next_item'
  seen: str = ''
  negatives: int = 0
  sampling: str = 'popularity'
  counts: tuple[int, ...] | None = None
  untrained: bool = True
  lags: tuple[float, ...] = (1.0,)
  temperature: float = 1.0
  normalize: bool = False
  positions: str = 'last'
  top: int = 10
  chunk: int = softmax.CHUNK
  dtype: Any = None

  reads_table = True

  def __post_init__(self):
    layers.check_positive(self, 'size', 'top', 'chunk')
    layers.check_option(self, 'sampling', item_scores.SAMPLING)
    layers.check_option(self, 'positions', POSITIONS)
    if not self.temperature > 0 or self.negatives < 0:
      raise ValueError(
        'NextItemHead: expected temperature > 0 and negatives >= 0, found '
        f'{self.temperature} and {self.negatives}; set them so.'
      )
    if not self.lags or min(self.lags) < 0 or self.lags[0] <= 0:
      raise ValueError(
        'NextItemHead: expected weights of the next events, none below 0 and '
        f'the first above 0, found lags = {self.lags}; set them so.'
      )
    super().__post_init__()

  @nn.compact
  def __call__(
    self, features: Array, batch: Mapping[str, Any], *, train: bool
  ) -> Array:
    """The loss of each position ``[B, T, 1]``, or ``[B, T, 3 + 2 top]``."""
    items = batch[TABLE]
    h = self._states(features, items)
    targets = layers.read_array(self, 'targets', batch)
    if targets.shape != h.shape[:-1]:
      raise ValueError(
        f'NextItemHead: expected features of every step, [B, T, D] with '
        f'{self.targets!r} {targets.shape}, found {h.shape}; set pool of the '
        "trunk to 'none'."
      )
    if self.is_initializing():
      return jnp.zeros((*targets.shape, 1), h.dtype)
    if train:
      return self._train(h, items, targets, batch)
    table = self._rows(items.table())
    seen = layers.read_array(self, 'seen', batch) if self.seen else None
    if self.positions == 'all':
      return self._rank(h, table, targets, seen)
    own = self._rank(h[:, -1:], table, targets[:, -1:], seen)
    # Nothing is known of earlier positions: a label there must not go unseen.
    earlier = jnp.where(targets[:, :-1, None] >= 0, jnp.nan, 0)
    earlier = jnp.broadcast_to(
      earlier.astype(own.dtype), (*earlier.shape[:2], own.shape[-1])
    )
    return jnp.concatenate([earlier, own], axis=1)

  def _states(self, features, items):
    """States that rows are multiplied with, ``[B, T, D]``."""
    h = features.astype(self.dtype or features.dtype)
    if h.shape[-1] != items.features:
      h = nn.Dense(items.features, dtype=h.dtype, name='project')(h)
    if self.normalize:
      h = item_scores.unit(h)
    return h / self.temperature

  def _rows(self, rows):
    rows = rows.astype(self.dtype or rows.dtype)
    return item_scores.unit(rows) if self.normalize else rows

  def reads(self, batch: Mapping[str, Any]) -> Array | None:
    """Numbers of the rows that a training step reads; None for all."""
    drawn = self.draw(batch)
    if drawn is None:
      return None
    targets = batch[self.targets]
    return jnp.concatenate([jnp.maximum(targets, 0).ravel(), drawn])

  def draw(self, batch: Mapping[str, Any]) -> Array | None:
    """The items ``[N]`` that are drawn for a batch; None if all are taken.

    They depend on the step's number and on each row of the batch by itself.
    """
    targets = jnp.asarray(batch[self.targets])
    if not self.negatives or targets.shape[0] * self.negatives >= self.size - 1:
      return None
    steps = batch.get(STEP, jnp.zeros(len(targets), jnp.int32))
    # Two rows of a batch are hardly ever alike.
    mixed = (targets + 1).astype(jnp.uint32)
    places = jnp.arange(targets.shape[1], dtype=jnp.uint32)
    mixed = (mixed * (2 * places + 1) * jnp.uint32(2654435761)).sum(1)
    key = jax.random.key(0)
    keys = jax.vmap(
      lambda s, m: jax.random.fold_in(jax.random.fold_in(key, s), m)
    )(steps, mixed)
    return item_scores.draw(keys, self.negatives, self._weights()).ravel()

  def _weights(self):
    w = item_scores.draw_weights(self.sampling, self.size, self.counts)
    return np.where(self._candidates(), w, 0)

  def _candidates(self):
    """Items that training scores, ``[size]`` bool."""
    items = np.arange(self.size) > 0
    if self.untrained:
      return items
    if self.counts is None:
      raise ValueError(
        'NextItemHead: expected counts of items as targets with '
        'untrained=False, found none; train on data that have them.'
      )
    return items & (np.asarray(self.counts) > 0)

  def _train(self, h, items, targets, batch):
    loss = self._softmax(h, items, targets, batch)
    if len(self.lags) == 1:
      return loss
    # The softmax of a mixture of targets: only their scores are another.
    rows = self._rows(items.read(jnp.maximum(targets, 0)))  # [B, T, D]
    mixed, total = jnp.zeros_like(rows), jnp.zeros(targets.shape, rows.dtype)
    for lag, weight in enumerate(self.lags):
      size = max(targets.shape[1] - lag, 0)
      w = jnp.where(targets[:, lag:] >= 0, weight, 0.0).astype(rows.dtype)
      mixed = mixed.at[:, :size].add(w[..., None] * rows[:, lag:])
      total = total.at[:, :size].add(w)
    mixed = mixed / jnp.where(total > 0, total, 1)[..., None]
    moved = jnp.sum(h * (rows - mixed), axis=-1, keepdims=True)
    return loss + jnp.where(targets[..., None] >= 0, moved, 0)

  def _softmax(self, h, items, targets, batch):
    flat = h.reshape(-1, h.shape[-1])
    own, mask = jnp.maximum(targets, 0).ravel(), (targets >= 0).ravel()
    if not self.negatives:
      loss = softmax.full_softmax_loss(
        flat,
        self._rows(items.table()),
        own,
        mask,
        candidates=jnp.asarray(self._candidates()),
        chunk=self.chunk,
      )
      return loss.reshape(*targets.shape, 1)
    negatives = self.draw(batch)
    if negatives is None:
      negatives = jnp.asarray(np.flatnonzero(self._candidates()))
      log_q = jnp.full(len(negatives), -np.log(len(negatives)))
    else:
      w = self._weights()
      log_q = jnp.log(jnp.asarray(w / w.sum(), jnp.float32))[negatives]
    loss = softmax.sampled_softmax_loss(
      flat,
      self._rows(items.read(own)),
      self._rows(items.read(negatives)),
      target=own,
      negatives=negatives,
      log_q_negatives=log_q,
      mask=mask,
    )
    return loss.reshape(*targets.shape, 1)

  def _rank(self, h, table, targets, seen):
    batch, steps, width = h.shape
    if seen is not None:
      seen = jnp.repeat(seen, steps, axis=0)
    ranked = item_scores.rank(
      h.reshape(-1, width),
      table,
      jnp.maximum(targets, 0).reshape(-1),
      seen,
      self.top,
      self.chunk,
    )
    return ranked.reshape(batch, steps, -1)


def tables_read(
  table: ItemTable, heads: Mapping[str, nn.Module], streams: Mapping[str, str]
) -> dict[str, Callable[[Any], Array]] | None:
  """The table of which a batch reads some rows, and which it reads.

  Args:
    table: the input encoder of all streams.
    heads: of the tasks.
    streams: task -> its stream.

  Returns:
    See `MultiTaskModel.tables`; None where a head reads all rows, or the table
    is read otherwise.
  """
  reading: list[Any] = [h for h in heads.values() if hasattr(h, 'reads')]
  negatives = [getattr(head, 'negatives', None) for head in reading]
  if table.rows == 'vectors' or 0 in negatives or not any(negatives):
    return None

  def rows_of(batch):
    numbers = []
    for task, head in heads.items():
      arrays = batch.get(streams.get(task, 'main'))
      if arrays is None:
        continue
      numbers.append(arrays[table.items].ravel())
      if hasattr(head, 'reads'):
        some: Any = head
        read = some.reads(arrays)
        if read is None:  # it draws as many as there are
          read = jnp.arange(table.size)
        numbers.append(read)
    return jnp.concatenate(numbers)

  return {f'inputs/{LEARNED}': rows_of}
