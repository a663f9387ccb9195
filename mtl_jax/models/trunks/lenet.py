"""LeNet-like network for small images."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
import jax

from mtl_jax.models import convolution, layers


class _ConvPool(nn.Module):
  """`convolution.conv_pool` with the parameters of `nn.Conv`."""

  features: int
  window: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.window, self.window, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.lecun_normal(), shape)
    bias = self.param('bias', nn.initializers.zeros, shape[-1:])
    arrays = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    return convolution.conv_pool(*arrays)


class LeNet(nn.Module):
  """Convolutions with max pooling, then one dense layer.

  With the defaults and 36 x 36 images, the network of MultiMNIST: 10 and 20
  filters of 5 x 5, pooling by 2, 50 units.

  Attributes:
    channels: filters of each convolution.
    window: edge of the filters.
    features: units of the dense layer.
    dropout: share of its units dropped in training, [0, 1).
    conv: 'xla', 'product', which is `convolution.conv_pool` (for windows of
      even size `convolution.patch_conv`) and has no forward mode, or 'auto':
      'product' on a CPU for windows of odd size and batches of at least 32.
    inputs: name in the batch of the images, ``[B, H, W, C]`` or ``[B, H, W]``;
      whole numbers are taken as 0 to 255.
    dtype: dtype of the computation; parameters are float32 in any case.

  References:
    LeCun et al., Gradient-based learning applied to document recognition,
    Proceedings of the IEEE 1998. Sener and Koltun, Multi-task learning as
    multi-objective optimization, NeurIPS 2018 (these sizes).
  """

  channels: Sequence[int] = (10, 20)
  window: int = 5
  features: int = 50
  dropout: float = 0.0
  conv: str = 'auto'
  inputs: str = 'image'
  dtype: Any = None

  def __post_init__(self):
    layers.check_positive(self, 'channels', 'window', 'features')
    layers.check_option(self, 'conv', ('auto', *convolution.CONVOLUTIONS))
    layers.check_rate(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> jax.Array:
    """Features ``[B, features]`` of images ``[B, H, W, C]``."""
    x = convolution.read_image(self, 'inputs', batch)
    for index, channels in enumerate(self.channels):
      smallest = min(x.shape[1:3])
      if smallest < self.window + 1:
        raise ValueError(
          f'LeNet: expected an image of at least {self.window + 1} pixels '
          f'before each convolution, found {x.shape[1]} x {x.shape[2]}; use '
          'fewer channels, a smaller window or larger images.'
        )
      x = layers.Level()(self._layer(x, channels, f'Conv_{index}'))
    x = x.reshape(x.shape[0], -1)
    x = nn.relu(nn.Dense(self.features, dtype=self.dtype)(x))
    return nn.Dropout(self.dropout, deterministic=not train)(x)

  def _layer(self, x, channels, name):
    """Convolution, pooling and ReLU, ``[B, h, w, channels]``."""
    odd = self.window % 2 == 1
    fits = odd and len(x) >= convolution.SMALLEST_BATCH
    conv = self.conv
    if conv == 'auto':
      on_cpu = jax.default_backend() == 'cpu'
      conv = 'product' if on_cpu and fits else 'xla'
    if conv == 'product' and odd:
      return _ConvPool(channels, self.window, self.dtype, name=name)(x)
    x = nn.Conv(
      channels,
      (self.window, self.window),
      padding='VALID',
      conv_general_dilated=convolution.choose(conv),
      dtype=self.dtype,
      name=name,
    )(x)
    # The order does not matter to the result; pooled first, relu is cheaper.
    return nn.relu(convolution.max_pool(x))
