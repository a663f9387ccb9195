"""Towers in a row, each of which reads the one before (AITM)."""

from collections.abc import Mapping, Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import expert_layers
from mtl_jax.models.sharing.architecture import Sharing

Array = jax.Array


class Transfer(nn.Module):
  """A dense layer as wide as its inputs."""

  @nn.compact
  def __call__(self, batch: Mapping[str, Array], *, train: bool) -> Array:
    """``[B, ..., d]`` of the inputs ``[B, ..., d]``."""
    del train  # Uniform with the trunks.
    x = batch['inputs']
    return nn.Dense(x.shape[-1], dtype=x.dtype)(x)


class Attention(nn.Module):
  r"""Attention between transferred features and a tower's own.

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
  *,
  order: Sequence[str] = (),
  stop_gradient: bool = False,
  embeddings: str = 'shared',
) -> Sharing:
  r"""Adaptive information transfer: a tower per task, reading the one before.

  .. math:: z_1 = q_1, \quad z_k = \sum_{u \in \{p_k, q_k\}} w_u h_1(u), \quad
    p_k = g_k(z_{k-1}), \quad q_k = f_k(x)

  for events in their order, such as an impression's click, then purchase. The
  weights w are those of `Attention`, whose layers serve all steps; towers f are
  copies of the trunk, and g is one dense layer per step. The probabilities'
  order is learned by tasks of the kind `order_calibrated`.

  A tower reaches all tasks that come after its own, so these are shared: all
  towers and g but the last, the attention from three tasks on, and embedding
  tables that are one set. With ``stop_gradient`` a tower and its g are their
  task's own (but a loss that reads the head before reaches its tower there),
  and the attention is shared from three tasks on.

  Args:
    order: every task, the first event first; () is that of the heads. Names of
      tasks that a model is not made for are skipped.
    stop_gradient: tasks do not train the towers before their own.
    embeddings: 'shared': the towers' embedding tables are one set; 'own': each
      has its own.

  Raises:
    ValueError: from `build_model`, if a task is not in the order, or twice.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'buy': models.LinearHead(1), 'click': models.LinearHead(1)}
    >>> sharing = aitm(order=('click', 'buy'))
    >>> model = models.build_model(sharing, models.MLP(widths=(8,)), heads)
    >>> [model.shared(f'towers/{t}/Dense_0/kernel') for t in ('click', 'buy')]
    [True, False]

  References:
    Xi et al., Modeling the sequential dependence among audience multi-step
    conversions with multi-task learning in targeted advertising, KDD 2021. Its
    g and its towers have several layers; EasyRec's stop_gradient is on.
  """
  towers = expert_layers.Experts(owner='aitm', embeddings=embeddings)

  def chain_of(tasks):
    return tuple(task for task in order if task in tasks) if order else tasks

  def check(trunk, tasks):
    del trunk
    if sorted(chain_of(tasks)) != sorted(tasks):
      raise ValueError(
        f'aitm: expected an order of all of {", ".join(tasks)}, each once, '
        f'found {", ".join(order)}; change order.'
      )

  def features(scope, batch, tasks):
    if not tasks:
      return {}
    chain = chain_of(scope.tasks)
    some = chain[: 1 + max(chain.index(task) for task in tasks)]
    q = towers.first(scope, {('towers', task): None for task in some}, batch)
    z = {some[0]: q[0]}
    for k, task in enumerate(some[1:], 1):
      before = z[some[k - 1]]
      if stop_gradient:
        before = jax.lax.stop_gradient(before)
      p = scope.call(('transfer', task), Transfer(), {'inputs': before})
      u = {'inputs': jnp.stack([p, q[k]])}
      z[task] = scope.call(('attention',), Attention(), u)
    return {task: z[task] for task in tasks}

  def shared(path, trunk, tasks):
    del trunk
    chain = chain_of(tasks)
    part, _, rest = path.partition('/')
    if part in ('towers', 'transfer'):
      return not stop_gradient and rest.split('/')[0] != chain[-1]
    return part != 'attention' or len(chain) > 2

  return Sharing(features, shared, check=check)
