"""Hard parameter sharing: one trunk for all tasks, a head for each."""

from collections.abc import Mapping
from typing import Any
import zlib

from flax import linen as nn
import jax

from mtl_jax.models import base


def _fold(key, name):
  # The name's own hash: what a part draws does not depend on its neighbours.
  if key is None:
    return None
  return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _get(tree, *path):
  for name in path:
    tree = tree.get(name, {})
  return tree


def _set(tree, path, value):
  if not path:
    return value
  head, *rest = path
  return {**tree, head: _set(tree.get(head, {}), rest, value)}


def _init(module, key, path, params, state, *args):
  """Initial variables of one module, put at ``path``; and its output."""
  key = _fold(key, '/'.join(path))
  output, variables = module.init_with_output(key, *args, train=False)
  params = _set(params, path, variables.pop('params', {}))
  for name, collection in variables.items():
    state = _set(state, (name, *path), collection)
  return output, params, state


def _apply(module, path, params, state, *args, train, key):
  """Output of the module whose variables lie at ``path``; and new state."""
  own = {name: _get(state[name], *path) for name in state}
  own = {name: collection for name, collection in own.items() if collection}
  variables = {'params': _get(params, *path), **own}
  rngs = {} if key is None else {'dropout': _fold(key, '/'.join(path))}
  if not (train and own):
    return module.apply(variables, *args, train=train, rngs=rngs), state
  output, new = module.apply(
    variables, *args, train=train, rngs=rngs, mutable=list(own)
  )
  for name, collection in new.items():
    state = _set(state, (name, *path), collection)
  return output, state


def _place(module: Any, axis_name: str | None) -> Any:
  """The module, or modules, with the mapped axis set where they take one."""
  if isinstance(module, Mapping):
    return {name: _place(part, axis_name) for name, part in module.items()}
  if axis_name is None or not hasattr(module, 'axis_name'):
    return module
  return module.clone(axis_name=axis_name)


def _choose(modules, name, what, advice):
  if name not in modules:
    raise ValueError(
      f'hard_sharing: expected {what} among {", ".join(sorted(modules))}, '
      f'found {name!r}; {advice}.'
    )
  return modules[name]


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
    >>> from mtl_jax import models
    >>> heads = {'like': models.LinearHead(1), 'stars': models.LinearHead(5)}
    >>> model = hard_sharing(models.MLP(widths=(8,)), heads)
    >>> batch = {'inputs': jax.numpy.ones((4, 3))}
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
  trunk = _place(trunk, axis_name)
  heads = _place(heads, axis_name)
  inputs = _place(inputs, axis_name)

  def encoder(stream):
    if not isinstance(inputs, Mapping):
      return inputs, ('inputs',)
    module = _choose(inputs, stream, 'a stream', 'give it an input encoder')
    return module, ('inputs', stream)

  def init(key, batch):
    params, state, features, first = {}, {}, None, None
    for stream, arrays in batch.items():
      module, path = encoder(stream)
      if module is not None and not _get(params, *path):
        encoded, params, state = _init(module, key, path, params, state, arrays)
        arrays = {**arrays, 'inputs': encoded}
      if features is None:
        features, params, state = _init(
          trunk, key, ('trunk',), params, state, arrays
        )
        first = arrays
    for task, head in heads.items():
      _, params, state = _init(
        head, key, ('heads', task), params, state, features, first
      )
    return params, state

  def features(params, model_state, batch, *, stream, train, key=None):
    key = _fold(key, stream)
    module, path = encoder(stream)
    if module is not None:
      encoded, model_state = _apply(
        module, path, params, model_state, batch, train=train, key=key
      )
      batch = {**batch, 'inputs': encoded}
    return _apply(
      trunk, ('trunk',), params, model_state, batch, train=train, key=key
    )

  def outputs(params, model_state, features, batch, *, tasks, train, key=None):
    results = {}
    for task in tasks:
      head = _choose(heads, task, 'a task', 'give it a head')
      results[task], model_state = _apply(
        head,
        ('heads', task),
        params,
        model_state,
        features,
        batch,
        train=train,
        key=key,
      )
    return results, model_state

  def shared(path):
    return path.split('/')[0] in ('trunk', 'inputs')

  return base.MultiTaskModel(init, features, outputs, shared)
