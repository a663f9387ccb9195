from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models import convolution


@pytest.mark.parametrize(
  'shape, kernel, strides, padding',
  [
    ((2, 9, 3), (3, 3, 4), (1,), 'SAME'),
    ((2, 9, 3), (4, 3, 4), (1,), 'SAME'),
    ((2, 9, 3), (4, 3, 2), (2,), 'VALID'),
    ((2, 8, 7, 3), (5, 3, 3, 4), (1, 1), 'SAME'),
    ((2, 9, 8, 3), (3, 3, 3, 2), (2, 2), 'SAME'),
    ((2, 9, 8, 1), (2, 3, 1, 2), (3, 2), 'VALID'),
    ((2, 6, 6, 2), (1, 1, 2, 3), (2, 2), 'SAME'),
    ((2, 6, 6, 2), (3, 3, 2, 3), (1, 1), ((2, 0), (1, 3))),
  ],
)
def test_patch_conv_is_a_convolution(shape, kernel, strides, padding):
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    x, w = (
      jnp.asarray(rng.normal(size=shape)),
      jnp.asarray(rng.normal(size=kernel)),
    )
    layout = ('NHC', 'HIO', 'NHC') if x.ndim == 3 else ('NHWC', 'HWIO', 'NHWC')
    theirs = lax.conv_general_dilated(
      x, w, strides, padding, dimension_numbers=layout
    )
    ours = convolution.patch_conv(x, w, strides, padding)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize('size, window', [(8, 2), (7, 2), (9, 3)])
def test_max_pool_is_flax_max_pool_with_its_gradient(size, window):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, size, size + 1, 3)), jnp.float32)

  def theirs(x):
    return nn.max_pool(x, (window, window), (window, window))

  def gradient(pool):
    return jax.jit(jax.grad(lambda x: jnp.sin(pool(x)).sum()))(x)

  def ours(x):
    return convolution.max_pool(x, window)

  np.testing.assert_array_equal(ours(x), theirs(x))
  np.testing.assert_allclose(gradient(ours), gradient(theirs), atol=1e-6)


@pytest.mark.parametrize('name', ['lenet', 'resnet'])
def test_products_change_nothing_but_the_time(name):
  rng = np.random.default_rng(0)
  batch = {'image': jnp.asarray(rng.normal(size=(2, 16, 16)), jnp.float32)}
  trunk = models.TRUNKS[name]()

  @jax.jit
  def both(batch):
    key = jax.random.key(0)
    features, variables = trunk.init_with_output(key, batch, train=False)
    patched = trunk.clone(conv='product').apply(variables, batch, train=False)
    return features, patched

  features, patched = both(batch)
  np.testing.assert_allclose(patched, features, atol=1e-5)
  assert np.abs(features).max() > 1e-2


@pytest.mark.parametrize('name', ['lenet', 'resnet'])
def test_whole_number_images_are_taken_as_0_to_255(name):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, size=(2, 16, 16, 1), dtype=np.uint8)
  trunk = models.TRUNKS[name]()
  batch = {'image': jnp.asarray(pixels)}
  scaled = {'image': jnp.asarray(pixels / 255, jnp.float32)}

  @jax.jit
  def both(batch, scaled):
    key = jax.random.key(0)
    features, variables = trunk.init_with_output(key, batch, train=False)
    return trunk.apply(variables, scaled, train=False), features

  np.testing.assert_allclose(*both(batch, scaled), atol=1e-5)


def test_text_features_are_maxima_over_windows():
  """Against windows written out in NumPy."""
  rng = np.random.default_rng(0)
  ids = np.array([[3, 1, 4, 1, 5], [2, 6, 0, 0, 0], [0, 0, 0, 0, 0]])
  trunk = models.CNNText(vocab_size=7, embed_dim=4, filters=6, widths=(3,))
  batch = {'tokens': jnp.asarray(ids)}
  variables = jax.jit(trunk.init, static_argnames='train')(
    jax.random.key(0), batch, train=False
  )
  params = jax.tree.map(np.asarray, variables['params'])
  params['Conv_0']['bias'] = rng.normal(size=6).astype(np.float32)
  features = trunk.apply({'params': params}, batch, train=False)
  expected = np.zeros((3, 6))
  table, kernel = params['Embed_0']['embedding'], params['Conv_0']['kernel']
  for b, length in enumerate([5, 2, 0]):
    embedded = np.zeros((length + 2, 4))
    embedded[1:-1] = table[ids[b, :length]]
    scores = [
      np.einsum('wd,wdf->f', embedded[t : t + 3], kernel) for t in range(length)
    ]
    if scores:
      best = np.max(scores, axis=0) + params['Conv_0']['bias']
      expected[b] = np.maximum(best, 0)
  # A text without tokens has features too: zeros.
  np.testing.assert_allclose(features, expected, atol=1e-5)
  assert (expected[1] > 0).any()
