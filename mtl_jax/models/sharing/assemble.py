"""From a way of sharing to a model: encoders in front, heads behind."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from flax import linen as nn
import jax.numpy as jnp

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  copies,
  run as run_lib,
)

# ``(run, batch, tasks) -> features``, ``[B, ...]`` or ``{task: [B, ...]}``.
Trunk = Callable[[run_lib.Run, Mapping[str, Any], tuple[str, ...]], Any]
# Name in the batch of what the encoders of the tasks' own made: ``[K, B, ...]``
# for the K tasks that have heads.
TASK_INPUTS = 'task_inputs'


def assemble(
  owner: str,
  trunk: Trunk,
  heads: Mapping[str, nn.Module],
  *,
  shared: Callable[[str], bool] | Collection[str],
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  per_task: bool = True,
  penalty: Callable[..., Any] | None = None,
  task_inputs: bool = False,
  inspects: bool = False,
) -> base.MultiTaskModel:
  """The model of an architecture.

  Args:
    owner: its name, for messages.
    trunk: ``(run, batch, tasks) -> features``, whose modules know the mapped
      axis.
    heads: task name to module ``(features, batch, *, train) -> [B, size]``.
    shared: ``path -> bool``, or the first names of the paths that are.
      Encoders are shared in any case.
    inputs: encoders, as in `hard_sharing`.
    axis_name: the mapped axis, of encoders and heads.
    streams: task -> its stream; without it, all tasks read every stream.
    per_task: whether the features are ``{task: [B, ...]}``.
    penalty: ``(run, batch, tasks) -> []``: a sum over the tasks named.
    task_inputs: whether each task has a copy of the encoder besides, whose
      output the trunk finds in the batch as `TASK_INPUTS`. Where streams have
      encoders of their own, tasks of other streams have the shared output.
    inspects: whether the trunk notes experts and weights, see `inspection`.
  """
  heads = run_lib.place(heads, axis_name)
  inputs = run_lib.place(inputs, axis_name)

  def choose(modules, name, what, advice):
    if name not in modules:
      raise ValueError(
        f'{owner}: expected {what} among {", ".join(sorted(modules))}, '
        f'found {name!r}; {advice}.'
      )
    return modules[name]

  def encoder(stream):
    if not isinstance(inputs, Mapping):
      return inputs, ('inputs',)
    module = choose(inputs, stream, 'a stream', 'give it an input encoder')
    return module, ('inputs', stream)

  def tasks_of(stream):
    if streams is None:
      return tuple(heads)
    return tuple(task for task in heads if streams.get(task) == stream)

  def encode(run, arrays, stream):
    module, path = encoder(stream)
    if module is None:
      return arrays
    x = run.call(path, module, arrays)
    encoded = {**arrays, 'inputs': x}
    if task_inputs:
      own = tasks_of(stream) if isinstance(inputs, Mapping) else tuple(heads)
      groups: copies.Groups = {
        (TASK_INPUTS, *path[1:], task): None for task in own
      }
      xs = copies.run_copies(run, groups, module, arrays) if own else ()
      encoded[TASK_INPUTS] = jnp.stack(
        [xs[own.index(task)] if task in own else x for task in heads]
      )
    return encoded

  def init(key, batch):
    run = run_lib.Run({}, {}, key=key, start=True)
    features: Any = None
    first = None
    for stream, arrays in batch.items():
      if not run_lib.get(run.params, encoder(stream)[1]):
        arrays = encode(run, arrays, stream)
      if features is None:
        # All tasks' parameters are made, whatever stream they read.
        features, first = trunk(run, arrays, tuple(heads)), arrays
    for task, head in heads.items():
      own = features[task] if per_task else features
      run.call(('heads', task), head, own, first)
    return run.params, run.state

  def features(params, model_state, batch, *, stream, train, key=None):
    key = run_lib.fold(key, stream)
    run = run_lib.Run(params, model_state, key=key, train=train)
    return trunk(run, encode(run, batch, stream), tasks_of(stream)), run.state

  def inspect(params, model_state, batch, *, stream):
    run = run_lib.Run(params, model_state, notes={})
    trunk(run, encode(run, batch, stream), tasks_of(stream))
    return run.notes or {}

  def outputs(params, model_state, features, batch, *, tasks, train, key=None):
    run = run_lib.Run(params, model_state, key=key, train=train)
    results = {}
    for task in tasks:
      head = choose(heads, task, 'a task', 'give it a head')
      own = features[task] if per_task else features
      results[task] = run.call(('heads', task), head, own, batch)
    return results, run.state

  def total_penalty(params, model_state, batch, *, train, key=None):
    assert penalty is not None
    total = 0.0
    for stream, arrays in batch.items():
      # Its draws, and the statistics, are those of `features`.
      run = run_lib.Run(
        params, model_state, key=run_lib.fold(key, stream), train=train
      )
      total += penalty(run, encode(run, arrays, stream), tasks_of(stream))
    # Without the tasks' streams, each stream has told of all tasks.
    return total / (len(batch) if streams is None else 1)

  def is_shared(path):
    first = path.split('/')[0]
    if first in ('inputs', 'heads'):
      return first == 'inputs'
    return shared(path) if callable(shared) else first in shared

  return base.MultiTaskModel(
    init,
    features,
    outputs,
    is_shared,
    None if penalty is None else total_penalty,
    inspect if inspects else None,
  )
