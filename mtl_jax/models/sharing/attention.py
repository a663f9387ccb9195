"""Masks by which tasks attend to what one trunk finds, by level (MTAN)."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.models import base, convolution, layers, normalization
from mtl_jax.models.sharing import (
  assemble,
  copies,
  experts as experts_lib,
  run as run_lib,
)

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
  """What was attended to on a level, in the shape of the next.

  A convolution of 3 x 3, or a dense layer where there is no space, ReLU, and
  means over parts of the image.

  Attributes:
    shape: of an example on the next level, ``(..., channels)``.
    patches: convolve by `convolution.patch_conv`.
  """

  shape: Sequence[int]
  patches: bool = False

  @nn.compact
  def __call__(self, batch: Mapping[str, Array], *, train: bool) -> Array:
    """``[N, *shape]`` of the inputs ``[N, ..., C]``."""
    del train  # Uniform with the trunks.
    x = batch['inputs']
    *space, channels = self.shape
    if x.ndim > 2:
      conv = convolution.choose(self.patches)
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
    space: numbers of parts, one an axis.

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
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  norm: str = 'batch',
) -> base.MultiTaskModel:
  r"""Multi-task attention network: tasks mask what one trunk finds, by level.

  .. math:: \hat a_k^j = a_k^j \odot p^j, \quad
    a_k^j = \sigma(h_k^j(g_k^j([p^j; f^j(\hat a_k^{j-1})]))), \quad
    z_k = \hat a_k^L

  for what the trunk has found after each of its layers or stages,
  :math:`p^1, \dots, p^{L-1}`, and its features :math:`p^L`. g and h are dense
  layers at each place (convolutions of 1 x 1) with a norm, ReLU between them; f
  is `Passing`. On the first level a mask reads :math:`p^1` alone.

  The trunk and f are shared; masks are their task's own.

  Args:
    trunk: for images or vectors: 'lenet', 'resnet', 'mlp', or one of your own
      with a `layers.Level` after its layers.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; the others' masks are then not run.
    norm: in the masks: 'batch', 'layer' or 'none'.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an unknown norm, or a trunk of sequences.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'left': models.LinearHead(10), 'right': models.LinearHead(10)}
    >>> model = mtan(models.LeNet(), heads)
    >>> model.shared('trunk/Conv_0/kernel'), model.shared('passing_0/f/kernel')
    (True, True)
    >>> model.shared('masks_0/left/Dense_0/kernel')
    False

  References:
    Liu et al., End-to-end multi-task learning with attention, CVPR 2019. There
    a mask reads what the first half of a block found and is put on what all of
    it found, f has batch statistics and takes maxima, and the last level is an
    image.
  """
  experts_lib.check_option('mtan', 'norm', norm, experts_lib.NORMS)
  if hasattr(trunk, 'mask'):
    raise ValueError(
      'mtan: expected a trunk of images or vectors, such as lenet, resnet or '
      f'mlp, found {type(trunk).__name__}; use one of these, or another '
      'architecture.'
    )
  trunk = run_lib.place(trunk, axis_name)
  patches = getattr(trunk, 'patches', False)

  def features(run, batch, tasks):
    if not tasks:
      return {}
    found: list[Array] = []

    def see(number, x):
      del number
      found.append(x)
      return x

    with layers.at_levels(see):
      last = run.call(('trunk',), trunk, batch)
    attended: Any = None  # [K, B, ..., C]
    for j, p in enumerate([*found, last]):
      read: dict[str, Array] = {}
      if j:
        passed = run.call(
          (f'passing_{j - 1}',),
          Passing(p.shape[1:], patches),
          {'inputs': attended.reshape(-1, *attended.shape[2:])},
        ).reshape(len(tasks), *p.shape)
        both = [jnp.broadcast_to(p, passed.shape), passed]
        read = {'inputs': jnp.concatenate(both, -1)}
      attended = p * copies.run_copies(
        run,
        {(f'masks_{j}', task): None for task in tasks},
        Mask(p.shape[-1], norm, axis_name),
        {**batch, 'inputs': p},
        own=read,
      )
    return {task: attended[k] for k, task in enumerate(tasks)}

  return assemble.assemble(
    'mtan',
    features,
    heads,
    shared=lambda path: not path.startswith('masks_'),
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
  )
