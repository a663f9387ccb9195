"""Regressions on data drawn from the seed: small networks as problems."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mtl_jax.problems import analytic


def _dense(key, fan_in, *shape):
  """Weights and biases uniform within ``fan_in ** -0.5``."""
  bound = fan_in**-0.5
  first, second = jax.random.split(key)
  return {
    'kernel': jax.random.uniform(first, shape, minval=-bound, maxval=bound),
    'bias': jax.random.uniform(
      second, (*shape[:-2], shape[-1]), minval=-bound, maxval=bound
    ),
  }


def _network(key, sizes, count, outputs):
  """Parameters of a trunk of these layers, and of ``count`` affine heads."""
  depth = len(sizes) - 1
  keys = jax.random.split(key, depth + 1)
  params = {
    f'trunk{i}': _dense(keys[i], sizes[i], sizes[i], sizes[i + 1])
    for i in range(depth)
  }
  params['heads'] = _dense(keys[-1], sizes[-1], count, sizes[-1], outputs)
  return params


def _squared_errors(params, batch):
  """Mean squared error of each head, ``[K]``."""
  x, y = batch
  for i in range(len(params) - 1):
    layer = params[f'trunk{i}']
    x = jax.nn.relu(x @ layer['kernel'] + layer['bias'])
  heads = params['heads']
  out = jnp.einsum('bw,kwo->kbo', x, heads['kernel'])
  return jnp.mean((out + heads['bias'][:, None] - y) ** 2, (1, 2))


def scaled_regressions(
  *,
  scales: Sequence[float] = (1.0, 100.0),
  tasks: int = 0,
  spread: float = 100.0,
  inputs: int = 250,
  outputs: int = 100,
  width: int = 100,
  depth: int = 4,
  examples: Sequence[int] = (10_000, 1_000),
  batch_size: int = 100,
) -> analytic.Problem:
  r"""GradNorm's toy regressions: alike but for the scale of their outputs.

  .. math:: f_i(x) = \sigma_i \tanh((B + \epsilon_i) x)

  with entries of B from N(0, 10) and of :math:`\epsilon_i` from N(0, 3.5),
  taken as standard deviations, and x uniform in [0, 1]^250, as public code
  has it; the paper does not say. A trunk of ReLU layers, one affine head
  per task, mean squared errors. Everything is drawn from the seed.

  Args:
    scales: :math:`\sigma_i`.
    tasks: draw so many :math:`\sigma_i` from N(0, spread^2) instead, anew for
      each seed.
    spread: of these; the paper says 'a wide normal distribution'.
    inputs: features.
    outputs: of each task.
    width: of the trunk's layers.
    depth: their number.
    examples: to train on, and others, that recorded losses are of.
    batch_size: examples per step.

  References:
    Chen et al., GradNorm: gradient normalization for adaptive loss balancing
    in deep multitask networks, ICML 2018, section 4.
  """
  count = tasks or len(scales)

  def data(key):
    keys = jax.random.split(key, 4)
    matrices = 10 * jax.random.normal(
      keys[0], (outputs, inputs)
    ) + 3.5 * jax.random.normal(keys[1], (count, outputs, inputs))
    sigma = jnp.asarray(scales, float)
    if tasks:
      sigma = spread * jax.random.normal(keys[2], (count,))
    x = jax.random.uniform(keys[3], (sum(examples), inputs))
    return {'matrices': matrices, 'sigma': sigma, 'x': x}

  def labelled(data, x):
    y = jnp.tanh(jnp.einsum('koi,bi->kbo', data['matrices'], x))
    return x, y * data['sigma'][:, None, None]

  def batch(key, data):
    rows = jax.random.randint(key, (batch_size,), 0, examples[0])
    return labelled(data, data['x'][rows])

  def test(key, data):
    del key
    return labelled(data, data['x'][examples[0] :])

  sizes = [inputs] + [width] * depth
  return analytic.Problem(
    tasks=tuple(f'task {i + 1}' for i in range(count)),
    losses=_squared_errors,
    start=lambda key, index: _network(
      jax.random.fold_in(key, index), sizes, count, outputs
    ),
    starts=('draw',),
    data=data,
    batch=batch,
    test=test,
    random=True,
    shared=lambda path: path.startswith('trunk'),
  )


def linear_regressions(
  *, tasks: int = 100, inputs: int = 20, examples: int = 1000
) -> analytic.Problem:
  """FAMO's demonstration: a linear model of noise, one task per column.

  Inputs and targets are standard normal, so that there is little to learn:
  the best mean squared error is near ``1 - (inputs + 1) / examples``.

  Args:
    tasks: K.
    inputs: features.
    examples: all of them in every step.

  References:
    Liu et al., FAMO: fast adaptive multitask optimization, NeurIPS 2023; the
    definition is that of the authors' demonstration.
  """

  def data(key):
    first, second = jax.random.split(key)
    x = jax.random.normal(first, (examples, inputs))
    return x, jax.random.normal(second, (examples, tasks))

  def start(key, index):
    return _dense(jax.random.fold_in(key, index), inputs, inputs, tasks)

  def losses(params, batch):
    x, y = batch
    return jnp.mean((y - x @ params['kernel'] - params['bias']) ** 2, 0)

  return analytic.Problem(
    tasks=tuple(f'task {i + 1}' for i in range(tasks)),
    losses=losses,
    start=start,
    starts=('draw',),
    data=data,
    random=True,
  )
