"""One training step: pure, written once, ignorant of devices and configs.

Every method makes its step from the same parts: a combinator by `from_chain`,
which turns the task gradients of one batch into one direction; others, which
need gradients at other points, of other batches, or a network of their own, as
a `StepBuilder`. All steps end in `StepParts.finish`.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax import combinators, tasks as tasks_lib
from mtl_jax.models import interface
from mtl_jax.training import engine as engine_lib, gramians, touched_rows

Array = jax.Array


class TrainState(NamedTuple):
  """All that a step reads and writes.

  Attributes:
    step: ``[]`` int32, steps taken; None where all members have the same.
    params: parameters, float32.
    model_state: batch statistics and the like; ``{}`` for most models.
    opt_state: ``{'method': ..., 'optimizer': ...}``: the state of the method,
      a combinator or a step builder, and of the optimizer behind it.
    key: the base key of the run. It never changes; a step folds its number in,
      so that a resumed run equals an unbroken one.
  """

  step: Any
  params: Any
  model_state: Any
  opt_state: Any
  key: Any


Step = Callable[..., tuple[TrainState, dict[str, Array]]]


def keys_of(state: TrainState) -> tuple[Array, Array]:
  """The keys of the coming step: for dropout, and for the method's draws.

  Both are the same on all devices; the engine makes the first one differ.
  """
  dropout_key, method_key = jax.random.split(
    jax.random.fold_in(state.key, state.step)
  )
  return dropout_key, method_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepParts:
  """The parts of a step.

  Attributes:
    engine: makes task gradients, ``engine(params, model_state, batch, key=)``;
      it has the model (after the builder's `wrap`), the tasks, ``frozen`` and
      ``axis_name``.
    optimizer: clipping, decay and the optimizer, behind the method. It takes
      one gradient.
    steps_per_epoch: for methods that count epochs.
    lazy_rows: whether the optimizer passes over the rows of tables that the
      batch does not read, see `touched_rows.TouchedRows.apply`.
    project: ``params -> params`` after each update, where they have bounds.
  """

  engine: engine_lib.Engine
  optimizer: optax.GradientTransformation = optax.identity()
  steps_per_epoch: int = 1
  lazy_rows: bool = False
  project: Callable[[Any], Any] | None = None

  def finish(
    self,
    state: TrainState,
    direction: Any,
    *,
    gradients: combinators.TaskGradients,
    model_state: Any,
    method: Any,
    rows: touched_rows.TouchedRows | None = None,
    own: Mapping[str, Any] | None = None,
    losses_at: Callable[[Any], Array] | None = None,
  ) -> tuple[TrainState, dict[str, Array]]:
    """The end of a step: penalty, optimizer, second look, state and metrics.

    Args:
      state: before the step.
      direction: of the structure of the parameters, or narrow.
      gradients: whose losses and counts are reported, of the training batch
        before the update, and whose penalty is added.
      model_state: after the step.
      method: state of the method after the step.
      rows: of which a narrow direction is; None of a whole one.
      own: entries of the parameters, a dict, that the method has moved itself;
        they count in place of what the optimizer makes of them.
      losses_at: ``params -> [K]``, losses of the same batch, for a method whose
        state has a field ``losses_after``; others pay nothing for it.

    Returns:
      The state, and the metrics: ``losses`` ``[K]`` (before the update, and
      without the tasks' loss weights), ``counts`` ``[K]`` and ``update_norm``
      ``[]``.
    """
    direction, before = gradients.add_penalty(direction), state.opt_state
    if rows is None:
      update = optax.with_extra_args_support(self.optimizer).update
      updates, optimizer = update(direction, before['optimizer'], state.params)
      params: Any = optax.apply_updates(state.params, updates)
    else:
      params, optimizer, updates = rows.apply(
        self.optimizer,
        direction,
        before['optimizer'],
        state.params,
        self.lazy_rows,
      )
    if self.project is not None:
      params = self.project(params)
    if own:
      params = {**params, **own}
    wanted = optax.tree.get_all_with_path(method, 'losses_after')
    if losses_at is not None and wanted:
      method = optax.tree.set(method, losses_after=losses_at(params))
    metrics = {
      'losses': gradients.all_losses
      / tasks_lib.loss_weights(self.engine.tasks),
      'counts': gradients.counts,
      'update_norm': optax.tree.norm(updates),
    }
    opt_state = {'method': method, 'optimizer': optimizer}
    state = TrainState(
      state.step + 1, params, model_state, opt_state, state.key
    )
    return state, metrics


def no_state(
  key: Array, model: interface.MultiTaskModel, params: Any, batch: Any
) -> Any:
  """The state of a builder that keeps nothing."""
  del key, model, params, batch
  return ()


def same_model(
  model: interface.MultiTaskModel, tasks: Sequence[tasks_lib.Task]
) -> interface.MultiTaskModel:
  """The model of a builder that adds no parameters."""
  del tasks
  return model


class StepBuilder(NamedTuple):
  """A method that makes the training step.

  Its state lies at ``opt_state['method']`` beside that of the optimizer, so
  that checkpoints, resume and mapped populations cover it.

  Attributes:
    make_step: ``StepParts -> step``, with ``step(state, batch) -> (state,
      metrics)``: pure, the metrics those of `StepParts.finish`. What cannot be
      done with the parts raises here, before anything is traced.
    init: ``(key, model, params, batch) -> state`` of the method, a pytree of
      arrays; the batch is one example of each stream, for shapes.
    wrap: ``(model, tasks) -> model``: may put parameters of the method's own
      into the model, where evaluation and prediction need them.
    bilevel: whether it has an outer loss, on the batch's stream `OUTER`, or on
      a half of the batch where there is no such stream: see
      `outer.split_batch`.
    asks_for_rows: ``(params, shared, num_tasks) -> bool``, whether it asks for
      Gramian or Jacobian, from shapes; ``shared`` is ``path -> bool``.
    reads_whole: ``(params, model) -> bool``, whether its step is made of whole
      tables, and not of the rows that a batch reads.
    acts_on_model: whether it calls the model or acts between features and
      heads, which an analytic problem without these cannot give.

  Example:
    >>> def make_step(parts):
    ...   def step(state, batch):
    ...     key, _ = keys_of(state)
    ...     gradients, model_state = parts.engine(
    ...       state.params, state.model_state, batch, key=key
    ...     )
    ...     direction = gradients.combine(jax.numpy.ones(gradients.num_tasks))
    ...     return parts.finish(
    ...       state,
    ...       direction,
    ...       gradients=gradients,
    ...       model_state=model_state,
    ...       method=(),
    ...     )
    ...   return step
    >>> plain_sum = StepBuilder(make_step)
    >>> plain_sum.bilevel
    False
  """

  make_step: Callable[[StepParts], Step]
  init: Callable[..., Any] = no_state
  wrap: Callable[..., interface.MultiTaskModel] = same_model
  bilevel: bool = False
  asks_for_rows: Callable[..., bool] = lambda *unused: True
  reads_whole: Callable[..., bool] = lambda params, model: bool(model.tables)
  acts_on_model: bool = True

  def init_state(
    self,
    model: interface.MultiTaskModel,
    key: Array,
    batch: Any,
    optimizer: optax.GradientTransformation | None = None,
  ) -> TrainState:
    """A fresh state.

    Args:
      model: its `init` gets a key derived from ``key``.
      key: typed key of the run.
      batch: ``{stream: {name: [B, ...]}}``, for its shapes only.
      optimizer: behind the method; nothing by default.
    """
    init_key, base_key = jax.random.split(key)
    params, model_state = model.init(init_key, batch)
    # A key of its own: the parameters are those of any other method.
    method_key = jax.random.fold_in(init_key, 1)
    opt_state = {
      'method': self.init(method_key, model, params, batch),
      'optimizer': (optimizer or optax.identity()).init(params),
    }
    return TrainState(
      jnp.zeros((), jnp.int32), params, model_state, opt_state, base_key
    )


def from_chain(tx: optax.GradientTransformation) -> StepBuilder:
  """The step of a combinator, or of an Optax chain with one at its head.

  Args:
    tx: takes task gradients, and returns one gradient.

  Raises:
    ValueError: for a step builder, which is none.

  Example:
    >>> builder = from_chain(combinators.pcgrad())
  """
  if isinstance(tx, StepBuilder):
    raise ValueError(
      'Expected a combinator, or an Optax chain with one at its head, found a '
      'StepBuilder; call its own init_state(model, key, batch, optimizer) and '
      'make_step(StepParts(engine=Engine(model, tasks), optimizer=optimizer)).'
    )
  extra_tx = optax.with_extra_args_support(tx)

  def reads_whole(params, model):
    tables = bool(model.tables)
    return tables and touched_rows.keeps_rows(tx.init, params, model)

  def make_step(parts):
    def step(state, batch):
      dropout_key, method_key = keys_of(state)
      engine, rows = parts.engine, None
      if not reads_whole(state.params, engine.model):
        engine, rows = engine.at_rows(state.params, batch)
      take = (lambda params: params) if rows is None else rows.take

      def losses_at(params):
        after, _ = engine(
          take(params), state.model_state, batch, key=dropout_key
        )
        return after.losses

      narrow = take(state.params)
      gradients, model_state = engine(
        narrow, state.model_state, batch, key=dropout_key
      )
      direction, method = _update(
        extra_tx,
        gradients,
        state.opt_state['method'],
        narrow,
        key=method_key,
        step=state.step,
        epoch=state.step // parts.steps_per_epoch,
      )
      return parts.finish(
        state,
        direction,
        gradients=gradients,
        model_state=model_state,
        method=method,
        rows=rows,
        losses_at=losses_at,
      )

    return step

  return StepBuilder(
    make_step,
    lambda key, model, params, batch: tx.init(params),
    asks_for_rows=functools.partial(gramians.asks_for_rows, extra_tx),
    reads_whole=reads_whole,
    acts_on_model=False,
  )


def init_state(
  model: interface.MultiTaskModel,
  tx: optax.GradientTransformation,
  key: Array,
  batch: Any,
  optimizer: optax.GradientTransformation | None = None,
) -> TrainState:
  """A fresh state for a combinator, see `StepBuilder.init_state`.

  Raises:
    ValueError: for a step builder, which has a method of that name.
  """
  return from_chain(tx).init_state(model, key, batch, optimizer)


def make_train_step(
  model: interface.MultiTaskModel,
  tasks: Sequence[tasks_lib.Task],
  tx: optax.GradientTransformation,
  optimizer: optax.GradientTransformation | None = None,
  *,
  steps_per_epoch: int = 1,
  lazy_rows: bool = False,
  **options: Any,
) -> Step:
  """Builds ``(state, batch) -> (state, metrics)``, see `StepParts.finish`.

  Args:
    model: pure functions.
    tasks: what is learned.
    tx: a combinator, or a chain with one at its head. Another step builder has
      a `make_step` of its own.
    optimizer: behind the method; nothing by default.
    steps_per_epoch: for methods that count epochs.
    lazy_rows: see `StepParts`.
    **options: of `engine.Engine`: ``accumulate``, ``gramian``, ``chunk``,
      ``frozen``, ``axis_name``.

  Raises:
    ValueError: if the way to the Gramian is unknown, a step builder stands in
      place of a combinator, or a model has a penalty and there is no optimizer
      to put it in front of.
  """
  if model.penalty is not None and optimizer is None:
    raise ValueError(
      'Expected an optimizer beside the method for a model with a penalty, '
      'whose gradient goes between the two, found none; give '
      'make_train_step(model, tasks, combinator, optimizer).'
    )
  parts = StepParts(
    engine=engine_lib.Engine(model, tasks, **options),
    optimizer=optimizer or optax.identity(),
    steps_per_epoch=steps_per_epoch,
    lazy_rows=lazy_rows,
  )
  return from_chain(tx).make_step(parts)


def _update(tx, gradients, method_state, params, **extra):
  """``tx.update``, with a sentence for what stands in the wrong order."""
  try:
    direction, method_state = tx.update(
      gradients, method_state, params, **extra
    )
  except Exception as error:
    if gradients.used:
      raise
    raise ValueError(
      'Expected a combinator at the head of the optimizer chain, found a '
      'transform that needs one gradient; put the combinator first in '
      'optax.chain, and clipping, decay and the optimizer after it.'
    ) from error
  if isinstance(direction, combinators.TaskGradients):
    raise ValueError(
      'Expected a combinator in the optimizer chain, found none; put one, '
      'such as combinators.weighted_sum(), at its head.'
    )
  return direction, method_state
