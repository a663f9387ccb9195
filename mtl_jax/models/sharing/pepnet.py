"""Gates that personalise the trunk's inputs, and each task's layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.models import inputs as inputs_lib
from mtl_jax.models.sharing import copies, gates, options, scaled
from mtl_jax.models.sharing.architecture import Sharing

_SIDE = 'domain_side'  # the encoded domain, in the batch of the trunk


def pepnet(
  *,
  domain: Mapping[str, Any] | None = None,
  prior: Mapping[str, Any] | None = None,
  hidden: int = 64,
  tower_widths: Sequence[int] = (64,),
) -> Sharing:
  r"""Gates that scale embeddings by domain, and task layers by user and item.

  With inputs e of the trunk f, the domain d, features p of the user and the
  item, sg a stop of the gradient, and a gate
  :math:`g(x) = 2 \sigma(\mathrm{relu}(x W_1 + b_1) W_2 + b_2)`:

  .. math:: \tilde e = g(d, \mathrm{sg}(e)) \odot e, \quad
    z_k^0 = g_k^0 \odot f(\tilde e), \quad
    z_k^l = g_k^l \odot \mathrm{relu}(W_k^l z_k^{l-1} + b_k^l)

  with :math:`g_k^l = g_k^l(p, \mathrm{sg}(\tilde e))`. The first is EPNet, the
  others are PPNet, on the inputs of each layer of a task's tower and of its
  head. So gates of PPNet train no trunk and no encoder but that of p. Of
  steps, gates read the mean, and of images the pixels, which EPNet does not
  scale.

  Trunk, EPNet and the encoders of d and p are shared; towers and their gates
  are their task's own.

  Args:
    domain: options of the `InputEncoder` of d, such as ``{'categorical':
      {'tab': (3, 8)}}``; None for no d.
    prior: those of p.
    hidden: units of each gate.
    tower_widths: units of the layers of a task's tower, in front of its head.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'like': models.LinearHead(1), 'share': models.LinearHead(1)}
    >>> prior = {'categorical': {'user': (90, 16)}}
    >>> sharing = pepnet(prior=prior)
    >>> model = models.build_model(sharing, models.MLP(widths=(8,)), heads)
    >>> paths = ('prior/embed_user/embedding', 'scales_1/like/up/kernel')
    >>> [model.shared(path) for path in paths]
    [True, False]

  References:
    Chang et al., PEPNet: Parameter and embedding personalized network for
    infusing with personalized prior information, KDD 2023. There is no trunk
    between embeddings and towers there, which is an `MLP` without widths here.
    ``hidden`` is that of FuxiCTR's PPNet.
  """
  options.check_whole('pepnet', hidden=hidden)
  for width in tower_widths:
    options.check_whole('pepnet', tower_widths=width)
  of_domain = inputs_lib.InputEncoder(**domain) if domain else None
  of_prior = inputs_lib.InputEncoder(**prior) if prior else None

  def scale(scope, level, tasks, z, known):
    """``[K, B, ..., F]`` times the gates of a level, of ``[K or 1, ...]``."""
    gate = scaled.Scale(z.shape[-1], hidden)
    g = copies.run_each(scope, f'scales_{level}', tasks, gate, known)
    g = g.astype(z.dtype)
    if gates.per_step(scope.trunk):
      return z * g.reshape(len(tasks), *z.shape[1:])
    return z * g.reshape(*g.shape[:2], *(1,) * (z.ndim - 3), g.shape[-1])

  def features(scope, batch, tasks):
    side = {}
    if of_domain is not None:
      side[_SIDE] = scope.call(('domain',), of_domain, batch)
    bottom = scaled.ScaledInputs(
      scope.trunk, hidden, side=_SIDE if side else '', with_inputs=True
    )
    z, known = scope.call(('trunk',), bottom, {**batch, **side})
    known = jax.lax.stop_gradient(known)
    if of_prior is not None:
      p = scope.call(('prior',), of_prior, batch)
      p = jnp.repeat(p, len(known) // len(p), axis=0)  # of every step
      known = jnp.concatenate([p, known], -1)
    z = scale(scope, 0, tasks, z[None], known)
    for level, width in enumerate(tower_widths, start=1):
      groups: copies.Groups = {
        (f'towers_{level}', task): None for task in tasks
      }
      dtype = getattr(scope.trunk, 'dtype', None)
      layer = gates.Layers((width,), dtype=dtype)
      z = copies.run_copies(scope, groups, layer, {}, own={'inputs': z})
      z = scale(scope, level, tasks, z, known)
    return gates.by_task(tasks, z)

  return Sharing(features, shared=('trunk', 'domain', 'prior'))
