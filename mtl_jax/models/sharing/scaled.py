"""Trunks whose inputs are scaled, number by number, by a gate."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers, pooling
from mtl_jax.models.sharing import gates

Array = jax.Array


class Scale(nn.Module):
  r"""Factors in (0, 2): :math:`2 \sigma(W_2 a(W_1 x + b_1) + b_2)`.

  Attributes:
    size: factors D.
    hidden: units between.
    low_rank: no activation and no biases.
  """

  size: int
  hidden: int
  low_rank: bool = False

  @nn.compact
  def __call__(self, batch: Mapping[str, Array], *, train: bool) -> Array:
    """Factors ``[B, ..., D]`` of the inputs ``[B, ..., N]``."""
    del train  # Uniform with the trunks.
    bias = not self.low_rank
    x = nn.Dense(self.hidden, use_bias=bias, name='down')(batch['inputs'])
    x = x if self.low_rank else nn.relu(x)
    return 2 * nn.sigmoid(nn.Dense(self.size, use_bias=bias, name='up')(x))


class ScaledInputs(nn.Module):
  r"""The trunk of inputs that are scaled: :math:`f(g \odot e)`.

  e are the inputs of the trunk: numbers ``[B, D]``, numbers of steps ``[B, T,
  D]`` and rows of its embedding table for token ids, which have the same
  factors at all steps, unless the trunk is `gates.per_step`. Images are read as
  they are.

  Attributes:
    trunk: f.
    hidden: units of the gate.
    low_rank: whether g reads e, or its mean over real steps, as `Scale` of low
      rank; otherwise it reads `side` and, without a gradient, that.
    side: an array of the batch ``[B, S]``; '' for none.
    with_inputs: whether the mean of the scaled inputs is returned besides; of
      a trunk `gates.per_step` the means up to each step, ``[B T, D]``.
    per_step: whether it reads features of a trunk that is.
  """

  trunk: nn.Module
  hidden: int
  low_rank: bool = False
  side: str = ''
  with_inputs: bool = False
  per_step: bool = False

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> Any:
    """Features ``[B, ..., F]``; with_inputs adds ``[B, D]``."""
    trunk, means = self.trunk, []
    name = getattr(trunk, 'inputs', 'inputs')
    if not isinstance(name, str):
      raise ValueError(
        'Expected a trunk that reads one array, which is scaled, found '
        f'{type(trunk).__name__} of {name}; choose another architecture.'
      )
    x = jnp.asarray(batch[name])
    steps = hasattr(trunk, 'mask')
    numbers = isinstance(trunk, gates.Layers) or x.ndim == 2 + steps

    def scaled(e, mask=None):
      e_mean = e
      if e.ndim == 3 and (self.per_step or gates.per_step(trunk)):
        # Factors of each step know the steps up to it, as features do already.
        g_mean = e.astype(jnp.promote_types(e.dtype, jnp.float32))
        if not isinstance(trunk, gates.Layers):
          g_mean = pooling.running_mean(g_mean, mask)
        g = self._factors(g_mean, batch)
        means.append((g * g_mean).reshape(-1, e.shape[-1]))
        return e * g.astype(e.dtype)
      if e.ndim > 2:
        real = e if mask is None else jnp.where(mask[..., None], e, 0)
        real = real.reshape(e.shape[0], -1, e.shape[-1])
        e_mean = pooling.masked_mean(real, mask)
      e_mean = e_mean.astype(jnp.promote_types(e.dtype, jnp.float32))
      g = self._factors(e_mean, batch)
      means.append(g * e_mean)
      return e * g.astype(e.dtype).reshape(
        g.shape[0], *(1,) * (e.ndim - 2), g.shape[-1]
      )

    if steps and x.ndim == 2:
      features = self._with_table(scaled, batch, x, train)
    elif numbers:
      mask = batch[trunk.mask].astype(bool) if steps and trunk.mask else None
      x = x.astype(layers.compute_dtype(getattr(trunk, 'dtype', None), x))
      features = trunk({**batch, name: scaled(x, mask)}, train=train)
    else:
      features = trunk(batch, train=train)
      means.append(gates.as_rows(x))
    return (features, means[0]) if self.with_inputs else features

  def _with_table(self, scaled, batch, ids, train):
    """The trunk of token ids, whose rows of the table are scaled."""
    trunk: Any = self.trunk
    mask = ids != trunk.pad_id if trunk.mask is None else batch[trunk.mask]
    seen = []

    def intercept(call, args, kwargs, context):
      output = call(*args, **kwargs)
      # The first that is called: others are those of learned positions.
      table = isinstance(context.module, nn.Embed) and not seen
      if not table or context.method_name != '__call__':
        return output
      seen.append(True)
      return scaled(output, mask.astype(bool))

    with nn.intercept_methods(intercept):
      return trunk(batch, train=train)

  def _factors(self, x, batch):
    size = x.shape[-1]
    if not self.low_rank:
      side = [batch[self.side]] if self.side else []
      if x.ndim == 3:
        side = [
          jnp.broadcast_to(y[:, None], (*x.shape[:2], y.shape[-1]))
          for y in side
        ]
      x = jnp.concatenate([*side, jax.lax.stop_gradient(x)], -1)
    # With its parent named: a part of the trunk may be running.
    gate = Scale(size, self.hidden, self.low_rank, name='gate', parent=self)
    return gate({'inputs': x}, train=False)
