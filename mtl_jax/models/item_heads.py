"""Heads that are told of an item, or of the items of a history."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import histories, layers
from mtl_jax.models.items import TABLE

Array = jax.Array


class ItemHead(nn.Module):
  r"""Prediction for an item that is given: an MLP of state and item.

  .. math:: f(h_t, y_t) = \mathrm{MLP}(h_t \odot \sqrt{D} E_{y_t})

  With ``ratings`` it also knows the mean rating of the item in training, and by
  how much the user's ratings so far were above those of their items:

  .. math:: k_t = [\bar r_{y_t} - \bar r, \;
    m_\gamma(r_s - \bar r_{i_s})_{s \le t}]

  with running means m of a few decays, see `histories.running_means`. The MLP
  reads k too, and W k is added to what it says.

  Attributes:
    size: outputs; a task's ``size``.
    items: name in the batch of the items ``[B, T]``, -1 = none.
    mix: 'product' as above, or 'all': ``[h, E, h * E]`` behind each other.
    widths: units of each hidden layer; none for a linear map.
    activation: a name in `layers.ACTIVATIONS`.
    dropout: share of the MLP's inputs and hidden units dropped in training,
      [0, 1).
    ratings: name in the batch of codes ``[B, T]`` of the user's own ratings, 0
      = none; '' leaves k out. It needs ``attributes`` of the table.
    history: name in the batch of the items that these are ratings of.
    levels: ratings that the codes from 1 stand for.
    decays: of the running means.
    strength: imagined ratings of the mean user.
    dtype: dtype of the computation; parameters are float32 in any case.
  """

  size: int
  items: str = 'next_item'
  mix: str = 'product'
  widths: tuple[int, ...] = (64,)
  activation: str = 'relu'
  dropout: float = 0.0
  ratings: str = ''
  history: str = 'items'
  levels: tuple[float, ...] = ()
  decays: tuple[float, ...] = (1.0, 0.9, 0.5)
  strength: float = 3.0
  dtype: Any = None

  reads_table = True

  def reads(self, batch: Mapping[str, Any]) -> Array:
    """Numbers of the rows that a training step reads."""
    return jnp.maximum(batch[self.items], 0).ravel()

  def __post_init__(self):
    layers.check_positive(self, 'size', 'widths')
    layers.check_option(self, 'mix', ('product', 'all'))
    layers.check_option(self, 'activation', layers.ACTIVATIONS)
    layers.check_rate(self)
    _check_decays(self)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, features: Array, batch: Mapping[str, Any], *, train: bool
  ) -> Array:
    """Outputs ``[..., size]`` of features ``[..., F]``."""
    items = batch[TABLE]
    ids = jnp.maximum(layers.read_array(self, 'items', batch), 0)
    dtype = layers.compute_dtype(self.dtype, features)
    rows = (items.read(ids) * items.features**0.5).astype(dtype)
    h = features.astype(dtype)
    if h.shape[-1] != rows.shape[-1]:
      h = nn.Dense(rows.shape[-1], dtype=dtype, name='project')(h)
    x = h * rows
    if self.mix == 'all':
      x = jnp.concatenate([h, rows, x], axis=-1)
    drop = nn.Dropout(self.dropout, deterministic=not train)
    known = None
    if self.ratings:
      known = self._known(items, ids, batch).astype(dtype)
      x = jnp.concatenate([drop(x), known], axis=-1)
    for width in self.widths:
      x = nn.Dense(width, dtype=dtype)(x)
      x = drop(layers.ACTIVATIONS[self.activation](x))
    y = nn.Dense(self.size, dtype=dtype)(x)
    if known is None:
      return y
    return y + nn.Dense(self.size, use_bias=False, dtype=dtype, name='known')(
      known
    )

  def _known(self, items, ids, batch):
    """k, ``[B, T, 1 + S]``."""
    codes = layers.read_array(self, 'ratings', batch)
    levels = jnp.asarray((0.0, *self.levels), jnp.float32)
    past = levels[codes] - items.mean_rating(
      layers.read_array(self, 'history', batch)
    )
    recent = histories.running_means(
      past[..., None], codes > 0, self.decays, strength=self.strength
    )[..., 0]
    own = items.mean_rating(ids) - items.mean_rating(0)
    return jnp.concatenate([own[..., None], recent], axis=-1)


class ProfileHead(nn.Module):
  r"""A linear map of the state and of the genres of the user's past.

  .. math:: f_t = W \Big[h_t, \;
    \frac{m_\gamma(g_{i_s})_{s \le t} - p}{\sqrt{p (1 - p)}} \Big] + b

  with the genres g of the items so far, their running means m of a few decays
  (see `histories.running_means`), and their shares p in training.

  Attributes:
    size: outputs; a task's ``size``.
    items: name in the batch of the items ``[B, T]`` of the past.
    decays: of the running means.
    strength: imagined events of the mean user.
    dropout: share of the state dropped in training, [0, 1).
    dtype: dtype of the computation; parameters are float32 in any case.
  """

  size: int
  items: str = 'items'
  decays: tuple[float, ...] = (1.0, 0.95, 0.8, 0.5)
  strength: float = 1.0
  dropout: float = 0.0
  dtype: Any = None

  reads_table = True

  def __post_init__(self):
    layers.check_positive(self, 'size')
    layers.check_rate(self)
    _check_decays(self)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, features: Array, batch: Mapping[str, Any], *, train: bool
  ) -> Array:
    """Outputs ``[B, T, size]`` of features ``[B, T, F]``."""
    table = batch[TABLE]
    ids = layers.read_array(self, 'items', batch)
    shares = table.genres(0)
    means = histories.running_means(
      table.genres(ids),
      ids > 0,
      self.decays,
      strength=self.strength,
      prior=shares,
    )
    # A genre that training lacks has share 0.
    past = (means - shares) / jnp.sqrt(shares * (1 - shares) + 1e-3)
    x = nn.Dropout(self.dropout, deterministic=not train)(features)
    x = jnp.concatenate([x, past.reshape(*ids.shape, -1).astype(x.dtype)], -1)
    return nn.Dense(self.size, dtype=self.dtype)(x)


def _check_decays(head):
  if not head.decays or not 0 < min(head.decays) <= max(head.decays) <= 1:
    raise ValueError(
      f'{type(head).__name__}: expected decays in (0, 1], found '
      f'{head.decays}; set them so.'
    )
  if head.strength < 0:
    raise ValueError(
      f'{type(head).__name__}: expected strength >= 0, found '
      f'{head.strength}; set it so.'
    )
