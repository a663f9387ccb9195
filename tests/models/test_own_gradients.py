"""Functions with gradients of their own against autodiff of plain forms."""

import functools

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
import sweeps

from mtl_jax import models
from mtl_jax.models import convolution, pooling, text_windows
from mtl_jax.training import jaxprs


def plain_conv_pool(x, kernel, bias):
  """Convolution, pooling and ReLU, one after the other."""
  layout = ('NHWC', 'HWIO', 'NHWC')
  z = lax.conv_general_dilated(
    x, kernel, (1, 1), 'VALID', dimension_numbers=layout
  )
  return nn.relu(convolution.max_pool(z) + bias)


def plain_window_max(x, kernel, mask):
  """A convolution, and the first of its maxima by argmax."""
  layout = ('NHC', 'HIO', 'NHC')
  z = lax.conv_general_dilated(
    x, kernel, (1,), 'SAME', dimension_numbers=layout
  )
  known = jnp.where(mask[..., None], z, -jnp.inf)
  largest = jnp.take_along_axis(z, known.argmax(1)[:, None], 1)[:, 0]
  return jnp.where(mask.any(1)[:, None], largest, 0)


def images(batch, height, width, channels, window, filters):
  def make(draw):
    kernel = draw(window, window, channels, filters)
    return draw(batch, height, width, channels), kernel, draw(filters)

  return convolution.conv_pool, plain_conv_pool, make


def texts(batch, length, channels, width, filters):
  def make(draw):
    ends = np.arange(batch) * length // max(batch - 1, 1)
    ends = ends if batch > 1 else np.full(1, length)
    mask = np.arange(length) < ends[:, None]
    x = draw(batch, length, channels) * mask[..., None]
    return x, draw(width, channels, filters), jnp.asarray(mask)

  return text_windows.window_max, plain_window_max, make


CASES = {
  'odd image': images(3, 9, 8, 2, 3, 4),
  'one image': images(1, 12, 13, 1, 5, 3),
  'parts of a batch': images(128, 7, 7, 2, 5, 2),
  'texts': texts(4, 7, 2, 3, 4),
  'one text': texts(1, 2, 3, 5, 2),
  'even window': texts(4, 6, 2, 2, 3),
}


@pytest.fixture(
  params=sweeps.some(CASES, 'odd image', 'texts', 'parts of a batch')
)
def case(request):
  return CASES[request.param]


def normal(dtype, seed=0):
  rng = np.random.default_rng(seed)
  return lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)


def whole(*shape):
  """Small whole numbers: many maxima are tied, and all sums are exact."""
  return jnp.asarray(
    np.random.default_rng(len(shape)).integers(-1, 2, shape), jnp.float32
  )


def inputs(make, draw):
  """Those with a gradient, and the rest."""
  args = make(draw)
  number = sum(jnp.issubdtype(a.dtype, jnp.inexact) for a in args)
  return args[:number], args[number:]


def value_and_gradient(function, args, rest, weights=None):
  def loss(*args):
    y = function(*args, *rest)
    w = (
      1 + jnp.arange(y.size).reshape(y.shape) % 5
      if weights is None
      else weights
    )
    return (w.astype(y.dtype) * y).sum().astype(jnp.float32), y

  gradient, y = jax.grad(loss, tuple(range(len(args))), has_aux=True)(*args)
  return y, gradient


@functools.partial(jax.jit, static_argnums=(0, 1))
def both_of(own, plain, args, rest):
  """Of both forms, in one program."""
  return tuple(value_and_gradient(f, args, rest) for f in (own, plain))


def close(a, b, tolerance):
  def same(x, y):
    x, y = (np.asarray(v, np.float64) for v in (x, y))
    np.testing.assert_allclose(
      x, y, atol=tolerance * np.abs(y).max(initial=1), rtol=0
    )

  jax.tree.map(same, a, b)


@pytest.mark.parametrize(
  'dtype, tolerance',
  [('float64', 1e-13), ('float32', 1e-5), ('bfloat16', 0.02)],
)
def test_values_and_gradients(case, dtype, tolerance):
  own, plain, make = case
  with jax.enable_x64(True):
    args, rest = inputs(make, normal(dtype))
    # In the same dtype: whose rounding decides between maxima.
    actual, expected = both_of(own, plain, args, rest)
    assert {x.dtype.name for x in jax.tree.leaves(actual)} == {dtype}
    close(actual, expected, tolerance)


def test_ties_go_where_the_plain_form_sends_them(case):
  own, plain, make = case
  args, rest = inputs(make, whole)
  actual, expected = both_of(own, plain, args, rest)
  jax.tree.map(np.testing.assert_array_equal, actual, expected)
  assert np.abs(actual[1][1]).max() > 0


