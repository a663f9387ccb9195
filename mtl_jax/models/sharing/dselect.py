"""DSelect-k: gates that select k experts, and are smooth."""

from collections.abc import Mapping
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  assemble,
  copies,
  experts as experts_lib,
  gates,
  moe,
)

Array = jax.Array
_TINY = 1e-6  # inside logarithms and quotients


def smooth_step(t: Array, gamma: float) -> Array:
  r"""0 below :math:`-\gamma / 2`, 1 above :math:`\gamma / 2`, a cubic between.

  .. math:: S(t) = -\frac{2}{\gamma^3} t^3 + \frac{3}{2 \gamma} t + \frac{1}{2}

  Example:
    >>> [float(x) for x in smooth_step(jnp.array([-2.0, 0.0, 2.0]), 1.0)]
    [0.0, 0.5, 1.0]
  """
  t = jnp.clip(t, -gamma / 2, gamma / 2)
  return -2 / gamma**3 * t**3 + 3 / (2 * gamma) * t + 0.5


class DSelectGate(nn.Module):
  r"""k single-expert selectors, and a softmax over them.

  .. math:: q(x) = \sum_{s=1}^k \mathrm{softmax}(a)_s r(z_s), \quad
    r(z)_e = \prod_j S(z_j)^{b_{ej}} (1 - S(z_j))^{1 - b_{ej}}

  b are the digits of e in base 2. Once all :math:`|z| \ge \gamma / 2`, each
  selector is one-hot.

  Attributes:
    size: experts E.
    selectors: k.
    gamma: width of the smooth step.
    per_example: whether a and z are linear in x, or parameters.
  """

  size: int
  selectors: int
  gamma: float
  per_example: bool

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> Array:
    """Weights ``[B, E]``, and in the last column the penalty ``[B]``."""
    del train
    x = batch['inputs']
    digits = max(1, math.ceil(math.log2(self.size)))

    def small(key, shape, dtype=jnp.float32):
      scale = self.gamma / 100
      return jax.random.uniform(key, shape, dtype, -scale, scale)

    shape = (self.selectors, digits)
    if self.per_example:
      dense = nn.Dense(
        math.prod(shape), use_bias=False, kernel_init=small, name='codes'
      )
      z = dense(x).reshape(-1, *shape)  # [B, k, m]
      a = nn.Dense(self.selectors, use_bias=False, name='mixture')(x)
    else:
      z = self.param('codes', small, shape)[None]
      normal = nn.initializers.normal(0.01)
      a = self.param('mixture', normal, (self.selectors,))[None]
    numbers = np.arange(self.size)[:, None] >> np.arange(digits) & 1  # [E, m]
    s = smooth_step(z, self.gamma)[..., None, :]  # [B, k, 1, m]
    r = jnp.where(numbers == 1, s, 1 - s).prod(-1)  # [B, k, E]
    total = r.sum(-1)
    p = jnp.maximum(r, _TINY)
    penalty = -jnp.where(r > 0, r * jnp.log(p), 0).sum((-1, -2))
    if 2**digits != self.size:
      # Codes of no expert: their weight is lost.
      penalty += (1 / jnp.maximum(total, _TINY)).sum(-1)
    q = (nn.softmax(a)[..., None] * r).sum(-2)  # [B, E]
    found = jnp.concatenate([q, penalty[:, None]], -1)
    return jnp.broadcast_to(found, (x.shape[0], self.size + 1))


def dselect_k(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  experts: int = 8,
  selectors: int = 2,
  gamma: float = 1.0,
  entropy: float = 0.01,
  per_example: bool = True,
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> base.MultiTaskModel:
  r"""Experts of which each task comes to select k, by gates that are smooth.

  `mmoe` with `DSelectGate`. Its penalty is ``entropy`` times the sum over
  tasks of the mean entropy of their selectors; where E is no power of 2, the
  mean of ``1 / sum(r)`` is added to that entropy. It reaches gates only. The
  weights sum to one if E is a power of 2, else at convergence.

  Experts and embedding tables are shared; a gate is its task's own.

  Args:
    trunk: an expert; there are copies of it with parameters of their own.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; the others' gates are then not run.
    experts: number of experts E.
    selectors: k, at most E.
    gamma: width of the smooth step, > 0; smaller ones select sooner.
    entropy: weight of the penalty, >= 0.
    per_example: whether the selection depends on the example.
    gate_inputs: array of the batch that the gates read; '' is what the experts
      read, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> model = dselect_k(models.MLP(widths=(8,)), {'a': models.LinearHead(1)})
    >>> model.shared('gates/a/codes/kernel'), model.penalty is None
    (False, False)

  References:
    Hazimeh et al., DSelect-k: Differentiable selection in the mixture of
    experts with applications to multi-task learning, NeurIPS 2021.
  """
  experts_lib.check_whole('dselect_k', experts=experts, selectors=selectors)
  if selectors > experts:
    raise ValueError(
      f'dselect_k: expected at most as many selectors as the {experts} '
      f'experts, found {selectors}; lower selectors.'
    )
  experts_lib.check_number('dselect_k', 1e-6, math.inf, gamma=gamma)
  experts_lib.check_number('dselect_k', 0, math.inf, entropy=entropy)
  tables = experts_lib.tables_of('dselect_k', embeddings)
  expert = experts_lib.make_expert('dselect_k', trunk, expert_norm, axis_name)
  gate = DSelectGate(experts, selectors, gamma, per_example)

  def read(run, batch):
    return gates.selector(run, trunk, batch, name=gate_inputs, tables=tables)

  def weigh(run, tasks, x):
    groups: copies.Groups = {('gates', t): None for t in tasks}
    return copies.run_copies(run, groups, gate, {'inputs': x})  # [K, B, E + 1]

  def features(run, batch, tasks):
    found = copies.run_copies(
      run, {('experts',): experts}, expert, batch, tables=tables
    )
    weights = weigh(run, tasks, read(run, batch))[..., :experts]
    moe.show_all(run, tasks, found, weights)
    return gates.by_task(tasks, gates.mix(weights, found))

  def penalty(run, batch, tasks):
    if not tasks:
      return 0.0
    x = jax.lax.stop_gradient(read(run, batch))
    return entropy * weigh(run, tasks, x)[..., -1].mean(1).sum()

  return assemble.assemble(
    'dselect_k',
    features,
    heads,
    shared=('experts', 'embeddings'),
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
    penalty=penalty,
    inspects=True,
  )
