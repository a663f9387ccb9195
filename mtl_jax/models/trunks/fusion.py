"""Several descriptions of an item, of which some may be absent, as one."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import core, linen as nn
import jax
import jax.numpy as jnp

from mtl_jax import tasks as tasks_lib
from mtl_jax.models import layers, pooling

Array = jax.Array
FUSIONS = ('concat', 'gate', 'attention')


class Fusion(nn.Module):
  r"""Text, picture, motion and more, joined into features.

  Each modality m has a state :math:`z_m = \mathrm{act}(W_m x_m + b_m)` of width
  D. Of a sequence (frames ``[B, T, C]``) x is pooled by attention,

  .. math:: x = \sum_t a_t x_t, \quad
    a = \mathrm{softmax}_t(v^\top \tanh(V x_t)),

  and of tokens ``[B, T]`` it is the mean of their rows of a table. Then

  - 'concat': features ``[B, D]`` are a dense layer of all states side by side,
    with a learned vector in place of an absent one;
  - 'gate': features ``[B, M, D + 1]`` are the states themselves, for heads
    called 'gate', which weigh them, each task by itself; the last number is 1
    where a modality is there and 0 where it is not;
  - 'attention': states attend to each other (pre-norm transformer blocks), and
    features ``[B, D]`` are the mean of those that are there. Frames are states
    of their own.

  In training each modality is left out at random, but never all of an example.

  Attributes:
    inputs: names of modalities in the batch: vectors ``[B, C]``, sequences
      ``[B, T, C]`` or token ids ``[B, T]``.
    how: 'concat', 'gate' or 'attention'.
    features: width D.
    masks: modality -> name in the batch of its mask, ``[B, 1]`` or ``[B]``, or
      ``[B, T]`` of a sequence. By default ``text_mask`` of 'text' and
      ``frame_mask`` of 'frames'; if the batch has no such array, all is there,
      and of tokens ids above 0.
    modality_dropout: share of modalities left out in training, [0, 1).
    dropout: share of units dropped in training, [0, 1).
    activation: a name in `layers.ACTIVATIONS`.
    num_layers: blocks of 'attention'.
    num_heads: of 'attention'.
    cardinalities: of token ids by name; a run takes them from its data.
    dtype: dtype of the computation; parameters are float32 in any case.

  Example:
    >>> trunk = Fusion(inputs=('text', 'picture'), features=4)
    >>> batch = {
    ...   'text': jnp.ones((2, 3)),
    ...   'picture': jnp.ones((2, 5)),
    ...   'picture_mask': jnp.array([[1.0], [0.0]]),
    ... }
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (2, 4)

  References:
    Arevalo et al., Gated multimodal units, 2017. Ilse et al., Attention-based
    deep multiple instance learning, ICML 2018 (pooling; ours without the second
    gate). Neverova et al., ModDrop, TPAMI 2016. Vaswani et al., NeurIPS 2017.
  """

  inputs: Sequence[str] = ('text', 'picture')
  how: str = 'concat'
  features: int = 128
  masks: Mapping[str, str] | None = None
  modality_dropout: float = 0.0
  dropout: float = 0.0
  activation: str = 'relu'
  num_layers: int = 1
  num_heads: int = 4
  cardinalities: Mapping[str, int] | None = None
  dtype: Any = None

  def __post_init__(self):
    layers.check_option(self, 'how', FUSIONS)
    layers.check_option(self, 'activation', layers.ACTIVATIONS)
    layers.check_positive(self, 'features', 'num_layers', 'num_heads')
    layers.check_rate(self)
    layers.check_rate(self, 'modality_dropout')
    if not self.inputs or isinstance(self.inputs, str):
      raise ValueError(
        'Fusion: expected names of modalities, found '
        f'{self.inputs!r}; give a tuple of one or more.'
      )
    if self.how == 'attention' and self.features % self.num_heads:
      raise ValueError(
        'Fusion: expected features to be a multiple of num_heads, found '
        f'{self.features} and {self.num_heads}; set them so.'
      )
    # A module is hashed, as a static argument.
    for field in ('masks', 'cardinalities'):
      value = getattr(self, field)
      if value is not None:
        object.__setattr__(self, field, core.freeze(dict(value)))
    object.__setattr__(self, 'inputs', tuple(self.inputs))
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> Array:
    """Features ``[B, D]``, or ``[B, M, D + 1]`` for gates."""
    read = {name: self._read(batch, name) for name in self.inputs}
    there = jnp.stack([mask.any(-1) for _, mask in read.values()], -1)  # [B, M]
    kept = self._keep(there) if train else there
    states, masks = [], []
    for i, (name, (x, mask)) in enumerate(read.items()):
      mask = mask & kept[:, i : i + 1]
      if x.ndim == 3 and self.how != 'attention':
        x, mask = self._pool(name, x, mask), mask.any(-1, keepdims=True)
      x = x if x.ndim == 3 else x[:, None]  # [B, T, C]
      states.append(self._project(name, x, train))
      masks.append(mask)
    if self.how == 'attention':
      return self._attend(states, masks, train)
    z, mask = jnp.concatenate(states, 1), jnp.concatenate(masks, 1)
    if self.how == 'gate':
      z = jnp.where(mask[..., None], z, 0)
      return jnp.concatenate([z, mask[..., None].astype(z.dtype)], -1)
    absent = self.param(
      'absent', nn.initializers.normal(0.02), (len(read), self.features)
    )
    z = jnp.where(mask[..., None], z, absent.astype(z.dtype))
    z = z.reshape(z.shape[0], -1)
    return self._hidden(nn.Dense(self.features, dtype=self.dtype)(z), train)

  def _read(self, batch, name):
    """A modality ``[B, C]`` or ``[B, T, C]``, and its mask ``[B, 1 or T]``."""
    if name not in batch:
      raise ValueError(
        f'Fusion: expected an array {name!r} in the batch, found '
        f'{", ".join(sorted(batch)) or "nothing"}; set inputs to names '
        'that the data have.'
      )
    x = jnp.asarray(batch[name])
    tokens = x.ndim == 2 and jnp.issubdtype(x.dtype, jnp.integer)
    if x.ndim not in (2, 3):
      raise ValueError(
        f'Fusion: expected {name!r} to be [B, C], [B, T, C] or token ids '
        f'[B, T], found shape {x.shape}; make a vector of it.'
      )
    key = (self.masks or {}).get(name, tasks_lib.mask_key(name))
    if key in batch:
      mask = jnp.asarray(batch[key]) > 0
      mask = mask[:, None] if mask.ndim == 1 else mask
    elif name in (self.masks or {}):
      raise ValueError(
        f'Fusion: expected a mask {key!r} in the batch, found none; name one, '
        'or leave it out.'
      )
    else:
      mask = x > 0 if tokens else jnp.ones(x.shape[: x.ndim - 1], bool)
      mask = mask[:, None] if mask.ndim == 1 else mask
    if tokens:
      x = pooling.masked_mean(self._embed(name, x), mask)
      return x, mask.any(-1, keepdims=True)
    # What is absent may be anything, even NaN.
    x = jnp.where(mask if x.ndim == 2 else mask[..., None], x, 0)
    return x.astype(layers.compute_dtype(self.dtype, x)), mask

  def _embed(self, name, ids):
    size = (self.cardinalities or {}).get(name)
    if size is None:
      raise ValueError(
        f'Fusion: expected the number of tokens of {name!r} in cardinalities, '
        f'found {dict(self.cardinalities or {})}; add it.'
      )
    return nn.Embed(
      size, self.features, dtype=self.dtype, name=f'embed_{name}'
    )(ids)

  def _keep(self, there):
    """The modalities of each example that are not left out, ``[B, M]``."""
    if not self.modality_dropout:
      return there
    key = self.make_rng('dropout')
    kept = there & jax.random.bernoulli(
      key, 1 - self.modality_dropout, there.shape
    )
    return jnp.where(kept.any(-1, keepdims=True), kept, there)

  def _pool(self, name, x, mask):
    """Attention over time, ``[B, T, C] -> [B, C]``."""
    h = jnp.tanh(
      nn.Dense(self.features, dtype=self.dtype, name=f'look_{name}')(x)
    )
    score = nn.Dense(1, use_bias=False, dtype=self.dtype, name=f'weigh_{name}')(
      h
    )
    score = jnp.where(mask, score[..., 0], jnp.finfo(score.dtype).min)
    return jnp.einsum('bt,btc->bc', nn.softmax(score), x)

  def _project(self, name, x, train):
    dense = nn.Dense(self.features, dtype=self.dtype, name=f'state_{name}')
    return self._hidden(dense(x), train)

  def _hidden(self, x, train):
    x = layers.ACTIVATIONS[self.activation](x)
    return nn.Dropout(self.dropout, deterministic=not train)(x)

  def _attend(self, states, masks, train):
    z = jnp.concatenate(
      [
        x
        + self.param(
          f'kind_{name}', nn.initializers.normal(0.02), (self.features,)
        ).astype(x.dtype)
        for name, x in zip(self.inputs, states, strict=True)
      ],
      1,
    )
    mask = jnp.concatenate(masks, 1)  # [B, S]
    pairs = mask[:, None, None, :]
    for i in range(self.num_layers):
      y = nn.LayerNorm(dtype=self.dtype, name=f'norm_{i}')(z)
      attend = nn.MultiHeadDotProductAttention(
        self.num_heads, dtype=self.dtype, name=f'attend_{i}'
      )
      attended: Any = attend(y, mask=pairs)
      z = z + attended
      y = nn.LayerNorm(dtype=self.dtype, name=f'norm_up_{i}')(z)
      y = self._hidden(
        nn.Dense(2 * self.features, dtype=self.dtype, name=f'up_{i}')(y), train
      )
      z = z + nn.Dense(self.features, dtype=self.dtype, name=f'down_{i}')(y)
    return pooling.masked_mean(z, mask)