def test_many_cotangents_and_members_with_kernels_of_their_own(case):
  own, plain, make = case
  with jax.enable_x64(True):
    args, rest = inputs(make, normal('float64'))
    shape = jax.eval_shape(own, *args, *rest).shape
    cotangents = normal('float64', 1)(3, *shape)

    def pulled(function):
      return jax.vmap(jax.vjp(lambda *a: function(*a, *rest), *args)[1])

    close(
      *jax.jit(lambda x: (pulled(own)(x), pulled(plain)(x)))(cotangents), 1e-13
    )

    members = [inputs(make, normal('float64', seed))[0] for seed in (2, 3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
    for x, axis in ((stacked[0], 0), (members[0][0], None)):
      axes = (axis, *[0] * (len(args) - 1))
      both = jax.jit(jax.vmap(functools.partial(member, *case), axes))
      close(*both(x, *stacked[1:]), 1e-13)


def member(own, plain, make, *args):
  return both_of(own, plain, args, inputs(make, normal('float64'))[1])


@pytest.mark.slow
@pytest.mark.parametrize('name', ['parts of a batch', 'texts'])
@pytest.mark.parametrize('checked', [True, False])
def test_over_devices(name, checked):
  own, plain, make = CASES[name]
  args, rest = inputs(make, normal('float32'))
  mesh = jax.make_mesh(
    (4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )

  @jax.jit
  @functools.partial(
    jax.shard_map,
    mesh=mesh,
    in_specs=(P('data'), P(), P('data')),
    out_specs=(P('data'), P('data'), P()),
    check_vma=checked,
  )
  def run(x, weights, rest):
    if checked:
      weights = jax.tree.map(
        lambda w: lax.pcast(w, 'data', to='varying'), weights
      )
    y, (dx, *gradients) = value_and_gradient(
      own, (x, *weights), rest, jnp.float32(2)
    )
    return y, dx, lax.psum(gradients, 'data')

  actual = run(args[0], list(args[1:]), rest)
  y, (dx, *gradients) = value_and_gradient(plain, args, rest, jnp.float32(2))
  close(actual, (y, dx, gradients), 1e-5)


def images_of_digits(batch, rng):
  images = rng.normal(size=(batch, 28, 28, 1)).astype(np.float32)
  nets = (models.LeNet(conv=conv) for conv in ('product', 'xla'))
  return *nets, {'image': images}


def reviews(batch, rng):
  ids = rng.integers(1, 50, (batch, 12)).astype(np.int32)
  ids[:, 6:] *= rng.integers(0, 2, (batch, 1), np.int32)
  sizes = {'vocab_size': 50, 'embed_dim': 8, 'filters': 6, 'widths': (2, 3)}
  nets = (models.CNNText(**sizes, fast=fast) for fast in (True, False))
  return *nets, {'tokens': ids}


@pytest.mark.parametrize(
  'make, batch',
  [
    pytest.param(images_of_digits, 32, marks=pytest.mark.slow),
    pytest.param(images_of_digits, 128, marks=pytest.mark.slow),
    (reviews, 8),
  ],
)
def test_a_trunk_by_jit_over_four_devices_is_one_device(make, batch):
  """A program that is partitioned may compute a maximum's input twice."""
  rng = np.random.default_rng(0)
  own, plain, arrays = make(batch, rng)
  weights = rng.normal(size=(2, batch, 1)).astype(np.float32)  # two tasks
  params = own.init(jax.random.key(0), arrays, train=False)

  def gradient(net, number):
    devices = jax.sharding.Mesh(np.array(jax.devices()[:number]), ('data',))
    split = jax.sharding.NamedSharding(devices, P('data'))
    tasks = jax.sharding.NamedSharding(devices, P(None, 'data'))
    whole = jax.sharding.NamedSharding(devices, P())

    def loss(params, arrays, weights):
      return (net.apply(params, arrays, train=False) * weights).sum()

    compiled = jax.jit(
      jax.vmap(jax.grad(loss), (None, None, 0)),
      in_shardings=(whole, split, tasks),
      out_shardings=whole,
    )
    return jax.device_get(compiled(params, arrays, weights))

  expected = gradient(plain, 1)
  for number in (1, 4):
    close(gradient(own, number), expected, 1e-5)


def test_parameters_that_all_devices_share():
  """Without a cast of the caller's: the gradient is summed over devices."""
  own, plain, make = CASES['parts of a batch']
  args, _ = inputs(make, normal('float32'))
  mesh = jax.make_mesh(
    (4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  run = jax.shard_map(
    lambda x, *w: value_and_gradient(own, (x, *w), (), jnp.float32(2))[1],
    mesh=mesh,
    in_specs=(P('data'), P(), P()),
    out_specs=(P('data'), P(), P()),
  )
  expected = value_and_gradient(plain, args, (), jnp.float32(2))[1]
  close(jax.jit(run)(*args), expected, 1e-5)


def test_nan_is_seen(case):
  own, plain, make = case
  args, rest = inputs(make, normal('float32'))
  x = args[0].at[-1, 2 if args[0].shape[1] > 2 else 0].set(jnp.nan)
  args = (x, *args[1:])
  (y, gradient), (expected, theirs) = both_of(own, plain, args, rest)
  assert np.isnan(y).any()
  np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
  # Other examples go on.
  close((y[:-1], gradient[0][:-1]), (expected[:-1], theirs[0][:-1]), 1e-5)


def test_gradients_of_gradients(case):
  own, plain, make = case
  with jax.enable_x64(True):
    args, rest = inputs(make, normal('float64'))
    along = inputs(make, normal('float64', 5))[0]

    def twice(function, args):
      def loss(*args):
        return jnp.sin(function(*args, *rest)).sum()

      gradient = jax.grad(loss, tuple(range(len(args))))

      def norm(*args):
        return sum(jnp.square(g).sum() for g in gradient(*args))

      return (
        jax.grad(norm, tuple(range(len(args))))(*args),
        jax.jvp(gradient, args, along)[1],
      )

    both = jax.jit(lambda args: (twice(own, args), twice(plain, args)))(args)
    close(*both, 1e-11)


@pytest.mark.parametrize('masked', [True, False])
def test_the_first_maximum_over_time_gets_the_gradient(masked):
  x = whole(5, 6, 4)
  mask = np.arange(6) < np.array([6, 4, 3, 1, 0])[:, None]
  mask = mask if masked else np.ones((5, 6), bool)
  known = np.where(mask[..., None], x, -np.inf)
  expected = np.zeros(x.shape)
  for b, f in np.ndindex(5, 4):
    if mask[b].any():
      expected[b, known[b, :, f].argmax(), f] = 1
  given = jnp.asarray(mask) if masked else None
  gradient = jax.grad(lambda x: pooling.masked_max(x, given).sum())(x)
  np.testing.assert_array_equal(gradient, expected)
  together = jax.vmap(pooling.masked_max, in_axes=(0, None))(x[None], given)
  np.testing.assert_array_equal(together[0], pooling.masked_max(x, given))


def test_the_first_maximum_on_other_back_ends_is_the_same(monkeypatch):
  x = whole(5, 6, 4).at[0, 2, 1].set(jnp.nan)
  with monkeypatch.context() as patch:
    patch.setattr(jax, 'default_backend', lambda: 'gpu')
    expected = pooling.first_of_largest(x)
  actual = pooling.first_of_largest(x)
  jax.tree.map(np.testing.assert_array_equal, actual, expected)
  assert actual[1][0, 1] == 2 and actual[1].dtype == jnp.int32


def test_windows_of_even_size_are_refused():
  with pytest.raises(ValueError, match=r'odd size, found \(2, 2\); use patch_'):
    convolution.conv_pool(jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1)), 0.0)


def lenets(window, batch, **options):
  rng = np.random.default_rng(0)
  arrays = {'image': jnp.asarray(rng.normal(size=(batch, 20, 18)), 'float32')}
  trunk = models.LeNet(channels=(3, 4), window=window, features=5, **options)
  return trunk, arrays


@pytest.mark.parametrize('window', [3, 4])
@pytest.mark.parametrize('batch', sweeps.some([2, 64], 64))
def test_lenet_is_the_same_by_products(window, batch):
  def run(conv):
    trunk, arrays = lenets(window, batch, conv=conv)
    start = jax.jit(trunk.init, static_argnames='train')
    variables = start(jax.random.key(0), arrays, train=False)
    both = jax.value_and_grad(
      lambda v: jnp.sin(trunk.apply(v, arrays, train=False)).sum()
    )
    return variables, jax.jit(both)(variables)

  start, expected = run('xla')
  for conv in ('product', 'auto'):
    variables, actual = run(conv)
    jax.tree.map(np.testing.assert_array_equal, variables, start)
    close(actual, expected, 2e-5)


def test_convolutions_are_known_in_a_program():
  def of(batch, window=3, **options):
    trunk, arrays = lenets(window, batch, **options)
    return jaxprs.convolves(
      lambda: trunk.init_with_output(jax.random.key(0), arrays, train=False)
    )

  assert of(2, conv='xla') and of(2, conv='product') and of(64, conv='auto')
  # By patches alone, which are no slower in loops.
  assert not of(2, window=4, conv='product')
  trunk = models.MLP(widths=(2,), inputs='image')
  assert not jaxprs.convolves(
    lambda x: trunk.init(jax.random.key(0), {'image': x}, train=False),
    jnp.ones((2, 3)),
  )
