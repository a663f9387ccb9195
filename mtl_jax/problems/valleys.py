"""Problems in the plane where one task's valley hides the other's slope."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.problems import analytic

FLOOR = 5e-6  # of the logarithms' arguments
CAGRAD_STARTS = ((-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0))
NASH_STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))


def _log(value):
  return jnp.log(jnp.maximum(jnp.abs(value), FLOOR))


def two_valleys(
  *,
  scales: Sequence[float] = (1.0, 1.0),
  starts: Sequence[Sequence[float]] = CAGRAD_STARTS,
  noise: float = 0.0,
) -> analytic.Problem:
  r"""The toy problem of CAGrad, and with scales that of Nash-MTL and FAMO.

  With :math:`c_1 = \max(\tanh(x_2 / 2), 0)`,
  :math:`c_2 = \max(\tanh(-x_2 / 2), 0)`,

  .. math::
    f_1 &= c_1 (\ln |\tfrac12 (-x_1 - 7) - \tanh(-x_2)| + 6)
      + c_2 (\tfrac{1}{10} ((-x_1 + 7)^2 + \tfrac{1}{10} (-x_2 - 8)^2) - 20) \\
    f_2 &= c_1 (\ln |\tfrac12 (-x_1 + 3) + \tanh(-x_2) + 2| + 6)
      + c_2 (\tfrac{1}{10} ((-x_1 - 7)^2 + \tfrac{1}{10} (-x_2 - 8)^2) - 20)

  where the arguments of the logarithms are at least 5e-6. For
  :math:`x_2 > 0` each task is a steep valley, for :math:`x_2 < 0` a bowl. The
  Pareto set is a curve from (-7, -8.435) over (0, -8.355) to (7, -8.435); the
  authors draw it as the line :math:`x_2 = -8.3552`. The mean loss is lowest
  at its middle, where both tasks have -15.09.

  Args:
    scales: factors of the two losses; the Pareto set does not depend on them.
    starts: points ``[S, 2]``.
    noise: standard deviation, see `Problem`.

  Raises:
    ValueError: if there are not two scales > 0.

  Example:
    >>> problem = two_valleys()
    >>> losses = problem.losses(jnp.array([0.0, -8.3552]), None)
    >>> [f'{x:.2f}' for x in losses]
    ['-15.09', '-15.09']

  References:
    Liu et al., Conflict-averse gradient descent for multi-task learning,
    NeurIPS 2021; Navon et al., Multi-task learning as a bargaining game, ICML
    2022 (scales 0.1 and 1); Xiao et al., Direction-oriented multi-objective
    learning, NeurIPS 2023 (noise 0.2).
  """
  if len(scales) != 2 or not all(s > 0 for s in scales):
    raise ValueError(
      f'Expected two scales > 0, found {tuple(scales)}; give one per task.'
    )

  def losses(x, batch=None):
    del batch
    x1, x2 = x[0], x[1]
    log1 = _log(0.5 * (-x1 - 7) - jnp.tanh(-x2)) + 6
    log2 = _log(0.5 * (-x1 + 3) + jnp.tanh(-x2) + 2) + 6
    bowl1 = ((-x1 + 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    bowl2 = ((-x1 - 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    c1 = jnp.maximum(jnp.tanh(x2 * 0.5), 0)
    c2 = jnp.maximum(jnp.tanh(-x2 * 0.5), 0)
    values = jnp.stack([log1 * c1 + bowl1 * c2, log2 * c1 + bowl2 * c2])
    return values * jnp.asarray(scales, values.dtype)

  start, names = analytic.at_points(starts)
  return analytic.Problem(
    tasks=('task 1', 'task 2'),
    losses=losses,
    start=start,
    starts=names,
    noise=noise,
    random=noise > 0,
    pareto_set=_bowl_pareto_set(),
    window=((-11.0, 11.0), (-11.0, 11.0)),
  )


def _bowl_pareto_set(points: int = 281) -> np.ndarray:
  """Points where the gradients of the two bowls are opposed, ``[points, 2]``.

  For each x1 the x2 at which their determinant vanishes, by bisection.
  """
  x1 = np.linspace(-7.0, 7.0, points)

  def determinant(x2):
    c = np.tanh(-x2 / 2)
    slope = -0.5 * (1 - c**2)
    height = 0.1 * (x2 + 8) ** 2
    along, across = [], []
    for centre in (7.0, -7.0):
      bowl = ((x1 - centre) ** 2 + height) / 10 - 20
      along.append(c * (x1 - centre) / 5)
      across.append(slope * bowl + c * 0.2 * (x2 + 8) / 10)
    return along[0] * across[1] - along[1] * across[0]

  low, high = np.full(points, -9.0), np.full(points, -8.0)
  sign = np.sign(determinant(low))
  for _ in range(60):
    middle = (low + high) / 2
    same = np.sign(determinant(middle)) == sign
    low, high = np.where(same, middle, low), np.where(same, high, middle)
  return np.stack([x1, (low + high) / 2], 1)


def crossing_valleys(
  *, starts: Sequence[Sequence[float]] = ((0.5, -3.0),)
) -> analytic.Problem:
  r"""The didactic problem of PCGrad: two deep curved valleys that meet.

  .. math::
    L_1 = 20 \ln |\tfrac12 \theta_1 + \tanh \theta_2|, \qquad
    L_2 = 25 \ln |\tfrac12 \theta_1 - \tanh \theta_2 + 2|

  where the arguments are at least 5e-6. The valleys meet where
  :math:`\tanh \theta_2 \to 1`, at :math:`\theta_1 = -2`; from
  :math:`\theta_2 = 3` on they are less than 0.01 apart. That part of the line
  is given as the set of optima.

  Args:
    starts: points ``[S, 2]``.

  References:
    Yu et al., Gradient surgery for multi-task learning, NeurIPS 2020,
    appendix D.
  """

  def losses(x, batch=None):
    del batch
    valley1 = 20 * _log(0.5 * x[0] + jnp.tanh(x[1]))
    valley2 = 25 * _log(0.5 * x[0] - jnp.tanh(x[1]) + 2)
    return jnp.stack([valley1, valley2])

  start, names = analytic.at_points(starts)
  heights = np.linspace(3.0, 12.0, 91)
  return analytic.Problem(
    tasks=('task 1', 'task 2'),
    losses=losses,
    start=start,
    starts=names,
    pareto_set=np.stack([np.full_like(heights, -2.0), heights], 1),
    window=((-6.0, 4.0), (-5.0, 9.0)),
    labels=('theta 1', 'theta 2'),
  )


def two_waves(*, width: int = 10) -> analytic.Problem:
  r"""The toy problem of RotoGrad: one point, and two tasks that want others.

  .. math:: L_\pm(z) = -\sum_j \frac{\sin 3 (z_j \pm 1.5)}{z_j \pm 1.5}
    + \|z \pm 1.5\|_1

  of the output z of a network 2 - ``width`` - 2 with ReLU at the origin. The
  authors' data are 256 copies of that point; one is enough. Each task alone
  has its minimum -6, the left one at (1.5, 1.5), the right one at
  (-1.5, -1.5); both want the same of a z that is rotated a half turn for one
  of them.

  Args:
    width: of the hidden layer.

  References:
    Javaloy and Valera, RotoGrad: gradient homogenization in multitask
    learning, ICLR 2022; the definition is that of the authors' example.
  """

  def start(key, index):
    keys = jax.random.split(jax.random.fold_in(key, index), 4)

    def draw(key, shape, fan_in):
      bound = fan_in**-0.5
      return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    return {
      'w1': draw(keys[0], (2, width), 2),
      'b1': draw(keys[1], (width,), 2),
      'w2': draw(keys[2], (width, 2), width),
      'b2': draw(keys[3], (2,), width),
    }

  def features(params):
    hidden = jax.nn.relu(jnp.zeros(2) @ params['w1'] + params['b1'])
    return hidden @ params['w2'] + params['b2']

  def heads(z):
    return jnp.stack([_wave(z - 1.5), _wave(z + 1.5)])

  def losses(params, batch=None):
    del batch
    return heads(features(params))

  return analytic.Problem(
    tasks=('left', 'right'),
    losses=losses,
    features=features,
    heads=heads,
    start=start,
    starts=('origin',),
    random=True,
  )


def _wave(u):
  # sin(3u)/u without its hole at 0.
  return -jnp.sum(3 * jnp.sinc(3 * u / jnp.pi)) + jnp.sum(jnp.abs(u))
