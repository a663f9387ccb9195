"""From an architecture to a model: encoders in front, heads behind."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from flax import linen as nn
import jax.numpy as jnp

from mtl_jax.models import interface, items
from mtl_jax.models.sharing import architecture, copies, scope as scope_lib


def build_model(
  sharing: architecture.Sharing,
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
) -> interface.MultiTaskModel:
  """The model of an architecture around a trunk.

  Parameters are those of the architecture, such as ``trunk``, and ``{'heads':
  {task: ...}}``, and ``'inputs'`` if there are input encoders. An encoder reads
  the batch, and the trunk sees its output as the batch's array ``inputs``.

  Encoders are columns of the Jacobian. If each stream has an encoder of its
  own, tasks of other streams have zeros in its columns: tasks of one stream
  meet there, tasks of different streams do not. Other choices are
  ``model._replace(shared=...)``.

  Args:
    sharing: an architecture, such as ``mmoe(experts=8)``.
    trunk: module ``(batch, *, train) -> features``.
    heads: task name to module ``(features, batch, *, train) -> [B, size]``.
    inputs: module ``(batch, *, train) -> [B, ...]`` in front of the trunk;
      one for all streams, or ``{stream: module}``.
    axis_name: the mapped axis, in the manual modes (shard_map, pmap): batch
      statistics are taken over all its devices.
    streams: task -> its stream; parts that only tasks of other streams read are
      then not run. Without it, all tasks read every stream.

  Returns:
    The model, whose state is ``{collection: ...}`` of variables of modules
    besides parameters, ``{}`` if there are none.

  Raises:
    ValueError: if the architecture does not fit the trunk or the tasks.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from mtl_jax import models
    >>> heads = {'like': models.LinearHead(1), 'stars': models.LinearHead(5)}
    >>> trunk = models.MLP(widths=(8,))
    >>> model = models.build_model(models.mmoe(experts=4), trunk, heads)
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
  """
  if not isinstance(sharing, architecture.Sharing):
    raise ValueError(
      'Expected an architecture such as models.mmoe(experts=8), found '
      f'{getattr(sharing, "__name__", type(sharing).__name__)!r}; call it with '
      'its options, and the result is one.'
    )
  if sharing.check is not None:
    sharing.check(trunk, tuple(heads))
  parts = _Parts(sharing, trunk, heads, inputs, axis_name, streams)
  return interface.MultiTaskModel(
    parts.init,
    parts.features,
    interface.Outputs(parts.outputs, parts.heads_alone),
    parts.shared,
    None if sharing.penalty is None else parts.penalty,
    parts.inspect if sharing.inspects else None,
    parts.tables,
  )


@dataclasses.dataclass(frozen=True, eq=False)
class _Parts:
  """The functions of a model; fields as of `build_model`."""

  sharing: architecture.Sharing
  trunk: nn.Module
  heads: Mapping[str, nn.Module]
  inputs: Any
  axis_name: str | None
  streams: Mapping[str, str] | None

  def init(self, key, batch):
    scope = self._scope({}, {}, key=key, start=True)
    features: Any = None
    first = None
    for stream, arrays in batch.items():
      if not scope_lib.get(scope.params, self._encoder(stream)[1]):
        arrays = self._encode(scope, arrays, stream)
      if features is None:
        # All tasks' parameters are made, whatever stream they read.
        features = self.sharing.features(scope, arrays, scope.tasks)
        first = arrays
    for task in self.heads:
      self._head(scope, task, features, first)
    return scope.params, scope.state

  def features(self, params, model_state, batch, *, stream, train, key=None):
    key = scope_lib.fold(key, stream)
    scope = self._scope(params, model_state, key=key, train=train)
    batch = self._encode(scope, batch, stream)
    features = self.sharing.features(scope, batch, self._tasks_of(stream))
    return features, scope.state

  def outputs(
    self, params, model_state, features, batch, *, tasks, train, key=None
  ):
    scope = self._scope(params, model_state, key=key, train=train)
    outputs = {t: self._head(scope, t, features, batch) for t in tasks}
    return outputs, scope.state

  def heads_alone(self, model_state):
    """Heads that keep nothing, each by itself: see `interface.Outputs`."""
    modules = list(self.heads.values())
    keeps = {
      task
      for task in self.heads
      for collection in model_state.values()
      if scope_lib.get(collection, ('heads', task))
    }
    return {
      task: self._head_alone(task, modules.index(module))
      for task, module in self.heads.items()
      if task not in keeps and not getattr(module, 'reads_table', False)
    }

  def _head_alone(self, task, kind):
    def own(features):
      return features[task] if self.sharing.per_task else features

    def apply(params, features, batch, *, train, key):
      scope = self._scope({}, {}, train=train)
      module = self.heads[task]
      return scope.apply(module, params, {}, key, features, batch)[0]

    path = ('heads', task)
    return interface.Head(
      kind, path, own, apply, lambda key: scope_lib.fold(key, '/'.join(path))
    )

  def shared(self, path):
    first = path.split('/')[0]
    if first in ('inputs', 'heads'):
      return first == 'inputs'
    shared = self.sharing.shared
    if callable(shared):
      return shared(path, self.trunk, tuple(self.heads))
    return first in shared

  def penalty(self, params, model_state, batch, *, train, key=None):
    penalty: Any = self.sharing.penalty
    total = 0.0
    for stream, arrays in batch.items():
      # Its draws, and the statistics, are those of `features`.
      of_stream = scope_lib.fold(key, stream)
      scope = self._scope(params, model_state, key=of_stream, train=train)
      arrays = self._encode(scope, arrays, stream)
      total += penalty(scope, arrays, self._tasks_of(stream))
    # Without the tasks' streams, each stream has told of all tasks.
    return total / (len(batch) if self.streams is None else 1)

  def inspect(self, params, model_state, batch, *, stream):
    scope = self._scope(params, model_state, notes={})
    batch = self._encode(scope, batch, stream)
    self.sharing.features(scope, batch, self._tasks_of(stream))
    return scope.notes or {}

  def _scope(self, params, model_state, **options):
    return scope_lib.Scope(
      self.trunk,
      tuple(self.heads),
      self.axis_name,
      params,
      model_state,
      **options,
    )

  def _tasks_of(self, stream):
    if self.streams is None:
      return tuple(self.heads)
    return tuple(t for t in self.heads if self.streams.get(t) == stream)

  def _encoder(self, stream):
    """The stream's encoder, or None, and the path of its variables."""
    if not isinstance(self.inputs, Mapping):
      return self.inputs, ('inputs',)
    _check_name('stream', stream, self.inputs, 'give it an input encoder')
    return self.inputs[stream], ('inputs', stream)

  def _encode(self, scope, arrays, stream):
    """The arrays, with the outputs of the encoders if there are any."""
    module, path = self._encoder(stream)
    if module is None:
      return arrays
    x = scope.call(path, module, arrays)
    encoded = {**arrays, 'inputs': x}
    if self.sharing.task_inputs:
      of_stream = isinstance(self.inputs, Mapping)
      own = self._tasks_of(stream) if of_stream else scope.tasks
      groups: copies.Groups = {
        (architecture.TASK_INPUTS, *path[1:], task): None for task in own
      }
      xs = copies.run_copies(scope, groups, module, arrays) if own else ()
      encoded[architecture.TASK_INPUTS] = jnp.stack(
        [xs[own.index(task)] if task in own else x for task in scope.tasks]
      )
    return encoded

  def _head(self, scope, task, features, batch):
    _check_name('task', task, self.heads, 'give it a head')
    own = features[task] if self.sharing.per_task else features
    head: Any = self.heads[task]
    if getattr(head, 'reads_table', False):
      batch = {**batch, items.TABLE: self._table(scope, task)}
    return scope.call(('heads', task), head, own, batch)

  def _table(self, scope, task):
    """The table of items of the task's input encoder, to be read."""
    stream = (self.streams or {}).get(task, '')
    module, path = self._encoder(stream)
    if not isinstance(module, items.ItemTable):
      raise ValueError(
        f'Expected a table of items for the head of {task!r}, found none among '
        "the input encoders; set model.inputs to {'name': 'items', ...}."
      )
    state = {
      name: scope_lib.get(tree, path) for name, tree in scope.state.items()
    }
    variables = {'params': scope_lib.get(scope.params, path)}
    return module.bind({**variables, **{k: x for k, x in state.items() if x}})

  @property
  def tables(self):
    """See `MultiTaskModel.tables`."""
    if not isinstance(self.inputs, items.ItemTable) or self.sharing.task_inputs:
      return None  # copies of the encoder have tables of their own
    return items.tables_read(self.inputs, self.heads, self.streams or {})


def _check_name(kind, name, known, advice):
  if name not in known:
    raise ValueError(
      f'Expected a {kind} among {", ".join(sorted(known))}, found {name!r}; '
      f'{advice}.'
    )
