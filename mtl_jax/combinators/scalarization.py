"""Methods that descend on one function of the losses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib


def from_scalarization(
  f: Callable[[jax.Array, jax.Array], jax.Array],
) -> optax.GradientTransformationExtraArgs:
  """A combinator that descends on ``f(losses [K], present [K]) -> scalar``.

  Its weights are ``df/dL``, so heads and trunk get exactly the gradient of f.

  Args:
    f: differentiable where losses of tasks that are not present are 0.

  Example:
    >>> from mtl_jax import combinators
    >>> norm = lambda losses, present: jnp.sqrt(jnp.sum(losses**2))
    >>> tx = combinators.from_scalarization(norm)
    >>> losses = jnp.array([3.0, 4.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> tx.update(gradients, tx.init(None))[0]
    Array([0.6, 0.8], dtype=float32)
  """
  return base.from_losses(jax.grad(f), heads='weighted')


def scale_invariant(
  *, epsilon: float = 1e-8
) -> optax.GradientTransformationExtraArgs:
  r"""Descends on :math:`\sum_k \log (L_k + \epsilon)`: no task's unit matters.

  The weights are :math:`1 / (L_k + \epsilon)`; losses must be positive.

  Args:
    epsilon: >= 0; keeps the weight of a loss that reaches zero finite. The
      nash-mtl code has none; another in use takes ``log(1 + L)``, which is not
      invariant.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.scale_invariant()
    >>> losses = jnp.array([1.0, 4.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> tx.update(gradients, tx.init(None))[0]
    Array([1.  , 0.25], dtype=float32)

  References:
    Navon et al., Multi-task learning as a bargaining game, ICML 2022 (as the
    baseline "SI").
  """
  arguments.check_between('epsilon', epsilon, 0.0)

  def sum_of_logs(losses, present):
    return jnp.log(jnp.where(present, losses + epsilon, 1)).sum()

  return from_scalarization(sum_of_logs)


def geometric_mean(
  *, epsilon: float = 1e-8
) -> optax.GradientTransformationExtraArgs:
  r"""Descends on the geometric mean of the losses (GLS).

  :math:`f = \exp(\frac{1}{K} \sum_k \log (L_k + \epsilon))`, with weights
  :math:`f / (K (L_k + \epsilon))`. The exponential of a mean does not overflow
  for many tasks, as a product of losses (LibMTL) does.

  Args:
    epsilon: >= 0; keeps the weight of a loss that reaches zero finite.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.geometric_mean(epsilon=0.0)
    >>> losses = jnp.array([1.0, 4.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> tx.update(gradients, tx.init(None))[0]
    Array([1.  , 0.25], dtype=float32)

  References:
    Chennupati et al., MultiNet++: multi-stream feature aggregation and
    geometric loss strategy for multi-task learning, CVPR workshops 2019.
  """
  arguments.check_between('epsilon', epsilon, 0.0)

  def mean(losses, present):
    logs = jnp.log(jnp.where(present, losses + epsilon, 1))
    return jnp.exp(state_lib.masked_mean(logs, present))

  return from_scalarization(mean)
