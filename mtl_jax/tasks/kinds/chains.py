"""Tasks that follow one another, as a purchase follows a click.

Event k can only happen where event k - 1 did. Their losses reach the heads of
the events before: `Task.reads` names these.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import jax
import jax.numpy as jnp

from mtl_jax.tasks.kinds import (
  binary as binary_lib,
  classification,
  kind as kind_lib,
)
from mtl_jax.tasks.metrics import wrappers
from mtl_jax.tasks.task import Array, Task, as_float

Outputs = Mapping[str, Array]  # {task: logits [B, 1]}


def joint_log_probabilities(logits: Sequence[Array]) -> tuple[Array, Array]:
  r"""Log-probability that all events happen, and that not all of them do.

  .. math::

    \log p = \sum_k \log \sigma(z_k), \quad
    1 - \prod_{j \le k} \sigma(z_j) = \Bigl(1 - \prod_{j < k} \sigma(z_j)\Bigr)
      + \sigma(-z_k) \prod_{j < k} \sigma(z_j)

  The second is a sum of positive terms, so that neither is rounded to the
  logarithm of zero where p is nearly 1.

  Args:
    logits: of each event given those before it, ``[...]``, at least one.

  Returns:
    ``log p`` and ``log(1 - p)``, ``[...]``, in float32 or better.

  Example:
    >>> yes, no = joint_log_probabilities([jnp.zeros(1), jnp.zeros(1)])
    >>> jnp.exp(yes), jnp.exp(no)
    (Array([0.25], dtype=float32), Array([0.75], dtype=float32))
  """
  first, *others = map(as_float, logits)
  yes, no = jax.nn.log_sigmoid(first), jax.nn.log_sigmoid(-first)
  for z in others:
    no = jnp.logaddexp(no, yes + jax.nn.log_sigmoid(-z))
    yes = yes + jax.nn.log_sigmoid(z)
  return yes, no


def _logit(name, outputs, task):
  z = outputs[task]
  if z.shape[-1] != 1:
    raise ValueError(
      f'Task {name!r}: expected binary tasks to come after, found {task!r} '
      f'with {z.shape[-1]} outputs; name another, or make it binary.'
    )
  return z[..., 0]


def entire_space(
  name: str,
  after: Sequence[str],
  *,
  label: str | None = None,
  of: str = 'joint',
  **kwargs,
) -> Task:
  r"""An event given those before it, learned from all examples (ESMM).

  The head gives :math:`z`, the logit of this event given the earlier ones, and
  the loss is that of all of them happening:

  .. math::

    L = -y \log p - (1 - y) \log(1 - p), \quad
    p = \sigma(z) \prod_{j} \sigma(z_j) .

  So it is learned where an earlier event did not happen, too, and its head has
  a gradient through p only.

  Args:
    name: the task's name.
    after: the tasks of the earlier events, whose heads give the logits of each
      given those before it.
    label: key of the labels ``[B]`` in the batch, 1 where all events happened,
      -1 missing; by default the name.
    of: what is predicted and measured: 'joint' p, or 'conditional'
      :math:`\sigma(z)`. The loss is the same.
    **kwargs: further fields of `Task`, and options of `tasks.binary`.

  Returns:
    A task of size 1.

  Raises:
    ValueError: if there is no earlier task, or ``of`` is neither of the two.

  Example:
    >>> sale = entire_space('sale', ['click'])
    >>> outputs = {'click': jnp.zeros((1, 1)), 'sale': jnp.zeros((1, 1))}
    >>> jnp.exp(-sale.loss(outputs, {'sale': jnp.array([1])}))
    Array([0.25], dtype=float32)

  References:
    Ma et al., Entire space multi-task model, SIGIR 2018 (one earlier event;
    its loss of the click is that of a task of its own here, and a combinator
    may weigh the two). Wen et al., Entire space multi-task modeling via
    post-click behavior decomposition, SIGIR 2020 (longer chains).
  """
  after = tuple(after)
  if not after or name in after:
    raise ValueError(
      f'Task {name!r}: expected one or more other tasks that it comes after, '
      f'found {after}; name them.'
    )
  if of not in ('joint', 'conditional'):
    raise ValueError(
      f"Task {name!r}: expected of to be 'joint' or 'conditional', found "
      f'{of!r}; name one of the two.'
    )
  for option in ('label_smoothing', 'focal'):
    if kwargs.get(option):
      raise ValueError(
        f'Task {name!r}: expected no {option} of the loss of several events, '
        f'found {kwargs[option]}; leave it out.'
      )
  base = binary_lib.binary(name, label=label, **kwargs)
  key = label or name

  def log_probabilities(outputs):
    return joint_log_probabilities(
      [_logit(name, outputs, task) for task in (*after, name)]
    )

  def loss(outputs, batch):
    yes, no = log_probabilities(outputs)
    return -jnp.where(batch[key] > 0, yes, no)

  def output(outputs):
    yes, no = log_probabilities(outputs)
    return (yes - no)[..., None]

  joint = of == 'joint'
  return dataclasses.replace(
    base,
    loss=loss,
    reads=after,
    output=output if joint else None,
    # Where an earlier event did not happen, nobody knows the conditional one.
    target=base.target if joint else None,
  )


def order_calibrated(
  name: str,
  after: str,
  *,
  alpha: float = 0.6,
  label: str | None = None,
  **kwargs,
) -> Task:
  r"""An event whose probability should not exceed that of the one before.

  .. math:: L = \mathrm{BCE}(y, p) + \alpha \max(p - p_{\mathrm{before}}, 0)

  Both are probabilities over all examples, of a head each. The second term has
  gradients for both heads.

  Args:
    name: the task's name.
    after: the task of the event before.
    alpha: weight of the order, at least 0.
    label: key of the labels ``[B]`` in the batch; by default the name.
    **kwargs: further fields of `Task`, and options of `tasks.binary`.

  Returns:
    A task of size 1.

  Raises:
    ValueError: if ``alpha`` is negative, or the task comes after itself.

  Example:
    >>> sale = order_calibrated('sale', 'click', alpha=2.0)
    >>> outputs = {'click': jnp.zeros((1, 1)), 'sale': jnp.zeros((1, 1))}
    >>> sale.loss(outputs, {'sale': jnp.array([1])})
    Array([0.6931472], dtype=float32)

  References:
    Xi et al., Modeling the sequential dependence among audience multi-step
    conversions with multi-task learning in targeted advertising, KDD 2021
    (AITM: this is its calibrator, without the transfer between towers).
  """
  if name == after:
    raise ValueError(
      f'Task {name!r}: expected another task that it comes after, found '
      'itself; name that of the event before.'
    )
  if not alpha >= 0:
    raise ValueError(
      f'Task {name!r}: expected alpha >= 0, found {alpha}; 0 leaves the order '
      'out.'
    )
  base = binary_lib.binary(name, label=label, **kwargs)

  def loss(outputs, batch):
    own, before = (_logit(name, outputs, task) for task in (name, after))
    excess = jnp.maximum(base.predict(own) - base.predict(before), 0)
    return base.loss(outputs[name], batch) + alpha * excess

  return dataclasses.replace(base, loss=loss, reads=(after,))


def _entire_space(
  name: str,
  info: kind_lib.DataFacts,
  label: str,
  *,
  after: str | Sequence[str],
  of: str = 'joint',
  given: str | Sequence[str] = (),
  positive: str = '',
  **options,
) -> Task:
  """Sigmoid cross-entropy of this event and those ``after`` which it comes.

  Of the 'conditional' probability, metrics are those of examples where the
  earlier events happened, as the labels ``given`` say: by default those of
  their tasks' names.
  """
  after, given = (
    (x,) if isinstance(x, str) else tuple(x) for x in (after, given)
  )
  names = binary_lib.names_of_two(name, info, label, positive)
  arguments = binary_lib.arguments_of_events(
    name, info, label, names, **options
  )
  if of == 'conditional':
    arguments['metrics'] = {
      key: wrappers.Given(metric, given or after)
      for key, metric in arguments['metrics'].items()
    }
  return entire_space(name, after, of=of, **arguments)


def _order_calibrated(
  name: str,
  info: kind_lib.DataFacts,
  label: str,
  *,
  after: str,
  alpha: float = 0.6,
  positive: str = '',
  **options,
) -> Task:
  """As binary, and a penalty where it is more probable than ``after``."""
  names = binary_lib.names_of_two(name, info, label, positive)
  arguments = binary_lib.arguments_of_events(
    name, info, label, names, **options
  )
  return order_calibrated(name, after, alpha=alpha, **arguments)


ENTIRE_SPACE = kind_lib.TaskKind(
  'entire_space',
  _entire_space,
  'binary',
  binary_lib.EVENTS,
  binary_lib.metric_names,
)
ORDER_CALIBRATED = kind_lib.TaskKind(
  'order_calibrated',
  _order_calibrated,
  'binary',
  binary_lib.EVENTS | classification.SHAPE,
  binary_lib.metric_names,
)
