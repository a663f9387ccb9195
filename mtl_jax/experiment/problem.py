"""An analytic problem as what a run trains: see `trainable.Trainable`.

A problem is a model without data: its step is that of networks.
"""

from collections.abc import Callable, Mapping
import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import combinators, problems, tasks as tasks_lib
from mtl_jax.experiment import methods, steppers
from mtl_jax.models import interface
from mtl_jax.training import (
  engine as engine_lib,
  loop,
  programs,
  step as step_lib,
)

# One example, which nobody reads.
BATCH = {'main': {'x': np.zeros((1, 1), np.float32)}}


@dataclasses.dataclass(frozen=True)
class ProblemExperiment:
  """A method on an analytic problem.

  What varies over members is ``{'seed': [], 'start': [], 'preference': [K]}``,
  the last only where members have a preference.

  Attributes:
    problem: what is minimised.
    make_method: ``preference -> (step builder, optimizer)``; the preference is
      a member's, or None.
    plan: when things happen.
    seed: from which the members' seeds are folded.
    steps_per_epoch: for methods that look at epochs.
  """

  problem: problems.Problem
  make_method: Callable[[jax.Array | None], methods.MethodParts]
  plan: loop.Plan
  seed: int = 0
  steps_per_epoch: int = 1

  @property
  def task_names(self) -> tuple[str, ...]:
    """K names."""
    return tuple(self.problem.tasks)

  def make_state(
    self, seed: Any, hyper: Mapping[str, Any]
  ) -> step_lib.TrainState:
    """The state of a member at step 0; its ``step`` is None."""
    del seed  # it is among the numbers that vary
    member = self._member(hyper)
    params = self.problem.start(member.start_key, hyper['start'])
    check_shared(self.problem, params)
    method = member.method
    state = method.builder.init_state(
      member.model(params), member.step_key, BATCH, method.optimizer
    )
    return state._replace(step=None, key=member.step_key)

  def make_step(
    self, axis_name: str | None = None, hyper: Mapping[str, Any] | None = None
  ) -> step_lib.Step:
    """``(state, batch) -> (state, metrics)``; the batch is not read."""
    del axis_name
    member = self._member(hyper or {})
    problem, method = self.problem, member.method
    step = method.builder.make_step(
      step_lib.StepParts(
        engine=make_engine(problem, member.model(None)),
        optimizer=method.optimizer,
        steps_per_epoch=self.steps_per_epoch,
        project=None if problem.bounds is None else _onto(problem.bounds),
      )
    )
    return lambda state, batch: step(state, BATCH)

  def make_record(self, hyper: Mapping[str, Any]) -> Callable[..., Any]:
    """``(state, metrics) -> {'losses': [K], 'params': pytree}``.

    Losses are those of the test batch, where there is one; large parameters
    are not recorded.
    """

    def record(state, metrics):
      del metrics
      losses, params = self.read(state, hyper)
      small = problems.is_small(params)
      return {'losses': losses, 'params': params if small else None}

    return record

  def read(self, state: Any, hyper: Mapping[str, Any]) -> Any:
    """Losses ``[K]`` on the test batch, and parameters, of a state."""
    member = self._member(hyper)
    if not has_cut(self.problem):
      return self.problem.losses(state.params, member.test), state.params
    # By way of the model: a method may have put something between the two.
    model, names = member.model(None), self.task_names
    arguments = {'train': False, 'key': None}
    z, _ = model.features(
      state.params, {}, BATCH['main'], stream='main', **arguments
    )
    outputs, _ = model.outputs(
      state.params, {}, z, BATCH['main'], tasks=names, **arguments
    )
    tasks = make_tasks(self.problem)
    losses = [task.loss(outputs[task.name], BATCH['main'])[0] for task in tasks]
    return jnp.stack(losses), state.params

  def _member(self, hyper) -> '_Member':
    key = jax.random.fold_in(jax.random.key(self.seed), hyper['seed'])
    data_key, start_key, test_key, step_key = jax.random.split(key, 4)
    data = self.problem.data(data_key)
    method = self.make_method(hyper.get('preference'))
    check_method(self.problem, method.builder)
    tasks = make_tasks(self.problem)

    def model(params):
      return method.builder.wrap(make_model(self.problem, params, data), tasks)

    return _Member(
      method,
      model,
      self.problem.test(test_key, data),
      start_key,
      jax.random.fold_in(step_key, hyper['start']),
    )


class _Member(NamedTuple):
  """A method, a model that starts at given parameters, and keys."""

  method: methods.MethodParts
  model: Callable[[Any], interface.MultiTaskModel]
  test: Any
  start_key: jax.Array
  step_key: jax.Array


def make_engine(
  problem: problems.Problem, model: interface.MultiTaskModel
) -> engine_lib.Engine:
  """The engine of networks, whose task gradients have the problem's noise."""

  def refuse(*unused):
    found = f'noise {problem.noise:g}' if has_cut(problem) else 'none'
    raise ValueError(
      'Expected features and heads, and no noise, of a problem for a method '
      f'that acts at the features, found {found}; name the method in '
      'study.absent instead.'
    )

  # Without a cut the model has the losses there; noise is of the rows.
  names = ('features', 'feature_gramian', 'feature_pullback')
  refused = {} if has_quiet_cut(problem) else dict.fromkeys(names, refuse)

  def sample(gradients, key):
    _, noise_key = jax.random.split(key)
    given = gradients.copy(**refused)  # also where it is split
    noisy = problems.with_noise(given, problem.noise, noise_key)
    return noisy.copy(**refused)

  return engine_lib.Engine(model, make_tasks(problem), sample=sample)


