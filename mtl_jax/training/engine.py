"""Task gradients of a model: over all devices, and over microbatches."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import combinators, tasks as tasks_lib
from mtl_jax.combinators import rows as rows_lib
from mtl_jax.models import interface
from mtl_jax.training import (
  backward,
  forward as forward_lib,
  gramians,
  jaxprs,
  microbatches,
  touched_rows,
)

Array = jax.Array
# What a step builder needs beside the engine.
Batch = forward_lib.Batch
loss_sum, per_example = forward_lib.loss_sum, forward_lib.per_example


@dataclasses.dataclass(frozen=True)
class Engine:
  """Makes the lazy task gradients of a model.

  The loss of a task is its mean over the labelled examples of the whole batch:
  sums and counts are reduced over devices and microbatches first, and divided
  once. Gradients are reduced before the Gramian, which is not linear.

  Attributes:
    model: pure functions; built with the same ``axis_name`` if it has any
      statistics over the batch.
    tasks: K of them; all that is ``[K]`` is in this order.
    frozen: ``path -> bool``: parameters without gradient.
    accumulate: number M of microbatches. It holds the activations of B / M
      examples at a time and one sum of task gradients ``[K, d]`` if the method
      asks for a Gramian; weights that come from losses cost a second forward
      pass, for the losses of the whole batch must be known first.
    gramian: how the Gramian is made. Up to rounding these are the same:
      'stacked' keeps the K x d Jacobian, from one backward pass vmapped over
      the tasks, for `combine`, which makes a pass of its own with the others:
      'chunked', ``chunk`` tasks at a time, which holds fewer activations, and
      'layerwise', where each layer is dropped when it is multiplied (with M > 1
      it is 'stacked'); 'auto' is one of them, see `gramians.plan`. 'features'
      is another matrix, of the gradients at the features (MGDA-UB).
    chunk: tasks at a time, of 'chunked'; 0 = as 'auto' would.
    axis_name: mapped axis over devices, or None under plain jit.

  Raises:
    ValueError: if the way to the Gramian is unknown.
  """

  model: interface.MultiTaskModel
  tasks: Sequence[tasks_lib.Task]
  frozen: Callable[[str], bool] = lambda path: False
  _: dataclasses.KW_ONLY
  accumulate: int = 1
  gramian: str = 'stacked'
  chunk: int = 0
  axis_name: str | None = None

  def __post_init__(self):
    gramians.check(self.gramian, self.chunk)

  def __call__(
    self,
    params: Any,
    model_state: Any,
    batch: forward_lib.Batch,
    *,
    key: Array | None = None,
    train: bool = True,
  ) -> tuple[combinators.TaskGradients, Any]:
    """The task gradients of one batch, and the model state after the pass.

    Args:
      params: pytree; the same on every device.
      model_state: batch statistics and the like.
      batch: ``{stream: {name: [B, ...]}}``, this device's part of it in the
        manual modes (axis_name given), all of it otherwise; streams that no
        task reads are passed over.
      key: for dropout, of this step; None where the model draws nothing.
      train: whether the model is in training mode.

    Raises:
      ValueError: if the batch does not divide into M microbatches.
    """
    plan = self.plan(params, model_state, batch, key=key, train=train)
    engine = dataclasses.replace(self, gramian=plan.gramian, chunk=plan.chunk)
    network = engine.network(params, train)
    own, own_key = engine.of_device(params, key)
    run = functools.partial(forward_lib.forward, network, own)
    if engine.accumulate == 1:
      devices = engine.num_devices() if engine.gramian == 'layerwise' else 0
      parts: Any = run(model_state, batch, key=own_key, devices=devices)
    else:
      parts = microbatches.Microbatches(
        run, batch, model_state, own_key, engine.accumulate, engine.axis_name
      )
    passes = _Passes(
      engine, network, parts, own, own_key, (params, model_state, batch, key)
    )
    gradients = combinators.TaskGradients(
      passes.losses,
      passes.counts > 0,
      passes.counts,
      passes.on_demand(),
      alone=passes.alone,
    )
    return gradients, passes.new_state

  def network(self, params: Any, train: bool = True) -> forward_lib.Network:
    """Model and tasks, with what is known of each parameter.

    Args:
      params: arrays or their shapes.
      train: whether the model is in training mode.
    """
    leaves = forward_lib.describe_leaves(params, self.model.shared, self.frozen)
    return forward_lib.Network(self.model, self.tasks, leaves, train)

  def num_devices(self) -> int:
    """Devices that the axis is mapped over; 1 under plain jit."""
    return 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)

  def of_device(self, params: Any, key: Any) -> tuple[Any, Any]:
    """Parameters and key of this device, so that gradients are its own."""
    if self.axis_name is None:
      return params, key
    # Gradients of parameters that vary are local, whatever shard_map checks;
    # the psum is then always ours.
    params = jax.lax.pcast(params, self.axis_name, to='varying')
    if key is not None:
      key = jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))
    return params, key

  def at_rows(
    self, params: Any, batch: forward_lib.Batch
  ) -> tuple['Engine', touched_rows.TouchedRows | None]:
    """The engine of narrow parameters, and the rows that a batch reads.

    Where the model has tables, ``engine.at_rows(params, batch)`` gives another
    engine, for ``rows.take(params)``, whose task gradients have ``[R, ...]``
    for these tables; else the same one, and None.

    Args:
      params: all of them.
      batch: of this device in the manual modes.
    """
    if not self.model.tables:
      return self, None
    rows = touched_rows.touched_rows(self.model, params, batch, self.axis_name)
    return dataclasses.replace(self, model=rows.model(self.model)), rows

  def plan(
    self, *arguments: Any, memory: float | None = None, **options: Any
  ) -> gramians.Choice:
    """The way to the Gramian, chosen where it is left to choose.

    Args:
      *arguments: of `shapes`.
      memory: bytes that may be held for the Gramian; by default a quarter of
        the device's, or 1 GiB where it does not say.
      **options: of `shapes`.
    """
    shapes = functools.partial(self.shapes, *arguments, **options)
    return gramians.plan(shapes, self.gramian, self.chunk, memory)

  def shapes(
    self,
    params: Any,
    model_state: Any,
    batch: forward_lib.Batch,
    *,
    key: Array | None = None,
    train: bool = True,
    devices: int = 1,
  ) -> gramians.Shapes:
    """Operations and bytes that a way is chosen by.

    Args:
      params: arrays or their shapes, as all that follows.
      model_state: before the step.
      batch: what one device sees of a batch.
      key: for dropout.
      train: whether the model is in training mode.
      devices: over how many of them the batch's examples are gathered, in the
        manual modes.
    """
    return gramians.shapes_of(
      self.network(params, train),
      params,
      model_state,
      batch,
      key=key,
      accumulate=self.accumulate,
      devices=devices,
    )


class _Passes:
  """The passes over one batch: sums over devices and microbatches."""

  def __init__(self, engine, network, parts, params, key, arguments):
    self._engine, self._arguments = engine, arguments
    self._train, self._leaves = network.train, network.leaves
    self._axis_name = engine.axis_name
    self._params, self._key = params, key
    whole = engine.accumulate == 1
    # With microbatches the sum of the rows is held anyway.
    self._lazy = whole and engine.gramian in ('chunked', 'layerwise')
    self._sparse = whole and engine.gramian == 'layerwise'
    self._over = parts.total
    sums, counts, self.new_state, self.alone = parts.losses(len(engine.tasks))
    sums, self.counts = self._reduce((sums, counts))
    self._per_example = forward_lib.per_example(self.counts)
    self.losses = sums * self._per_example

  def on_demand(self) -> combinators.Passes:
    """Functions that the task gradients are made of."""
    return combinators.Passes(
      pullback=self._pullback,
      rows=lambda: self._rows(self._per_example),
      rows_after=self._rows_after if self._lazy else None,
      gramian_rows=self._gramian_rows if self._sparse else None,
      feature_gramian=self._feature_gramian,
      gramian_of_features=self._engine.gramian == 'features',
      features=self._features,
      feature_pullback=self._feature_pullback,
      split=self._split,
      penalty=None if self._engine.model.penalty is None else self._penalty,
    )

  def _split(self, number):
    # Passes of their own: batch statistics are then independent too.
    params, model_state, batch, key = self._arguments
    parts = microbatches.split(batch, number, 'parts')
    return [
      self._engine(
        params,
        model_state,
        jax.tree.map(lambda x, i=i: x[i], parts),
        key=None if key is None else jax.random.fold_in(key, i),
        train=self._train,
      )[0]
      for i in range(number)
    ]

  def _reduce(self, tree):
    # Over the data axis: local sums become sums over the global batch.
    if self._axis_name is None:
      return tree
    return jax.lax.psum(tree, self._axis_name)

  def _penalty(self):
    """Of the whole batch at once, also where there are microbatches."""
    _, model_state, batch, _ = self._arguments

    def penalty(params):
      return self._engine.model.penalty(
        params, model_state, batch, train=self._train, key=self._key
      )

    flat, treedef = jax.tree.flatten(jax.grad(penalty)(self._params))
    # A mean over devices, whose parts of the batch are of one size.
    devices = self._engine.num_devices()
    return self._reduce(
      treedef.unflatten(
        [
          jnp.zeros_like(g) if leaf.frozen else g / devices
          for g, leaf in zip(flat, self._leaves, strict=True)
        ]
      )
    )

  def _gradient(self, of_pass):
    def tree(pass_):
      return backward.gradient_tree(self._params, of_pass(pass_))

    return self._reduce(self._over(tree))

  def _pullback(self, v, u):
    v_sum, same = v * self._per_example, v is u
    u_sum = v_sum if same else u * self._per_example
    return self._gradient(
      lambda pass_: backward.pullback(pass_, self._leaves, v_sum, u_sum)
    )

  def _rows(self, scales):
    def of_pass(pass_):
      part = backward.rows(pass_, self._leaves, scales, self._engine.chunk)
      return backward.rows_tree(self._params, self._leaves, part, len(scales))

    return self._reduce(self._over(of_pass))

  def _rows_after(self, x):
    return self._rows(backward.after(self._per_example, x))

  def _gramian_rows(self):
    def of_pass(pass_):
      return backward.rows_and_reads(pass_, self._leaves, self._per_example)

    rows, reads = self._over(of_pass)
    kinds = self._over(lambda pass_: pass_.kinds)
    rows = self._reduce(rows)
    for i, (operands, cotangents) in reads.items():
      # Of all devices: two examples meet in an inner product.
      operands = touched_rows.gather(operands, self._axis_name)
      cotangents = touched_rows.gather(cotangents, self._axis_name, 1)
      if kinds[i] == jaxprs.LOOKUP:
        rows[i] = touched_rows.compact(operands, cotangents)
      else:
        rows[i] = rows_lib.Factored(operands, cotangents)
    return backward.rows_tree(
      self._params, self._leaves, rows, len(self.losses)
    )

  def _feature_gramian(self):
    return self._reduce(
      self._over(
        lambda pass_: backward.feature_gramian(pass_, self._per_example)
      )
    )

  def _features(self):
    self._check_whole()

    def of_pass(pass_):
      pulled = backward.cotangents(pass_, self._per_example)
      number = len(self._per_example)
      return {
        stream.name: jax.tree.map(
          lambda x, tasks=tasks: backward.scatter(x, tasks, number), stacked
        )
        for stream, (tasks, stacked) in zip(pass_.streams, pulled, strict=True)
      }

    values = self._over(lambda p: {s.name: s.features for s in p.streams})
    return combinators.Features(values, self._over(of_pass), self._reduce)

  def _feature_pullback(self, direction, u):
    self._check_whole()
    u_sum = u * self._per_example

    def of_pass(pass_):
      directions = [direction[stream.name] for stream in pass_.streams]
      return backward.feature_pullback(pass_, self._leaves, directions, u_sum)

    return self._gradient(of_pass)

  def _check_whole(self):
    if self._engine.accumulate > 1:
      raise ValueError(
        'Expected the whole batch at once for a method that acts on features, '
        f'found {self._engine.accumulate} microbatches; set '
        'training.accumulate to 1.'
      )
