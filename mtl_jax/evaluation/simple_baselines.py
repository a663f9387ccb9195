"""Simple models to compare with: frequencies of classes, biases of ratings.

Pure NumPy on whole columns. Each gives outputs as a head would, so that
`score` measures baseline and model with the same metrics.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import tasks as tasks_lib


def class_frequencies(
  labels: np.ndarray, num_classes: int, smoothing: float = 1.0
) -> np.ndarray:
  """Frequency of each class; its argmax is the majority class.

  ``p_c = (n_c + smoothing) / (n + smoothing C)``, so that a class which
  training lacks does not cost infinitely much.

  Args:
    labels: of training, ``[N]``; -1 = missing.
    num_classes: C.
    smoothing: imagined examples per class.

  Returns:
    Probabilities, ``[C]``.

  Example:
    >>> class_frequencies(np.array([0, 0, 1, -1]), 3, smoothing=0.0)
    array([0.66666667, 0.33333333, 0.        ])
  """
  labels = np.asarray(labels)
  counts = np.bincount(labels[labels >= 0], minlength=num_classes) + smoothing
  return counts / counts.sum()


def user_class_frequencies(
  users: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  test_users: np.ndarray,
  strength: float = 10.0,
) -> np.ndarray:
  """Frequency of each class in a user's own history.

  ``p_uc = (n_uc + strength p_c) / (n_u + strength)``: users without a history
  get the frequencies over all users.

  Args:
    users: of training, numbered from 0, ``[N]``.
    labels: of training, ``[N]``; -1 = missing.
    num_classes: C.
    test_users: whose probabilities are asked for, ``[M]``.
    strength: imagined examples per user, drawn from all users.

  Returns:
    Probabilities, ``[M, C]``.

  Raises:
    ValueError: if ``strength`` is not positive.
  """
  _check_positive('strength', strength)
  users, labels, test_users = map(np.asarray, (users, labels, test_users))
  number = 1 + max(users.max(initial=-1), test_users.max(initial=-1))
  known = labels >= 0
  counts = np.zeros((number, num_classes))
  np.add.at(counts, (users[known], labels[known]), 1)
  counts = counts[test_users] + strength * class_frequencies(
    labels, num_classes
  )
  return counts / counts.sum(-1, keepdims=True)


class Biases(NamedTuple):
  """A rating is ``mean + users[u] + items[i]``."""

  mean: float
  users: np.ndarray
  items: np.ndarray

  def predict(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Ratings ``[M]``; users and items that training lacks have bias 0."""
    return self.mean + _bias_of(self.users, users) + _bias_of(self.items, items)


def _bias_of(biases, index):
  index = np.asarray(index)
  known = (index >= 0) & (index < biases.size)
  padded = np.append(biases, 0.0)  # also where there are none at all
  return np.where(known, padded[np.where(known, index, 0)], 0.0)


def fit_biases(
  users: np.ndarray,
  items: np.ndarray,
  ratings: np.ndarray,
  *,
  ridge: float = 5.0,
  tolerance: float = 1e-10,
  most_rounds: int = 1000,
) -> Biases:
  """Fits biases of users and items by regularised least squares.

  Minimises ``sum (r - mean - b_u - b_i)^2 + ridge (|b_users|^2 +
  |b_items|^2)``, where ``mean`` is that of all ratings, by turns over users
  and items: each turn is exact, and the sum has one minimum.

  Args:
    users: numbered from 0, ``[N]``.
    items: numbered from 0, ``[N]``.
    ratings: ``[N]``; NaN = missing.
    ridge: > 0; a user with that many ratings keeps half of what they say.
    tolerance: largest change of a bias in the last turn.
    most_rounds: turns after which it gives up on that.

  Returns:
    The biases.

  Raises:
    ValueError: if no rating is known, or ``ridge`` is not positive.

  References:
    Koren, "Factor in the Neighbors", TKDD 2010, section 2.1.
  """
  _check_positive('ridge', ridge)
  users, items, ratings = map(np.asarray, (users, items, ratings))
  known = ~np.isnan(ratings)
  if not known.any():
    raise ValueError(
      'Baseline of biases: expected at least one rating, found none; is the '
      'training split empty?'
    )
  users, items = users[known], items[known]
  mean = float(ratings[known].mean(dtype=np.float64))
  rest = ratings[known].astype(np.float64) - mean
  user_counts, item_counts = np.bincount(users), np.bincount(items)
  b_users, b_items = np.zeros(user_counts.size), np.zeros(item_counts.size)
  for _ in range(most_rounds):
    sums = np.bincount(items, rest - b_users[users])
    b_items = sums / (item_counts + ridge)
    sums = np.bincount(users, rest - b_items[items])
    before, b_users = b_users, sums / (user_counts + ridge)
    if np.abs(b_users - before).max() <= tolerance:
      break
  return Biases(mean, b_users, b_items)


