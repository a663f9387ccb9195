"""Towers in a row, each of which reads what the one before found (AITM)."""

from collections.abc import Mapping, Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  assemble,
  copies,
  experts as experts_lib,
  run as run_lib,
)

Array = jax.Array


class Transfer(nn.Module):
  """A dense layer of the width of what it reads."""

  @nn.compact
  def __call__(self, batch: Mapping[str, Array], *, train: bool) -> Array:
    """``[B, ..., d]`` of the inputs ``[B, ..., d]``."""
    del train  # Uniform with the trunks.
    x = batch['inputs']
    return nn.Dense(x.shape[-1], dtype=x.dtype)(x)


class Attention(nn.Module):
  r"""Of what to transfer and what a tower found itself, by their contents.

  .. math:: z = \sum_u w_u h_1(u), \quad
    w = \mathrm{softmax}_u \frac{\langle h_2(u), h_3(u) \rangle}{\sqrt{d}}

  with dense layers h, at each step of a sequence for itself.
  """

  @nn.compact
  def __call__(self, batch: Mapping[str, Array], *, train: bool) -> Array:
    """``[B, ..., d]`` of the inputs ``[U, B, ..., d]``."""
    del train  # Uniform with the trunks.
    u = batch['inputs']
    value, query, key = (
      nn.Dense(u.shape[-1], dtype=u.dtype, name=name)(u)
      for name in ('value', 'query', 'key')
    )
    dtype = jnp.promote_types(u.dtype, jnp.float32)
    scores = (query.astype(dtype) * key).sum(-1) / u.shape[-1] ** 0.5
    weights = nn.softmax(scores, axis=0)  # [U, B, ...]
    return (weights[..., None] * value).sum(0).astype(u.dtype)


def aitm(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  order: Sequence[str] = (),
  stop_gradient: bool = False,
  embeddings: str = 'shared',
) -> base.MultiTaskModel:
  r"""Adaptive information transfer: a tower a task, which reads the one before.

  .. math:: z_1 = q_1, \quad z_k = \sum_{u \in \{p_k, q_k\}} w_u h_1(u), \quad
    p_k = g_k(z_{k-1}), \quad q_k = f_k(x)

  for events in their order, such as an impression's click, then purchase. The
  weights w are those of `Attention`, whose layers serve all steps; g is a
  dense layer a step. The probabilities' order is learned by tasks of the kind
  `order_calibrated`.

  What stands before the last task reaches all tasks that come after, so these
  are shared: all towers and g but the last, the attention from three tasks on,
  and embedding tables that are one set. With ``stop_gradient`` a tower and its
  g are their task's own (but a loss that reads the head before reaches its
  tower there), and the attention is shared from three tasks on.

  Args:
    trunk: a tower f; each task has one with parameters of its own.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; towers that none of a stream's tasks reads are
      then not run.
    order: every task, the first event first; () is that of the heads. Names of
      tasks that a model is not made for are skipped.
    stop_gradient: tasks do not train the towers before their own.
    embeddings: 'shared': the towers' embedding tables are one set; 'own': each
      has its own.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: if a task is not in the order, or twice.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'buy': models.LinearHead(1), 'click': models.LinearHead(1)}
    >>> trunk = models.MLP(widths=(8,))
    >>> model = aitm(trunk, heads, order=('click', 'buy'))
    >>> [model.shared(f'towers/{t}/Dense_0/kernel') for t in ('click', 'buy')]
    [True, False]

  References:
    Xi et al., Modeling the sequential dependence among audience multi-step
    conversions with multi-task learning in targeted advertising, KDD 2021. Its
    g and its towers have several layers; EasyRec's stop_gradient is on.
  """
  everyone = tuple(heads)
  chain = tuple(task for task in order if task in heads) if order else everyone
  if sorted(chain) != sorted(everyone):
    raise ValueError(
      f'aitm: expected an order of all of {", ".join(everyone)}, each once, '
      f'found {", ".join(order)}; change order.'
    )
  tables = experts_lib.tables_of('aitm', embeddings)
  trunk = run_lib.place(trunk, axis_name)

  def features(run, batch, tasks):
    if not tasks:
      return {}
    some = chain[: 1 + max(chain.index(task) for task in tasks)]
    q = copies.run_copies(
      run,
      {('towers', task): None for task in some},
      trunk,
      batch,
      tables=tables,
    )
    found = {some[0]: q[0]}
    for k, task in enumerate(some[1:], 1):
      before = found[some[k - 1]]
      if stop_gradient:
        before = jax.lax.stop_gradient(before)
      p = run.call(('transfer', task), Transfer(), {'inputs': before})
      u = {'inputs': jnp.stack([p, q[k]])}
      found[task] = run.call(('attention',), Attention(), u)
    return {task: found[task] for task in tasks}

  def shared(path):
    part, _, rest = path.partition('/')
    if part in ('towers', 'transfer'):
      return not stop_gradient and rest.split('/')[0] != chain[-1]
    return part != 'attention' or len(chain) > 2

  return assemble.assemble(
    'aitm',
    features,
    heads,
    shared=shared,
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
  )
