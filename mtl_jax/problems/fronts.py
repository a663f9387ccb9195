"""Problems with a known Pareto front, to be covered by preferences."""

import jax.numpy as jnp
import numpy as np

from mtl_jax.problems import analytic

POINTS = 401


def _ends(size: int) -> np.ndarray:
  """The segment between ``-1/sqrt(n)`` and ``1/sqrt(n)``, ``[POINTS, n]``."""
  t = np.linspace(-1.0, 1.0, POINTS)[:, None] / np.sqrt(size)
  return np.broadcast_to(t, (POINTS, size)).copy()


def vlmop1(*, size: int = 10, starts: int = 1) -> analytic.Problem:
  r"""VLMOP1: two squared distances, a convex front.

  :math:`f_{1,2} = \frac14 \|x \mp 1 / \sqrt n\|^2`; the Pareto set is the
  segment between the two centres.

  Args:
    size: n.
    starts: points drawn from [-1, 1]^n.

  References:
    Van Veldhuizen and Lamont, Multiobjective evolutionary algorithm test
    suites, SAC 1999.
  """

  def losses(x, batch=None):
    del batch
    a = 1 / np.sqrt(size)
    return jnp.stack([jnp.sum((x - a) ** 2), jnp.sum((x + a) ** 2)]) / 4

  start, names = analytic.in_box(-1.0, 1.0, size, starts)
  return analytic.Problem(
    tasks=('f1', 'f2'),
    losses=losses,
    start=start,
    starts=names,
    random=True,
    pareto_set=_ends(size),
    reference=(1.1, 1.1),
  )


def vlmop2(*, size: int = 10, starts: int = 1) -> analytic.Problem:
  r"""VLMOP2: a concave front, where weighted sums find the ends only.

  :math:`f_{1,2} = 1 - \exp(-\|x \mp 1 / \sqrt n\|^2)`; the Pareto set is the
  segment between the two centres.

  Args:
    size: n.
    starts: points drawn from [-1, 1]^n.

  References:
    Van Veldhuizen and Lamont, Multiobjective evolutionary algorithm test
    suites, SAC 1999.
  """

  def losses(x, batch=None):
    del batch
    a = 1 / np.sqrt(size)
    squares = jnp.stack([jnp.sum((x - a) ** 2), jnp.sum((x + a) ** 2)])
    return -jnp.expm1(-squares)

  start, names = analytic.in_box(-1.0, 1.0, size, starts)
  return analytic.Problem(
    tasks=('f1', 'f2'),
    losses=losses,
    start=start,
    starts=names,
    random=True,
    pareto_set=_ends(size),
    reference=(1.1, 1.1),
  )


def zdt(
  *, number: int = 1, size: int = 30, starts: int = 1
) -> analytic.Problem:
  r"""ZDT1, ZDT2 and ZDT3: a convex, a concave and a broken front.

  :math:`f_1 = x_1`, :math:`g = 1 + \frac{9}{n - 1} \sum_{i > 1} x_i`, and
  :math:`f_2 = g (1 - \sqrt{r})`, :math:`g (1 - r^2)` or
  :math:`g (1 - \sqrt r - r \sin 10 \pi x_1)` with :math:`r = f_1 / g`, for x
  in [0, 1]^n. On the Pareto set :math:`g = 1`. Since the slope of the root is
  infinite at 0, :math:`x_1` is kept above 1e-6.

  Args:
    number: 1, 2 or 3.
    size: n.
    starts: points drawn from the box.

  Raises:
    ValueError: if the number is another.

  References:
    Zitzler, Deb and Thiele, Comparison of multiobjective evolutionary
    algorithms: empirical results, Evolutionary Computation 2000.
  """
  if number not in (1, 2, 3):
    raise ValueError(
      f'Expected ZDT number 1, 2 or 3, found {number!r}; choose one of these.'
    )

  def losses(x, batch=None):
    del batch
    g = 1 + 9 * jnp.sum(x[1:]) / (size - 1)
    r = x[0] / g
    shape = {
      1: lambda: 1 - jnp.sqrt(r),
      2: lambda: 1 - r**2,
      3: lambda: 1 - jnp.sqrt(r) - r * jnp.sin(10 * jnp.pi * x[0]),
    }[number]()
    return jnp.stack([x[0], g * shape])

  start, names = analytic.in_box(1e-6, 1.0, size, starts)
  low = np.zeros(size, np.float32)
  low[0] = 1e-6
  first = np.linspace(low[0], 1.0, 10 * POINTS if number == 3 else POINTS)
  if number == 3:
    f2 = 1 - np.sqrt(first) - first * np.sin(10 * np.pi * first)
    # Sorted by f1, what is not dominated is below everything before it.
    first = first[f2 <= np.minimum.accumulate(f2)]
  front = np.zeros((first.size, size))
  front[:, 0] = first
  return analytic.Problem(
    tasks=('f1', 'f2'),
    losses=losses,
    start=start,
    starts=names,
    random=True,
    bounds=(low, np.ones(size, np.float32)),
    pareto_set=front,
    reference=(1.1, 1.1),
  )