def has_cut(problem: problems.Problem) -> bool:
  """Whether there are features, and heads that read them."""
  return problem.features is not None and problem.heads is not None


def has_quiet_cut(problem: problems.Problem) -> bool:
  """Whether methods can act between the two, where noise does not reach."""
  return has_cut(problem) and not problem.noise


def make_model(
  problem: problems.Problem, params: Any, data: Any
) -> interface.MultiTaskModel:
  """A problem as a model that starts at given parameters.

  Args:
    problem: whose features the model has, or its losses ``[K]`` in their place.
    params: where it starts.
    data: of the member, of which each step draws a batch.
  """
  cut: Any = problem.features

  def features(params, model_state, batch, *, stream, train, key):
    del batch, stream, train
    if has_cut(problem):
      return cut(params)[None], model_state
    batch_key, _ = jax.random.split(key)
    losses = problem.losses(params, problem.batch(batch_key, data))
    return losses[None], model_state

  def outputs(params, model_state, z, batch, *, tasks, train, key):
    del params, batch, train, key
    return dict.fromkeys(tasks, z), model_state

  return interface.MultiTaskModel(
    lambda key, batch: (params, {}), features, outputs, problem.shared
  )


def make_tasks(problem: problems.Problem) -> list[tasks_lib.Task]:
  """One task per loss of a problem, of one example."""
  heads: Any = problem.heads if has_cut(problem) else lambda losses: losses

  def task(index, name):
    def loss(outputs, batch):
      del batch
      return heads(outputs[0])[index][None]

    return tasks_lib.Task(name=name, size=1, loss=loss, likelihood='regression')

  return [task(*item) for item in enumerate(problem.tasks)]


def check_shared(problem: problems.Problem, params: Any) -> None:
  """Raises a ValueError unless the tasks share a parameter."""
  paths = [
    combinators.path_name(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(params)
  ]
  if not any(map(problem.shared, paths)):
    raise ValueError(
      'Expected shared= of a problem to be true for at least one parameter, '
      f'found none; parameters are {", ".join(map(repr, paths))}.'
    )


def check_method(
  problem: problems.Problem, builder: step_lib.StepBuilder
) -> None:
  """Raises a ValueError for a step that a problem cannot take."""
  if builder.bilevel or (builder.acts_on_model and not has_quiet_cut(problem)):
    raise ValueError(
      'Expected a combinator, or a method between features and heads on a '
      'problem that has these and no noise, found a step builder that this '
      'problem cannot take; name it in study.absent instead.'
    )


def _onto(bounds):
  low, high = bounds
  return lambda params: jax.tree.map(lambda p: jnp.clip(p, low, high), params)


def make_plan(steps: int, record_every: int) -> loop.Plan:
  """All steps in one program, which records every so many of them.

  Raises:
    ValueError: if numbers of steps do not fit.
  """
  if steps < 1 or record_every < 1 or steps % record_every:
    raise ValueError(
      f'Expected steps that record_every divides, found {steps} and '
      f'{record_every}; change one of them.'
    )
  return loop.Plan(
    steps=steps,
    evaluate_every=0,
    checkpoint_every=steps,
    log_every=steps,
    record_every=record_every,
  )


def train(
  experiment: ProblemExperiment, members: problems.ProblemMembers
) -> tuple[problems.Path, dict[str, float]]:
  """Runs all members of a method, as one program.

  Returns:
    Paths as NumPy arrays, and seconds to compile and to run.
  """
  hyper = {
    name: np.asarray(value)
    for name, value in members._asdict().items()
    if value is not None
  }
  number = len(hyper['seed'])
  way = programs.Way('vmap', number, experiment.plan.steps)
  stepper = steppers.DeviceProgram(experiment, way, jax.local_devices())
  began = time.perf_counter()
  state = stepper.init(hyper['seed'].tolist(), hyper)
  read = jax.jit(jax.vmap(experiment.read))
  first = jax.device_get(read(state, hyper))
  some = programs.Members(
    state, stepper.place(hyper), stepper.place(np.ones(number, bool))
  )
  stepper.compile(some, 0)
  compiled = time.perf_counter()
  parts: list[Any] = []
  some, _, _ = loop.fit(
    some,
    {},
    [loop.MemberProgress() for _ in range(number)],
    0,
    experiment.plan,
    stepper,
    loop.Hooks(
      evaluate=None,
      write=lambda kind, step, series: None,
      tick=lambda step, scalars: None,
      save=lambda step, members, best, progress: None,
      record=lambda step, records: parts.append(records),
    ),
    experiment.task_names,
  )
  losses = np.concatenate(
    [first[0][:, None], *(part['losses'] for part in parts)], 1
  )
  if parts[0]['params'] is None:
    last = jax.device_get(read(some.state, hyper))[1]
    params = jax.tree.map(lambda p: p[:, None], last)
  else:
    params = jax.tree.map(
      lambda start, *more: np.concatenate([start[:, None], *more], 1),
      first[1],
      *(part['params'] for part in parts),
    )
  seconds = {
    'compile_s': compiled - began,
    'run_s': time.perf_counter() - compiled,
  }
  return problems.Path(losses, params), seconds
