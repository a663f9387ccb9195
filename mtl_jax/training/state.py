"""The state of a run: one pytree of arrays, and nothing else."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.models import base as models_base


class TrainState(NamedTuple):
  """All that a step reads and writes.

  Attributes:
    step: ``[]`` int32, steps taken; None where all members have the same.
    params: parameters, float32.
    model_state: batch statistics and the like; ``{}`` for most models.
    opt_state: of the whole chain: combinator and optimizer. Of a step builder
      it is ``{'method': ..., 'optimizer': ...}``.
    key: the base key of the run. It never changes; a step folds its number in,
      so that a resumed run equals an unbroken one.
  """

  step: Any
  params: Any
  model_state: Any
  opt_state: Any
  key: Any


def init_state(
  model: models_base.MultiTaskModel,
  tx: optax.GradientTransformation,
  key: jax.Array,
  batch: Any,
  init_method: Callable[..., Any] | None = None,
) -> TrainState:
  """A fresh state.

  Args:
    model: its `init` gets a key derived from ``key``.
    tx: the chain.
    key: typed key of the run.
    batch: ``{stream: {name: [B, ...]}}``, for its shapes only.
    init_method: ``(key, model, params, batch) -> state`` of a step builder.
  """
  init_key, base_key = jax.random.split(key)
  params, model_state = model.init(init_key, batch)
  opt_state = tx.init(params)
  if init_method is not None:
    # A key of its own: the parameters are those of any other method.
    method_key = jax.random.fold_in(init_key, 1)
    method = init_method(method_key, model, params, batch)
    opt_state = {'method': method, 'optimizer': opt_state}
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    model_state=model_state,
    opt_state=opt_state,
    key=base_key,
  )
