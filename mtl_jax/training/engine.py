"""Task gradients of a model: over all devices, and over microbatches."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import combinators, tasks as tasks_lib
from mtl_jax.models import interface
from mtl_jax.training import (
  backward,
  feature_passes,
  forward as forward_lib,
  gramians,
  layerwise,
  microbatches,
  stacked_heads,
  touched_rows,
)

Array = jax.Array
# What a step builder needs beside the engine.
Batch = forward_lib.Batch
per_example = forward_lib.per_example


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
    sample: ``(task gradients, key) -> task gradients`` that are given in their
      place, such as noisy ones.

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
  sample: Callable[..., combinators.TaskGradients] | None = None

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
    run = functools.partial(
      forward_lib.forward, network, own, together=stacked_heads.find
    )
    if engine.accumulate == 1:
      choose = None
      if engine.gramian == 'layerwise':
        devices = engine.num_devices()
        choose = functools.partial(layerwise.choose, devices=devices)
      parts: Any = run(model_state, batch, key=own_key, without_rows=choose)
    else:
      parts = microbatches.Microbatches(
        run, batch, model_state, own_key, engine.accumulate, engine.axis_name
      )
    passes = BatchPasses(
      engine, network, parts, own, own_key, (params, model_state, batch, key)
    )
    gradients = passes.gradients()
    if self.sample is not None:
      gradients = self.sample(gradients, key)
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
      *arguments: of `gramians.shapes_of`, after the engine.
      memory: bytes that may be held for the Gramian; by default a quarter of
        the device's, or 1 GiB where it does not say.
      **options: of `gramians.shapes_of`.
    """
    shapes = functools.partial(gramians.shapes_of, self, *arguments, **options)
    return gramians.plan(shapes, self.gramian, self.chunk, memory)


class BatchPasses:
  """The passes over one batch: sums over devices and microbatches.

  Attributes:
    engine: whose.
    leaves: what is known of each parameter.
    params: of this device.
    per_example: ``[K]``, factors that make means of sums.
    over: ``of_pass -> pytree``, the sum of ``of_pass(forward pass)`` over
      microbatches.
    new_state: of the model, after the batch.
  """

  def __init__(self, engine, network, parts, params, key, arguments):
    """Runs the forward pass; ``arguments`` are those of the engine's call."""
    self.engine, self._arguments = engine, arguments
    self.leaves, self._train = network.leaves, network.train
    self.params, self._key = params, key
    self.over = parts.total
    sums, counts, self.new_state, self._alone = parts.losses(len(engine.tasks))
    sums, self._counts = self.reduce((sums, counts))
    self.per_example = forward_lib.per_example(self._counts)
    self._losses = sums * self.per_example

  def gradients(self) -> combinators.TaskGradients:
    """Task gradients of these passes, which are made on demand."""
    engine, of = self.engine, functools.partial
    # With microbatches the sum of the rows is held anyway.
    way = engine.gramian if engine.accumulate == 1 else ''
    passes = combinators.Passes(
      pullback=self.pullback,
      rows=self._rows,
      rows_after=self._rows_after if way in ('chunked', 'layerwise') else None,
      gramian_rows=of(layerwise.rows, self) if way == 'layerwise' else None,
      feature_gramian=of(feature_passes.gramian, self),
      gramian_of_features=engine.gramian == 'features',
      features=of(feature_passes.features, self),
      feature_pullback=of(feature_passes.pullback, self),
      split=self._split,
      penalty=None if engine.model.penalty is None else self._penalty,
    )
    return combinators.TaskGradients(
      self._losses, self._counts > 0, self._counts, passes, alone=self._alone
    )

  def reduce(self, tree: Any) -> Any:
    """Sums over this device as sums over the global batch."""
    if self.engine.axis_name is None:
      return tree
    return jax.lax.psum(tree, self.engine.axis_name)  # over the data axis

  def total(self, of_pass: Callable[[forward_lib.Forward], Any]) -> Any:
    """The sum of ``of_pass(forward pass)`` over microbatches and devices."""
    return self.reduce(self.over(of_pass))

  def pullback(self, v: Array, u: Array, direction: Any = None) -> Any:
    """A gradient of the structure of the parameters, see `backward.pullback`.

    Args:
      v: ``[K]`` weights of the mean losses, for shared parameters.
      u: ``[K]`` weights of the mean losses, for all others.
      direction: at the features, in place of v.
    """
    v_sum, same = v * self.per_example, v is u
    u_sum = v_sum if same else u * self.per_example

    def of_pass(pass_):
      part = backward.pullback(pass_, self.leaves, v_sum, u_sum, direction)
      return backward.gradient_tree(self.params, part)

    return self.total(of_pass)

  def rows_tree(self, rows: Mapping[int, Any]) -> Any:
    """Rows by leaf as J, see `TaskGradients.jacobian`."""
    number = len(self._losses)
    return backward.rows_tree(self.params, self.leaves, rows, number)

  def _rows(self, scales=None):
    scales = self.per_example if scales is None else scales
    shared = {i for i, leaf in enumerate(self.leaves) if leaf.shared}

    def of_pass(pass_):
      rows, _ = backward.rows(pass_, shared, scales, self.engine.chunk)
      return self.rows_tree(rows)

    return self.total(of_pass)

  def _rows_after(self, x):
    return self._rows(backward.after(self.per_example, x))

  def _split(self, number):
    # Passes of their own: batch statistics are then independent too.
    params, model_state, batch, key = self._arguments
    parts = microbatches.split(batch, number, 'parts')
    return [
      self.engine(
        params,
        model_state,
        jax.tree.map(lambda x, i=i: x[i], parts),
        key=None if key is None else jax.random.fold_in(key, i),
        train=self._train,
      )[0]
      for i in range(number)
    ]

  def _penalty(self):
    """Of the whole batch at once, also where there are microbatches."""
    _, model_state, batch, _ = self._arguments

    def penalty(params):
      return self.engine.model.penalty(
        params, model_state, batch, train=self._train, key=self._key
      )

    flat, treedef = jax.tree.flatten(jax.grad(penalty)(self.params))
    # A mean over devices, whose parts of the batch are of one size.
    devices = self.engine.num_devices()
    return self.reduce(
      treedef.unflatten(
        [
          jnp.zeros_like(g) if leaf.frozen else g / devices
          for g, leaf in zip(flat, self.leaves, strict=True)
        ]
      )
    )
