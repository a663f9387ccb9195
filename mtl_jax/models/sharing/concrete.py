"""Draws with a gradient: gates that can close, and a choice of one."""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array
BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1  # temperature, and the stretched range


def hard_concrete(logits: Array, uniform: Array | None = None) -> Array:
  r"""Numbers in [0, 1] that are exactly 0 or 1 with positive probability.

  .. math:: z = \min(1, \max(0, s (\zeta - \gamma) + \gamma)), \quad
    s = \sigma((\log u - \log(1 - u) + a) / \beta)

  with :math:`\beta = 2/3, \gamma = -0.1, \zeta = 1.1`.

  Args:
    logits: a.
    uniform: draws u in (0, 1) of their shape; None takes
      :math:`s = \sigma(a)`, for evaluation.

  Example:
    >>> [float(x) for x in hard_concrete(jnp.array([-9.0, 0.0, 9.0]))]
    [0.0, 0.5, 1.0]

  References:
    Louizos et al., Learning sparse neural networks through L0 regularization,
    ICLR 2018.
  """
  if uniform is None:
    s = nn.sigmoid(logits)
  else:
    noise = jnp.log(uniform) - jnp.log1p(-uniform)
    s = nn.sigmoid((noise + logits) / BETA)
  return jnp.clip(s * (ZETA - GAMMA) + GAMMA, 0, 1)


def open_probability(logits: Array) -> Array:
  r""":math:`P(z > 0) = \sigma(a - \beta \log(-\gamma / \zeta))`.

  Example:
    >>> round(float(open_probability(jnp.zeros(()))), 4)
    0.8318
  """
  return nn.sigmoid(logits - BETA * math.log(-GAMMA / ZETA))


def one_of(
  scores: Array, temperature: float = 1.0, *, soft: bool = False
) -> Array:
  r"""The largest of E scores, with the gradient of a softmax.

  With Gumbel noise on logits, it is a draw with probability
  :math:`\mathrm{softmax}` of them.

  Args:
    scores: ``[..., E]``.
    temperature: :math:`\tau` of the softmax, > 0.
    soft: whether to return :math:`\mathrm{softmax}(s / \tau)` itself.

  Returns:
    ``[..., E]``: 0, and 1 at the largest, the first of several.

  Example:
    >>> one_of(jnp.array([0.1, 3.0, 0.2]))
    Array([0., 1., 0.], dtype=float32)

  References:
    Jang et al., Categorical reparameterization with Gumbel-softmax, ICLR 2017.
  """
  weights = nn.softmax(scores / temperature)
  if soft:
    return weights
  chosen = nn.one_hot(scores.argmax(-1), scores.shape[-1], dtype=scores.dtype)
  # In this order the value is exactly 0 or 1.
  return chosen + (weights - jax.lax.stop_gradient(weights))
