"""An optimizer for large tables: Adagrad with one number per row."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class RowwiseAdagradState(NamedTuple):
  """State of row-wise Adagrad.

  Attributes:
    totals: sums of squares, ``[V]`` of a table ``[V, ...]``, else like the
      parameter.
  """

  totals: Any


def rowwise_adagrad(
  learning_rate: Any, initial: float = 0.1, eps: float = 1e-10
) -> optax.GradientTransformation:
  r"""Adagrad with one number per row of a matrix, for large tables.

  .. math:: v_r \leftarrow v_r + \frac1D \sum_j g_{rj}^2, \quad
    \theta_{rj} \leftarrow \theta_{rj} - \eta\, g_{rj} / \sqrt{v_r + \epsilon}

  Biases and other vectors have Adagrad.

  Args:
    learning_rate: number or schedule.
    initial: v at the start.
    eps: in the root.

  References:
    Mudigere et al., Software-hardware co-design for fast and scalable training
    of deep learning recommendation models, ISCA 2022.
  """

  def init(params):
    return RowwiseAdagradState(
      jax.tree.map(lambda p: jnp.full(p.shape[:1], initial, p.dtype), params)
    )

  def update(updates, state, params=None):
    del params

    def add(total, g):
      squares = jnp.square(g)
      return total + (squares.mean(range(1, g.ndim)) if g.ndim > 1 else squares)

    def scale(total, g):
      root = jax.lax.rsqrt(total + eps)
      return g * root.reshape(root.shape + (1,) * (g.ndim - root.ndim))

    totals = jax.tree.map(add, state.totals, updates)
    return jax.tree.map(scale, totals, updates), RowwiseAdagradState(totals)

  return optax.chain(
    optax.GradientTransformation(init, update),
    optax.scale_by_learning_rate(learning_rate),
  )
