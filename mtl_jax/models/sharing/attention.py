"""Masks by which tasks attend to levels of one trunk (MTAN)."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.models import convolution, normalization
from mtl_jax.models.sharing import copies, options, trunk_levels
from mtl_jax.models.sharing.architecture import Sharing

Array = jax.Array


class Mask(nn.Module):
  """``sigmoid(norm(V relu(norm(W x))))`` at each place.

  Attributes:
    size: channels of the mask.
    norm: 'none', 'batch' or 'layer'.
    axis_name: the mapped axis of batch statistics.
  """

  size: int
  norm: str = 'batch'
  axis_name: str | None = None

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> Array:
    """``[B, ..., size]`` of the inputs ``[B, ..., D]``."""
    x = batch['inputs']
    for activation in (nn.relu, nn.sigmoid):
      bias = self.norm != 'batch'  # Which takes away any bias.
      x = nn.Dense(self.size, use_bias=bias, dtype=x.dtype)(x)
      x = normalization.normalize(
        self.norm,
        x,
        batch,
        train=train,
        axis_name=self.axis_name,
        dtype=x.dtype,
      )
      x = activation(x)
    return x


class Passing(nn.Module):
  """From one level to the shape of the next.

  A convolution of 3 x 3, or a dense layer where there is no space, ReLU, and
  means over parts of the image.

  Attributes:
    shape: of an example on the next level, ``(..., channels)``.
    conv: 'xla', or 'product', which is `convolution.patch_conv`.
  """

  shape: Sequence[int]
  conv: str = 'xla'

  @nn.compact
  def __call__(self, batch: Mapping[str, Array], *, train: bool) -> Array:
    """``[N, *shape]`` of the inputs ``[N, ..., C]``."""
    del train  # Uniform with the trunks.
    x = batch['inputs']
    *space, channels = self.shape
    if x.ndim > 2:
      conv = convolution.choose(self.conv)
      window = (3,) * (x.ndim - 2)
      x = nn.Conv(
        channels, window, conv_general_dilated=conv, dtype=x.dtype, name='f'
      )(x)
    else:
      x = nn.Dense(channels, dtype=x.dtype, name='f')(x)
    x = nn.relu(x)
    if not space:
      return x.mean(tuple(range(1, x.ndim - 1)))
    return mean_parts(x, space)


def mean_parts(x: Array, space: Sequence[int]) -> Array:
  """Means over parts of an image of equal size, or nearly so.

  Part i of m along an axis of n are the places from ``floor(i n / m)`` to
  ``ceil((i + 1) n / m)``.

  Args:
    x: ``[N, ..., C]``.
    space: numbers of parts, one per axis.

  Returns:
    ``[N, *space, C]``.

  Example:
    >>> mean_parts(jnp.arange(4.0).reshape(1, 4, 1), (2,)).ravel()
    Array([0.5, 2.5], dtype=float32)
  """
  for axis, parts in enumerate(space, 1):
    size = x.shape[axis]
    weights = np.zeros((size, parts))
    for i in range(parts):
      first, end = i * size // parts, math.ceil((i + 1) * size / parts)
      weights[first:end, i] = 1 / (end - first)
    x = jnp.moveaxis(
      jnp.moveaxis(x, axis, -1) @ jnp.asarray(weights, x.dtype), -1, axis
    )
  return x


def mtan(
  *,
  norm: str = 'batch',
) -> Sharing:
  r"""Multi-task attention network: tasks mask the levels of one trunk.

  .. math:: \hat a_k^j = a_k^j \odot p^j, \quad
    a_k^j = \sigma(h_k^j(g_k^j([p^j; f^j(\hat a_k^{j-1})]))), \quad
    z_k = \hat a_k^L

  for the trunk's arrays after each of its layers or stages,
  :math:`p^1, \dots, p^{L-1}`, and its features :math:`p^L`. g and h are dense
  layers at each place (convolutions of 1 x 1) with a norm, ReLU between them; f
  is `Passing`. On the first level a mask reads :math:`p^1` alone.

  The trunk is for images or vectors: 'lenet', 'resnet', 'mlp', or one of your
  own with a `layers.Level` after its layers.

  The trunk and f are shared; masks are their task's own.

  Args:
    norm: in the masks: 'batch', 'layer' or 'none'.

  Raises:
    ValueError: for an unknown norm; from `build_model`, for a trunk of
      sequences.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'left': models.LinearHead(10), 'right': models.LinearHead(10)}
    >>> model = models.build_model(mtan(), models.LeNet(), heads)
    >>> model.shared('trunk/Conv_0/kernel'), model.shared('passing_0/f/kernel')
    (True, True)
    >>> model.shared('masks_0/left/Dense_0/kernel')
    False

  References:
    Liu et al., End-to-end multi-task learning with attention, CVPR 2019. There
    a mask reads the output of the first half of a block and is put on that of
    all of it, f has batch statistics and takes maxima, and the last level is
    an image.
  """
  options.check_option('mtan', 'norm', norm, ('none', 'batch', 'layer'))

  def check(trunk, tasks):
    del tasks
    if hasattr(trunk, 'mask'):
      raise ValueError(
        'mtan: expected a trunk of images or vectors, such as lenet, resnet or '
        f'mlp, found {type(trunk).__name__}; use one of these, or another '
        'architecture.'
      )

  def features(scope, batch, tasks):
    if not tasks:
      return {}
    attended: Any = None  # [K, B, ..., C]
    for j, p in enumerate(_levels(scope, batch)):
      read: dict[str, Array] = {}
      if j:
        passed = scope.call(
          (f'passing_{j - 1}',),
          Passing(p.shape[1:], getattr(scope.trunk, 'conv', 'xla')),
          {'inputs': attended.reshape(-1, *attended.shape[2:])},
        ).reshape(len(tasks), *p.shape)
        both = [jnp.broadcast_to(p, passed.shape), passed]
        read = {'inputs': jnp.concatenate(both, -1)}
      attended = p * copies.run_copies(
        scope,
        {(f'masks_{j}', task): None for task in tasks},
        Mask(p.shape[-1], norm),
        {**batch, 'inputs': p},
        own=read,
      )
    return {task: attended[k] for k, task in enumerate(tasks)}

  def shared(path, trunk, tasks):
    del trunk, tasks
    return not path.startswith('masks_')

  return Sharing(features, shared, check=check)


def _levels(scope, batch):
  """Arrays ``[B, ..., C]`` after the trunk's layers, and its features."""
  levels: list[Array] = []

  def keep(number, x):
    del number
    levels.append(x)
    return x

  with trunk_levels.at_levels(keep):
    last = scope.call(('trunk',), scope.trunk, batch)
  return [*levels, last]
