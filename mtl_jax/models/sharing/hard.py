"""Hard parameter sharing: one trunk for all tasks, a head for each."""

from collections.abc import Mapping

from flax import linen as nn

from mtl_jax.models import base
from mtl_jax.models.sharing import assemble, run as run_lib


def hard_sharing(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
) -> base.MultiTaskModel:
  """One trunk for every stream and task, and a head for each task.

  Parameters are ``{'trunk': ..., 'heads': {task: ...}}``, and ``'inputs'``
  where there are input encoders. An encoder reads the batch, and the trunk
  sees what it returns as the batch's array ``inputs``.

  Trunk and encoders are columns of the Jacobian. Where each stream has an
  encoder of its own, tasks of other streams have zeros in its columns: tasks
  of one stream meet there, tasks of different streams do not. Other choices
  are ``model._replace(shared=...)``.

  Args:
    trunk: module ``(batch, *, train) -> features``.
    heads: task name to module ``(features, batch, *, train) -> [B, size]``.
    inputs: module ``(batch, *, train) -> [B, ...]`` in front of the trunk;
      one for all streams, or ``{stream: module}``.
    axis_name: the mapped axis, in the manual modes (shard_map, pmap): batch
      statistics are taken over all its devices.

  Returns:
    The model, whose state is ``{collection: ...}`` of what modules keep
    besides parameters, ``{}`` if they keep nothing.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from mtl_jax import models
    >>> heads = {'like': models.LinearHead(1), 'stars': models.LinearHead(5)}
    >>> model = hard_sharing(models.MLP(widths=(8,)), heads)
    >>> batch = {'inputs': jnp.ones((4, 3))}
    >>> params, state = model.init(jax.random.key(0), {'main': batch})
    >>> features, state = model.features(
    ...   params, state, batch, stream='main', train=False, key=None
    ... )
    >>> outputs, state = model.outputs(
    ...   params, state, features, batch, tasks=['stars'], train=False, key=None
    ... )
    >>> outputs['stars'].shape
    (4, 5)

  References:
    Caruana, Multitask learning, Machine Learning 1997.
  """
  trunk = run_lib.place(trunk, axis_name)

  def features(run, batch, tasks):
    del tasks
    return run.call(('trunk',), trunk, batch)

  return assemble.assemble(
    'hard_sharing',
    features,
    heads,
    shared=('trunk',),
    inputs=inputs,
    axis_name=axis_name,
    per_task=False,
  )
