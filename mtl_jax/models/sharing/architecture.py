"""The record that an architecture is."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from flax import linen as nn

from mtl_jax.models.sharing import scope as scope_lib

# Name in the batch of the outputs of tasks' own encoders: ``[K, B, ...]`` for
# the K tasks of the model.
TASK_INPUTS = 'task_inputs'


class Sharing(NamedTuple):
  """An architecture: how features of tasks come of a trunk, and who shares.

  `mtl_jax.models.build_model` puts encoders in front and heads behind.

  Attributes:
    features: ``(scope, batch, tasks) -> features``, ``{task: [B, ...]}`` for
      the tasks named, which may be a part of ``scope.tasks``. It calls modules
      and makes parameters through the `scope.Scope`, which has the trunk.
    shared: first names of the paths that are shared; or ``(path, trunk, tasks)
      -> bool`` for all tasks of the model. Encoders are shared in any case.
    per_task: False if the features are one array ``[B, ...]`` for all tasks.
    penalty: ``(scope, batch, tasks) -> []``: a sum over the tasks named.
    check: ``(trunk, tasks)``: raises a ValueError if the architecture does not
      fit them.
    task_inputs: whether each task has a copy of the encoder besides, whose
      output is in the batch as `TASK_INPUTS`. If streams have encoders of their
      own, tasks of other streams have the shared output.
    inspects: whether the features note experts and weights, see `inspection`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from mtl_jax import models
    >>> def scaled(scope, batch, tasks):
    ...   z = scope.call(('trunk',), scope.trunk, batch)
    ...   a = [scope.param(('a', t), lambda key: jnp.ones(())) for t in tasks]
    ...   return {task: a[k] * z for k, task in enumerate(tasks)}
    >>> model = models.build_model(
    ...   Sharing(scaled, shared=('trunk',)),
    ...   models.MLP(widths=(8,)),
    ...   {'like': models.LinearHead(1)},
    ... )
    >>> params, _ = model.init(
    ...   jax.random.key(0), {'main': {'inputs': jnp.ones((2, 3))}}
    ... )
    >>> sorted(params), model.shared('a/like')
    (['a', 'heads', 'trunk'], False)
  """

  features: Callable[[scope_lib.Scope, Mapping[str, Any], Sequence[str]], Any]
  shared: Callable[[str, nn.Module, tuple[str, ...]], bool] | Collection[str]
  per_task: bool = True
  penalty: Callable[..., Any] | None = None
  check: Callable[[nn.Module, tuple[str, ...]], None] | None = None
  task_inputs: bool = False
  inspects: bool = False
