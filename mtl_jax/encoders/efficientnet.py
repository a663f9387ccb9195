"""EfficientNet-Lite0, with the weights that were trained on ImageNet."""

from collections.abc import Mapping
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
EPSILON = 1e-3  # of batch normalization
STEM, HEAD = 32, 1280


class Stage(NamedTuple):
  """Blocks of one kind: the first has the stride and the new width."""

  repeats: int
  kernel: int
  stride: int
  expand: int
  width: int


LITE0 = (
  Stage(1, 3, 1, 1, 16),
  Stage(2, 3, 2, 6, 24),
  Stage(2, 5, 2, 6, 40),
  Stage(3, 3, 2, 6, 80),
  Stage(3, 5, 1, 6, 112),
  Stage(4, 5, 2, 6, 192),
  Stage(1, 3, 1, 6, 320),
)


def relu6(x: Array) -> Array:
  """min(max(x, 0), 6)."""
  return jnp.clip(x, 0, 6)


class Depthwise(nn.Module):
  """A convolution per channel, as a sum of shifted pictures.

  It is one fused loop over the channels; on a CPU the grouped convolution of
  XLA is much slower. Padding is 'SAME' of TensorFlow: with a stride, the odd
  pixel is added behind.
  """

  kernel: int
  stride: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """``[B, H, W, C] -> [B, ceil(H / s), ceil(W / s), C]``."""
    k, s = self.kernel, self.stride
    kernel = self.param(
      'kernel', nn.initializers.lecun_normal(), (k, k, x.shape[-1])
    )
    sizes = [-(-n // s) for n in x.shape[1:3]]
    pads = []
    for n, size in zip(x.shape[1:3], sizes, strict=True):
      total = max((size - 1) * s + k - n, 0)
      pads.append((total // 2, total - total // 2))
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    h, w = ((size - 1) * s + 1 for size in sizes)
    shifted = (
      x[:, i : i + h : s, j : j + w : s] * kernel[i, j]
      for i in range(k)
      for j in range(k)
    )
    return functools.reduce(jnp.add, shifted)


class InvertedBottleneck(nn.Module):
  """Expand, convolve by channel, project; with a sum where shapes agree."""

  stage: Stage
  stride: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """``[B, H, W, C] -> [B, H', W', width]``."""
    y, stage = x, self.stage
    if stage.expand != 1:
      y = nn.Dense(x.shape[-1] * stage.expand, use_bias=False, name='expand')(y)
      y = relu6(_norm('norm_expand')(y))
    y = Depthwise(stage.kernel, self.stride, name='depthwise')(y)
    y = relu6(_norm('norm_depthwise')(y))
    y = nn.Dense(stage.width, use_bias=False, name='project')(y)
    y = _norm('norm_project')(y)
    return x + y if self.stride == 1 and x.shape == y.shape else y


class EfficientNetLite(nn.Module):
  """A vector and class scores per picture; statistics are those of training.

  Attributes:
    stages: its blocks.
    classes: outputs; 1,000 of ImageNet.

  References:
    Tan and Le, EfficientNet, ICML 2019. The Lite variants (Google, 2020) leave
    out squeeze-and-excitation and clip at 6.
  """

  stages: tuple[Stage, ...] = LITE0
  classes: int = 1000

  @nn.compact
  def __call__(self, pictures: Array) -> tuple[Array, Array]:
    """Features ``[B, 1280]`` and logits ``[B, classes]``.

    Args:
      pictures: ``[B, H, W, 3]``, of `pictures.normalize`.
    """
    x = nn.Conv(
      STEM, (3, 3), strides=2, padding='SAME', use_bias=False, name='stem'
    )(pictures)
    x = relu6(_norm('norm_stem')(x))
    number = 0
    for stage in self.stages:
      for i in range(stage.repeats):
        x = InvertedBottleneck(
          stage, stage.stride if i == 0 else 1, name=f'block_{number}'
        )(x)
        number += 1
    x = nn.Dense(HEAD, use_bias=False, name='head')(x)
    features = relu6(_norm('norm_head')(x)).mean((1, 2))
    return features, nn.Dense(self.classes, name='classes')(features)


def _norm(name):
  return nn.BatchNorm(use_running_average=True, epsilon=EPSILON, name=name)


def read_variables(
  arrays: Mapping[str, np.ndarray], stages: tuple[Stage, ...] = LITE0
) -> dict[str, Any]:
  """Variables of `EfficientNetLite` from the arrays of a file.

  Args:
    arrays: by name, as the package efficientnet_lite_pytorch has them.
    stages: of the model.

  Raises:
    ValueError: if an array is missing.
  """
  params: dict[str, Any] = {}
  stats: dict[str, Any] = {}

  def get(name):
    if name not in arrays:
      raise ValueError(
        f'Expected an array {name!r} among the weights, found '
        f'{", ".join(sorted(arrays)[:4])} and others; use weights of '
        'EfficientNet-Lite0.'
      )
    return np.asarray(arrays[name], np.float32)

  def norm(path, name):
    _put(params, path, scale=get(f'{name}.weight'), bias=get(f'{name}.bias'))
    mean, var = get(f'{name}.running_mean'), get(f'{name}.running_var')
    _put(stats, path, mean=mean, var=var)

  def dense(path, name):
    _put(params, path, kernel=get(f'{name}.weight')[:, :, 0, 0].T)

  stem = get('_conv_stem.weight').transpose(2, 3, 1, 0)
  _put(params, ('stem',), kernel=stem)
  norm(('norm_stem',), '_bn0')
  number = 0
  for stage in stages:
    for _ in range(stage.repeats):
      here, there = f'block_{number}', f'_blocks.{number}'
      if stage.expand != 1:
        dense((here, 'expand'), f'{there}._expand_conv')
        norm((here, 'norm_expand'), f'{there}._bn0')
      kernel = get(f'{there}._depthwise_conv.weight')[:, 0].transpose(1, 2, 0)
      _put(params, (here, 'depthwise'), kernel=kernel)
      norm((here, 'norm_depthwise'), f'{there}._bn1')
      dense((here, 'project'), f'{there}._project_conv')
      norm((here, 'norm_project'), f'{there}._bn2')
      number += 1
  dense(('head',), '_conv_head')
  norm(('norm_head',), '_bn1')
  classes = {'kernel': get('_fc.weight').T, 'bias': get('_fc.bias')}
  _put(params, ('classes',), **classes)
  return {'params': params, 'batch_stats': stats}


def _put(tree, path, **leaves):
  for name in path:
    tree = tree.setdefault(name, {})
  tree.update(leaves)