def _check_positive(name: str, value: float) -> None:
  if not value > 0:
    raise ValueError(
      f'Baseline: expected {name} > 0, found {value}; without it users with '
      'little or no history have no answer.'
    )


def score(
  task: tasks_lib.Task, outputs: np.ndarray, arrays: Mapping[str, Any]
) -> dict[str, float]:
  """The task's metrics, of outputs as its head would give them.

  Args:
    task: the task.
    outputs: ``[N, size]``: log-probabilities for classes, log-odds for labels,
      ``(value - mean) / std`` for regression.
    arrays: the labels, as in a batch of N examples.

  Returns:
    Metrics by name.
  """
  head = jnp.asarray(outputs, jnp.float32)
  arrays = {name: jnp.asarray(array) for name, array in arrays.items()}
  mask = tasks_lib.labelled(task, arrays, task.loss(head, arrays))
  values: dict[str, float] = {}
  for metric in task.metrics.values():
    state = jax.device_get(metric.from_batch(head, arrays, mask))
    values |= metric.compute(state)
  return values


Baseline = Callable[..., np.ndarray | None]


def popularity(kind: str, task: tasks_lib.Task, train, test):
  """For classes: how often each occurs in training."""
  if kind != 'classification':
    return None
  label, size = train['label'], task.size
  frequencies = class_frequencies(label, size)
  return np.tile(np.log(frequencies), (len(test['label']), 1))


def user_popularity(kind: str, task: tasks_lib.Task, train, test):
  """For classes: how often each occurs in the user's own training rows."""
  if kind != 'classification':
    return None
  return np.log(
    user_class_frequencies(
      train['user'], train['label'], task.size, test['user']
    )
  )


def user_item_bias(kind: str, task: tasks_lib.Task, train, test):
  """For values: mean plus a bias of the user and one of the item."""
  if kind != 'regression':
    return None
  biases = fit_biases(train['user'], train['item'], train['label'])
  values = biases.predict(test['user'], test['item'])
  zero, one = np.asarray(task.predict(jnp.array([[0.0], [1.0]])))
  return ((values - zero) / (one - zero))[:, None]


BASELINES: dict[str, Baseline] = {
  'popularity': popularity,
  'user_popularity': user_popularity,
  'user_item_bias': user_item_bias,
}


def compute(
  functions: Mapping[str, Baseline],
  tasks: Sequence[tasks_lib.Task],
  targets: Mapping[str, Mapping[str, Any]],
  splits: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Mapping[str, float]]]:
  """Scores of simple models on the test split, fitted on training.

  Args:
    functions: by name.
    tasks: K of them.
    targets: what the config says of each task.
    splits: stream -> split -> source.

  Returns:
    ``{baseline: {task: metrics}}``.

  Raises:
    ValueError: if the data lack the keys 'user' and 'item' that one reads.
  """
  scores: dict[str, dict[str, Any]] = {}
  for name, function in functions.items():
    for task in tasks:
      spec = targets[task.name]
      label = spec.get('label') or task.name
      columns = {
        split: _columns(splits[task.stream][split], label)
        for split in ('train', 'test')
      }
      try:
        outputs = function(spec.get('kind'), task, *columns.values())
      except KeyError as error:
        raise ValueError(
          f'Expected the key {error} in the batches for baseline {name!r}, '
          'found none; add it to data.features or remove the baseline.'
        ) from error
      if outputs is not None:
        arrays = {label: columns['test']['label']}
        scores.setdefault(name, {})[task.name] = score(task, outputs, arrays)
  return scores


def _columns(source, label):
  keys = (label, 'user', 'item')
  columns = source.take(np.arange(len(source)), keys)
  return {'label': columns[label], **columns}
