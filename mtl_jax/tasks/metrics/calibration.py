"""Expected calibration error over bins of equal width."""

import jax
import jax.numpy as jnp
import numpy as np

BINS = 15


def bin_sums(
  confidence: jax.Array, correct: jax.Array, mask: jax.Array, bins: int
) -> jax.Array:
  """Count, summed confidence and summed hits a bin, ``[bins, 3]``.

  Bin b holds confidences in ``(b / bins, (b + 1) / bins]``, and the first one
  0 as well.

  Args:
    confidence: predicted probabilities, ``[N]``.
    correct: whether the prediction came true, ``[N]``.
    mask: true where the row counts, ``[N]``.
    bins: how many.
  """
  index = jnp.ceil(confidence * bins).astype(jnp.int32) - 1
  members = jax.nn.one_hot(jnp.clip(index, 0, bins - 1), bins)
  ones = jnp.ones_like(confidence)
  columns = jnp.stack([ones, confidence, correct.astype(ones.dtype)], -1)
  columns = jnp.where(mask[:, None], columns, 0)
  # Full precision: on accelerators the default rounds to fewer bits.
  return jnp.einsum('nb,nc->bc', members, columns, precision='highest')


def expected_error(sums: np.ndarray) -> float:
  """The mean gap between confidence and accuracy, weighted by bin counts.

  References:
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

  Example:
    >>> expected_error(np.array([[4.0, 3.0, 2.0], [0.0, 0.0, 0.0]]))
    0.25
  """
  count, confidence, correct = np.asarray(sums, np.float64).T
  if count.sum() == 0:
    return float('nan')
  return float(np.abs(confidence - correct).sum() / count.sum())
