"""Small residual network for images."""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

from flax import linen as nn
import jax

from mtl_jax.models import convolution, layers, normalization

NORMS = ('batch', 'group', 'none')


class ResNet(nn.Module):
  """Stages of residual blocks, halving the image and widening it.

  Each block computes ``relu(skip(x) + norm(conv(relu(norm(conv(x))))))`` with
  3 x 3 filters; features are the mean over the last image. The last scale (or
  kernel) of a block starts at zero, so the network starts shallow.

  Attributes:
    widths: channels of each stage; all but the first halve the image.
    blocks: residual blocks of each stage, one number for all or one each.
    norm: 'batch', 'group' or 'none'.
    dropout: share of features dropped in training, [0, 1).
    conv: 'xla', or 'product', which is `convolution.patch_conv`: on CPU faster
      in populations and loops (gradient accumulation), slower otherwise.
    inputs: name in the batch of the images, ``[B, H, W, C]`` or ``[B, H, W]``;
      whole numbers are taken as 0 to 255.
    dtype: dtype of the computation; parameters are float32 in any case.
    axis_name: the mapped axis over which batch statistics are taken, in the
      manual modes (shard_map, pmap).

  References:
    He et al., Deep residual learning for image recognition, CVPR 2016. Goyal
    et al., Accurate, large minibatch SGD, 2017 (scale of zero).
  """

  widths: Sequence[int] = (16, 32, 64)
  blocks: int | Sequence[int] = 1
  norm: str = 'batch'
  dropout: float = 0.0
  conv: str = 'xla'
  inputs: str = 'image'
  dtype: Any = None
  axis_name: str | None = None

  def __post_init__(self):
    layers.check_option(self, 'norm', NORMS)
    layers.check_option(self, 'conv', convolution.CONVOLUTIONS)
    layers.check_positive(self, 'widths', 'blocks')
    layers.check_rate(self)
    if not isinstance(self.blocks, int) and len(self.blocks) != len(
      self.widths
    ):
      raise ValueError(
        f'ResNet: expected blocks for {len(self.widths)} stages, one per '
        f'width, found {self.blocks!r}; give one number, or one per stage.'
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> jax.Array:
    """Features ``[B, widths[-1]]`` of images ``[B, H, W, C]``."""
    norm = functools.partial(
      normalization.normalize,
      self.norm,
      batch=batch,
      train=train,
      axis_name=self.axis_name,
      dtype=self.dtype,
    )
    x = convolution.read_image(self, 'inputs', batch)
    x = nn.relu(norm(x=self._conv(x, self.widths[0], 3, 1)))
    counts = self.blocks
    if isinstance(counts, int):
      counts = (counts,) * len(self.widths)
    for stage, (width, count) in enumerate(
      zip(self.widths, counts, strict=True)
    ):
      for block in range(count):
        stride = 2 if stage and not block else 1
        x = self._block(x, width, stride, norm)
      x = layers.Level()(x)
    x = x.mean(axis=(1, 2))
    return nn.Dropout(self.dropout, deterministic=not train)(x)

  def _block(self, x, width, stride, norm):
    y = nn.relu(norm(x=self._conv(x, width, 3, stride)))
    y = self._conv(y, width, 3, 1, zero=self.norm == 'none')
    y = norm(x=y, zero_scale=True)
    if x.shape != y.shape:
      x = norm(x=self._conv(x, width, 1, stride))
    return nn.relu(x + y)

  def _conv(self, x, width, window, stride, *, zero=False):
    init = nn.initializers.zeros if zero else nn.initializers.he_normal()
    return nn.Conv(
      width,
      (window, window),
      (stride, stride),
      use_bias=self.norm == 'none',  # Otherwise the norm has one.
      conv_general_dilated=convolution.choose(self.conv),
      kernel_init=init,
      dtype=self.dtype,
    )(x)
