"""Gates that personalise what the trunk reads, and each task's layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import base, inputs as inputs_lib
from mtl_jax.models.sharing import (
  assemble,
  copies,
  experts as experts_lib,
  gates,
  run as run_lib,
  scaled,
)

Array = jax.Array
_SIDE = 'domain_side'  # the encoded domain, in the batch of the trunk


def pepnet(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  domain: Mapping[str, Any] | None = None,
  prior: Mapping[str, Any] | None = None,
  hidden: int = 64,
  tower_widths: Sequence[int] = (64,),
) -> base.MultiTaskModel:
  r"""Gates that scale embeddings by domain, and task layers by user and item.

  With e what the trunk reads, d the domain, p what is known of the user and
  the item, sg a stop of the gradient, and a gate
  :math:`g(x) = 2 \sigma(\mathrm{relu}(x W_1 + b_1) W_2 + b_2)`:

  .. math:: \tilde e = g(d, \mathrm{sg}(e)) \odot e, \quad
    z_k^0 = g_k^0 \odot f(\tilde e), \quad
    z_k^l = g_k^l \odot \mathrm{relu}(W_k^l z_k^{l-1} + b_k^l)

  with :math:`g_k^l = g_k^l(p, \mathrm{sg}(\tilde e))`. The first is EPNet, the
  others are PPNet, on whatever a layer of a task's tower or its head reads. So
  gates of PPNet learn nothing of what the trunk reads, but from p. Of steps,
  gates read the mean, and of images the pixels, which EPNet does not scale.

  Trunk, EPNet and the encoders of d and p are shared; towers and their gates
  are their task's own.

  Args:
    trunk: f, of all tasks.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; the others' towers are then not run.
    domain: options of the `InputEncoder` of d, such as ``{'categorical':
      {'tab': (3, 8)}}``; None for no d.
    prior: those of p.
    hidden: units of each gate.
    tower_widths: units of the layers of a task's tower, in front of its head.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'like': models.LinearHead(1), 'share': models.LinearHead(1)}
    >>> prior = {'categorical': {'user': (90, 16)}}
    >>> model = pepnet(models.MLP(widths=(8,)), heads, prior=prior)
    >>> paths = ('prior/embed_user/embedding', 'scales_1/like/up/kernel')
    >>> [model.shared(path) for path in paths]
    [True, False]

  References:
    Chang et al., PEPNet: Parameter and embedding personalized network for
    infusing with personalized prior information, KDD 2023. There is no trunk
    between embeddings and towers there, which is an `MLP` without widths here.
    ``hidden`` is that of FuxiCTR's PPNet.
  """
  experts_lib.check_whole('pepnet', hidden=hidden)
  for width in tower_widths:
    experts_lib.check_whole('pepnet', tower_widths=width)
  of_domain = inputs_lib.InputEncoder(**domain) if domain else None
  of_prior = inputs_lib.InputEncoder(**prior) if prior else None
  bottom = scaled.Scaled(
    run_lib.place(trunk, axis_name),
    hidden,
    side=_SIDE if domain else '',
    with_inputs=True,
  )

  def scale(run, level, tasks, z, known):
    """``[K, B, ..., F]`` times the gates of a level, of ``[K or 1, ...]``."""
    groups: copies.Groups = {(f'scales_{level}', task): None for task in tasks}
    gate = scaled.Scale(z.shape[-1], hidden)
    g = copies.run_copies(run, groups, gate, {'inputs': known}).astype(z.dtype)
    return z * g.reshape(*g.shape[:2], *(1,) * (z.ndim - 3), g.shape[-1])

  def features(run, batch, tasks):
    side = {}
    if of_domain is not None:
      side[_SIDE] = run.call(('domain',), of_domain, batch)
    z, known = run.call(('trunk',), bottom, {**batch, **side})
    known = jax.lax.stop_gradient(known)
    if of_prior is not None:
      p = run.call(('prior',), of_prior, batch)
      known = jnp.concatenate([p, known], -1)
    z = scale(run, 0, tasks, z[None], known)
    for level, width in enumerate(tower_widths, start=1):
      groups: copies.Groups = {
        (f'towers_{level}', task): None for task in tasks
      }
      layer = gates.Layers((width,), dtype=getattr(trunk, 'dtype', None))
      z = copies.run_copies(run, groups, layer, {}, own={'inputs': z})
      z = scale(run, level, tasks, z, known)
    return gates.by_task(tasks, z)

  return assemble.assemble(
    'pepnet',
    features,
    heads,
    shared=('trunk', 'domain', 'prior'),
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
  )
