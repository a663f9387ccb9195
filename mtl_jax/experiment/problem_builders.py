"""A step builder on an analytic problem with a cut between trunk and heads."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import problems, tasks as tasks_lib
from mtl_jax.models import base as models_base
from mtl_jax.training import state as state_lib
from mtl_jax.training.builders import base as builders_base

# One example, which nobody reads.
BATCH = {'main': {'x': np.zeros((1, 1), np.float32)}}


def make_step(
  builder: builders_base.StepBuilder,
  problem: problems.Problem,
  tx: optax.GradientTransformation,
) -> problems.Step:
  """The step that a builder makes of a problem, as if it were a model.

  Args:
    builder: that acts between features and heads, such as RotoGrad.
    problem: with ``features`` and ``heads``; its losses need no data.
    tx: what stands after the method.

  Raises:
    ValueError: if the problem has no such cut, or the builder needs an outer
      batch.
  """
  if problem.features is None or problem.heads is None or builder.bilevel:
    raise ValueError(
      'Expected a combinator, or a method between features and heads on a '
      'problem that has these, found a step builder that this problem cannot '
      'take; name it in study.absent instead.'
    )
  tasks = [_task(problem, index) for index in range(problem.num_tasks)]
  names = tuple(task.name for task in tasks)

  def model_from(params):
    def features(params, model_state, batch, *, stream, train, key):
      del batch, stream, train, key
      return problem.features(params)[None], model_state

    def outputs(params, model_state, z, batch, *, tasks, train, key):
      del params, batch, train, key
      return dict.fromkeys(tasks, z), model_state

    return builder.wrap(
      models_base.MultiTaskModel(
        lambda key, batch: (params, {}), features, outputs, problem.shared
      ),
      tasks,
    )

  def init(params):
    # The key of a step is put in its place: see `update`.
    return state_lib.init_state(
      model_from(params), tx, jax.random.key(0), BATCH, builder.init
    )

  def update(state, given):
    step = builder.make_step(
      builders_base.StepParts(model=model_from(None), tasks=tasks, tx=tx)
    )
    key, _ = given
    state, _ = step(state._replace(key=key), BATCH)
    return state, None

  def read(state):
    model = model_from(None)
    batch = BATCH['main']
    z, _ = model.features(
      state.params, {}, batch, stream='main', train=False, key=None
    )
    found, _ = model.outputs(
      state.params, {}, z, batch, tasks=names, train=False, key=None
    )
    losses = [task.loss(found[task.name], batch)[0] for task in tasks]
    return jnp.stack(losses), state.params

  return problems.Step(init, update, read)


def _task(problem, index) -> tasks_lib.Task:
  def loss(outputs, batch):
    del batch
    return problem.heads(outputs[0])[index][None]

  name = problem.tasks[index]
  return tasks_lib.Task(name=name, size=1, loss=loss, likelihood='regression')
