"""Running means over the steps of a history, without anything learned."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

Array = jax.Array


def running_means(
  x: Array,
  known: Array,
  decays: Sequence[float],
  *,
  strength: float = 1.0,
  prior: Array | float = 0.0,
) -> Array:
  r"""Means of numbers up to each step, in which older steps count less.

  .. math:: m_t = \frac{\sum_{s \le t} \gamma^{t - s} k_s x_s + c \, p}
    {\sum_{s \le t} \gamma^{t - s} k_s + c}

  with k = 1 where the number is known, and c imagined steps of the prior p, so
  that a short history says little.

  Args:
    x: ``[B, T, M]``.
    known: ``[B, T]``, 1 = the step has numbers; what others hold is not read.
    decays: values of :math:`\gamma`, ``S`` of them; 1 counts all steps alike.
    strength: c.
    prior: p, ``[M]`` or a number.

  Returns:
    ``[B, T, S, M]``.

  Example:
    >>> x = jnp.array([[[4.0], [0.0], [2.0]]])
    >>> known = jnp.array([[1, 0, 1]])
    >>> running_means(x, known, [1.0], strength=0.0)[0, :, 0, 0].tolist()
    [4.0, 4.0, 3.0]
  """
  known = known.astype(x.dtype)
  x = jnp.where(known[..., None] > 0, x, 0)
  place = jnp.arange(x.shape[1])
  age = place[:, None] - place  # [T, T]
  weights = jnp.stack(
    [jnp.where(age >= 0, float(g) ** jnp.maximum(age, 0), 0) for g in decays]
  ).astype(x.dtype)
  sums = jnp.einsum('gts,bsm->btgm', weights, x)
  counts = jnp.einsum('gts,bs->btg', weights, known)[..., None]
  total = counts + strength
  return (sums + strength * prior) / jnp.where(total > 0, total, 1)
