"""Derivatives through a step of gradient descent on weighted losses."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import combinators
from mtl_jax.training import engine as engine_lib, step as step_lib

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
  r"""The inner problem: :math:`f(\theta, w) = \sum_k w_k L_k(\theta)`.

  Attributes:
    parts: of the step.
    model_state: of all passes; what they would make of it is dropped.
    batch: the inner batch.
    key: for dropout, the same in all passes.
  """

  parts: step_lib.StepParts
  model_state: Any
  batch: Any
  key: Array

  def gradients(self, params: Any) -> combinators.TaskGradients:
    """The task gradients at these parameters."""
    return self.parts.engine(
      params, self.model_state, self.batch, key=self.key
    )[0]

  def pull(
    self, params: Any, weights: Array, counts: Array, direction: Any
  ) -> tuple[Array, Any]:
    r"""Pulls a direction u back through :math:`\nabla_\theta f(\theta, w)`.

    Exact, by a backward pass through the backward pass: it differentiates
    :math:`u^\top \nabla_\theta f` by w and by :math:`\theta`. What is not used
    of the result is not computed under jit.

    Args:
      params: where.
      weights: w, ``[K]``.
      counts: ``[K]`` labels of the inner batch over all devices.
      direction: u, of the structure of the parameters, the same on all
        devices; zero where a parameter is frozen.

    Returns:
      ``[K]``: :math:`u^\top \nabla L_k`, and the Hessian's product with u.
    """
    engine, axis = self.parts.engine, self.parts.engine.axis_name
    per_example = engine_lib.per_example(counts)
    # No psum may be differentiated but those of the model itself: pmap
    # transposes one to a psum, and shard_map to nothing.
    (params, scales, direction), key = engine.of_device(
      (params, weights * per_example, direction), self.key
    )

    def product(scales, params):
      def total(params):
        sums = task_sums(engine, params, self.model_state, self.batch, key)
        return jnp.sum(scales * sums)

      gradient = jax.grad(total)(params)
      products = jax.tree.map(jnp.vdot, gradient, direction)
      return sum(jax.tree.leaves(products))

    pulled = jax.grad(product, (0, 1))(scales, params)
    if axis is not None:
      pulled = jax.lax.psum(pulled, axis)
    slopes, curved = pulled
    return slopes * per_example, curved

  def free(self, direction: Any) -> Any:
    """A direction without what would move frozen parameters."""

    def leaf(path, x):
      name = combinators.path_name(path)
      return jnp.zeros_like(x) if self.parts.engine.frozen(name) else x

    return jax.tree_util.tree_map_with_path(leaf, direction)

  def hypergradient(
    self,
    trail: Sequence[Any],
    weights: Array,
    counts: Array,
    direction: Any,
    learning_rate: float,
  ) -> Array:
    r"""The derivative of an outer loss by w, through T steps of descent.

    With :math:`\theta_{t+1} = \theta_t - \eta \nabla_\theta f(\theta_t, w)`,
    goes back from :math:`u_T = \nabla F(\theta_T)` by
    :math:`u_t = u_{t+1} - \eta \nabla^2_\theta f(\theta_t, w)\, u_{t+1}`, and
    sums :math:`-\eta\, u_{t+1}^\top \nabla L_k(\theta_t)`.

    Args:
      trail: :math:`\theta_0 ... \theta_T`.
      weights: w, ``[K]``.
      counts: ``[K]``.
      direction: :math:`\nabla F(\theta_T)`.
      learning_rate: eta.

    Returns:
      ``[K]``: :math:`dF / dw_k`.
    """
    total = jnp.zeros_like(weights)
    direction = self.free(direction)
    for params in reversed(trail[:-1]):
      slopes, curved = self.pull(params, weights, counts, direction)
      total = total - learning_rate * slopes
      direction = jax.tree.map(
        lambda u, h: u - learning_rate * h, direction, self.free(curved)
      )
    return total


def task_sums(
  engine: engine_lib.Engine,
  params: Any,
  model_state: Any,
  batch: engine_lib.Batch,
  key: Array | None,
) -> Array:
  """Sums of the losses over this device's labels, ``[K]``, to differentiate.

  The same passes as `forward.forward` makes in training mode.

  Args:
    engine: has the model and its tasks.
    params: arrays.
    model_state: before the pass.
    batch: of all streams.
    key: for dropout.
  """
  network = engine.network(params)
  sums: list[Any] = [None] * len(network.tasks)
  for stream in network.streams:
    arrays = batch[stream]
    features, model_state = network.features(
      stream, params, model_state, arrays, key
    )
    for k, task in enumerate(network.tasks):
      if task.stream == stream:
        sums[k], (_, model_state) = network.loss(
          task, params, features, model_state, arrays, key
        )
  return jnp.stack(sums)
