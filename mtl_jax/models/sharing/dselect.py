"""DSelect-k: gates that select k experts, and are smooth."""

from collections.abc import Mapping
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.models.sharing import (
  copies,
  expert_layers,
  gates,
  inspection,
  options,
)
from mtl_jax.models.sharing.architecture import Sharing

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
    gated = jnp.concatenate([q, penalty[:, None]], -1)
    return jnp.broadcast_to(gated, (x.shape[0], self.size + 1))


def dselect_k(
  *,
  experts: int = 8,
  selectors: int = 2,
  gamma: float = 1.0,
  entropy: float = 0.01,
  per_example: bool = True,
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> Sharing:
  r"""Experts of which each task comes to select k, by smooth gates.

  `mmoe` with `DSelectGate`. Its penalty is ``entropy`` times the sum over
  tasks of the mean entropy of their selectors; where E is no power of 2, the
  mean of ``1 / sum(r)`` is added to that entropy. It reaches gates only. The
  weights sum to one if E is a power of 2, else at convergence.

  Experts and embedding tables are shared; a gate is its task's own.

  Args:
    experts: number of experts E.
    selectors: k, at most E.
    gamma: width of the smooth step, > 0; smaller ones select sooner.
    entropy: weight of the penalty, >= 0.
    per_example: whether the selection depends on the example.
    gate_inputs: array of the batch that the gates read; '' is that of the
      experts, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1)}
    >>> model = models.build_model(dselect_k(), models.MLP(widths=(8,)), heads)
    >>> model.shared('gates/a/codes/kernel'), model.penalty is None
    (False, False)

  References:
    Hazimeh et al., DSelect-k: Differentiable selection in the mixture of
    experts with applications to multi-task learning, NeurIPS 2021.
  """
  options.check_whole('dselect_k', experts=experts, selectors=selectors)
  if selectors > experts:
    raise ValueError(
      f'dselect_k: expected at most as many selectors as the {experts} '
      f'experts, found {selectors}; lower selectors.'
    )
  options.check_number('dselect_k', 1e-6, math.inf, gamma=gamma)
  options.check_number('dselect_k', 0, math.inf, entropy=entropy)
  layer = expert_layers.Experts(
    owner='dselect_k',
    embeddings=embeddings,
    norm=expert_norm,
    gate_inputs=gate_inputs,
  )
  gate = DSelectGate(experts, selectors, gamma, per_example)

  def features(scope, batch, tasks):
    outputs = layer.first(scope, {('experts',): experts}, batch)
    x = layer.read(scope, batch)
    gated = copies.run_each(scope, 'gates', tasks, gate, x)  # [K, B, E + 1]
    weights = gated[..., :experts]
    counts = {inspection.SHARED: experts}
    inspection.note(scope, 1, counts, outputs, tasks, weights)
    return gates.by_task(tasks, gates.mix(weights, outputs))

  def penalty(scope, batch, tasks):
    if not tasks:
      return 0.0
    x = jax.lax.stop_gradient(layer.read(scope, batch))
    gated = copies.run_each(scope, 'gates', tasks, gate, x)
    return entropy * gated[..., -1].mean(1).sum()

  return Sharing(
    features, ('experts', 'embeddings'), penalty=penalty, inspects=True
  )
