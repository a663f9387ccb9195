"""Losses per example, of logits and labels, and the ranges of their options."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

Array = jax.Array
REGRESSION = ('mse', 'huber', 'quantile', 'poisson')


def as_float(x: Array) -> Array:
  """In float32 or better: losses are not taken in bfloat16."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def softmax(
  logits: Array, labels: Array, *, smoothing: float = 0.0, focal: float = 0.0
) -> Array:
  """Cross-entropy of classes ``[...]``, from logits ``[..., C]``.

  Args:
    logits: in float32 or better.
    labels: in ``{0, ..., C - 1}``.
    smoothing: share of the target that all classes get alike.
    focal: power of the probability of the other classes, as a factor.
  """
  losses = optax.losses.softmax_cross_entropy_with_integer_labels(
    logits, labels
  )
  if smoothing:
    everywhere = -jax.nn.log_softmax(logits).mean(-1)
    losses = (1 - smoothing) * losses + smoothing * everywhere
  if focal:
    # log(1 - p) as a sum over the others: finite where p rounds to 1.
    others = jnp.arange(logits.shape[-1]) != labels[..., None]
    wrong = jax.nn.logsumexp(logits, -1, where=others)
    losses *= jnp.exp(focal * (wrong - jax.nn.logsumexp(logits, -1)))
  return losses


def sigmoid(
  logits: Array, labels: Array, *, smoothing: float = 0.0, focal: float = 0.0
) -> Array:
  """Cross-entropy of labels in {0, 1}, of the shape of the logits.

  The same as `softmax` over the logits ``(0, logit)``.
  """
  smooth = (1 - smoothing) * labels + smoothing / 2 if smoothing else labels
  losses = optax.losses.sigmoid_binary_cross_entropy(logits, smooth)
  if focal:
    wrong = jax.nn.log_sigmoid(jnp.where(labels > 0, -logits, logits))
    losses *= jnp.exp(focal * wrong)
  return losses


def huber(errors: Array, delta: float) -> Array:
  """Half the square up to ``delta``, and linear beyond."""
  return optax.losses.huber_loss(errors, delta=delta)


def pinball(errors: Array, quantile: float) -> Array:
  """The quantile loss of ``label - prediction``."""
  return jnp.maximum(quantile * errors, (quantile - 1) * errors)


def poisson(log_rates: Array, labels: Array) -> Array:
  """Half the deviance of counts, from the logarithms of their rates."""
  own = jax.scipy.special.xlogy(labels, labels)
  return jnp.exp(log_rates) - labels + own - labels * log_rates


def check_options(name: str, smoothing: float, focal: float) -> None:
  """Raises if label smoothing is outside [0, 1), or focal below 0."""
  if not 0 <= smoothing < 1:
    raise ValueError(
      f'Task {name!r}: expected label_smoothing in [0, 1), found {smoothing}; '
      '0.1 is usual, 0 leaves it out.'
    )
  if not 0 <= focal < np.inf:
    raise ValueError(
      f'Task {name!r}: expected focal >= 0, found {focal}; 2 is usual, and '
      '0 leaves it out.'
    )


def check_regression(name, loss, quantile, mean, std, size) -> None:
  """Raises if the loss is unknown, or a number of it out of its range."""
  if loss not in REGRESSION:
    raise ValueError(
      f'Task {name!r}: expected a loss among {", ".join(REGRESSION)}, found '
      f'{loss!r}; name one of them.'
    )
  if not np.greater(std, 0).all():
    raise ValueError(
      f'Task {name!r}: expected training labels that differ, found a standard '
      f'deviation of {std}; leave the task out, write tiny numbers in another '
      'unit, or set standardize to False.'
    )
  if not 0 < quantile < 1:
    raise ValueError(
      f'Task {name!r}: expected a quantile between 0 and 1, found {quantile}; '
      '0.5 is the median.'
    )
  if any(np.shape(x) not in ((), (size,)) for x in (mean, std)):
    raise ValueError(
      f'Task {name!r}: expected a mean and a std for each of {size} '
      f'components, found shapes {np.shape(mean)} and '
      f'{np.shape(std)}; give one number, or one per component.'
    )
