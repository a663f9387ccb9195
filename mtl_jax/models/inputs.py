"""Input encoder: features of several kinds as one vector."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import items, layers


class InputEncoder(nn.Module):
  """Concatenates embedded, multi-hot and numeric features.

  ``x = [table_1[id_1], ..., m_1 table'_1, ..., n_1, ...]``: a row of a table
  for each categorical feature, the sum of the rows that are on for each
  multi-hot one, and numbers as they are.

  Attributes:
    categorical: name in the batch of ids ``[B]`` or ``[B, T]`` in
      ``{0, ..., cardinality - 1}``, to ``(cardinality, dim)``. An id outside
      becomes NaN, so that a run stops instead of learning from it.
    multihot: name of 0/1 (or counts) ``[B, N]`` or ``[B, T, N]``, to the
      embedding's dim.
    numeric: names of numbers: one, or a vector, an example or step.
    time: whether the features have a time axis.
    dtype: dtype of the result; parameters are float32 in any case.

  Example:
    >>> encoder = InputEncoder(categorical={'film': (9, 3)}, numeric=['gap'])
    >>> batch = {'film': jnp.array([4, 8]), 'gap': jnp.array([0.1, 2.0])}
    >>> x, _ = encoder.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (2, 4)
  """

  categorical: Mapping[str, Sequence[int]] | None = None
  multihot: Mapping[str, int] | None = None
  numeric: Sequence[str] = ()
  time: bool = False
  dtype: Any = None

  def __post_init__(self):
    if not (self.categorical or self.multihot or self.numeric):
      raise ValueError(
        'InputEncoder: expected at least one feature, found none; name them '
        'in categorical, multihot or numeric.'
      )
    for name, sizes in (self.categorical or {}).items():
      if len(sizes) != 2 or min(sizes) < 1:
        raise ValueError(
          f'InputEncoder: expected categorical[{name!r}] to be (cardinality, '
          f'dim), both at least 1, found {sizes!r}; give these two numbers.'
        )
    for name, dim in (self.multihot or {}).items():
      if dim < 1:
        raise ValueError(
          f'InputEncoder: expected multihot[{name!r}] to be a dim of at least '
          f'1, found {dim!r}; to take it as it is, list it in numeric.'
        )
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> jax.Array:
    """Encodes the batch as ``[B, D]``, or ``[B, T, D]`` if ``time``."""
    del train  # Uniform with the trunks.
    parts = []
    for name, (cardinality, dim) in sorted((self.categorical or {}).items()):
      ids = self._read(batch, name, vector=False)
      ids = jnp.where(ids < 0, cardinality, ids)  # Not counted from the end.
      embed = nn.Embed(cardinality, dim, dtype=self.dtype, name=f'embed_{name}')
      parts.append(embed(ids))
    for name, dim in sorted((self.multihot or {}).items()):
      on = self._read(batch, name, vector=True)
      dtype = layers.compute_dtype(self.dtype, on)
      dense = nn.Dense(dim, use_bias=False, dtype=dtype, name=f'embed_{name}')
      parts.append(dense(on.astype(dtype)))
    for name in self.numeric:
      x = self._read(batch, name, vector=None)
      parts.append(x.astype(layers.compute_dtype(self.dtype, x)))
    return jnp.concatenate(parts, axis=-1)

  def _read(self, batch, name, *, vector):
    """The array, with a last axis unless ``vector`` is False."""
    if name not in batch:
      found = ', '.join(sorted(batch)) or 'nothing'
      raise ValueError(
        f'InputEncoder: expected an array {name!r} in the batch, found '
        f'{found}; name features of the batch.'
      )
    x = jnp.asarray(batch[name])
    scalar = 2 if self.time else 1
    allowed = {False: (scalar,), True: (scalar + 1,)}.get(
      vector, (scalar, scalar + 1)
    )
    if x.ndim not in allowed:
      axes = ' or '.join(str(ndim) for ndim in allowed)
      raise ValueError(
        f'InputEncoder: expected {name!r} to have {axes} axes with '
        f'time={self.time}, found shape {x.shape}; list it under the kind '
        'that it is, and set time if it has a time axis.'
      )
    return x[..., None] if vector is None and x.ndim == scalar else x


INPUTS = {'encoder': InputEncoder, 'items': items.ItemTable}
