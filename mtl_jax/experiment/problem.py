"""An analytic problem as what a run trains: see `build.Trainable`."""

from collections.abc import Callable, Mapping
import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from mtl_jax import problems
from mtl_jax.experiment import steppers
from mtl_jax.training import loop, programs

MakeMethod = Callable[
  [jax.Array | None], optax.GradientTransformation | problems.Step
]


class ProblemState(NamedTuple):
  """The state of a member.

  Attributes:
    step: ``[]``, steps taken; None between programs.
    inner: of `problems.Step`.
    key: from which the key of each step is folded.
  """

  step: Any
  inner: Any
  key: jax.Array


@dataclasses.dataclass(frozen=True)
class ProblemExperiment:
  """A method on an analytic problem.

  What varies over members is ``{'seed': [], 'start': [], 'preference': [K]}``,
  the last only where members have a preference.

  Attributes:
    problem: what is minimised.
    make_method: ``preference -> chain``, a combinator and what follows it, or
      a `problems.Step` of its own; the preference is a member's, or None.
    plan: when things happen.
    seed: from which the members' seeds are folded.
    steps_per_epoch: for methods that look at epochs.
  """

  problem: problems.Problem
  make_method: MakeMethod
  plan: loop.Plan
  seed: int = 0
  steps_per_epoch: int = 1

  @property
  def task_names(self) -> tuple[str, ...]:
    """K names."""
    return tuple(self.problem.tasks)

  def make_state(self, seed: Any, hyper: Mapping[str, Any]) -> ProblemState:
    """The state of a member at step 0; its ``step`` is None."""
    del seed  # it is among the numbers that vary
    step, start_key, step_key = self._step(hyper)
    params = self.problem.start(start_key, hyper['start'])
    return ProblemState(None, step.init(params), step_key)

  def make_step(
    self, axis_name: str | None = None, hyper: Mapping[str, Any] | None = None
  ) -> Callable[[ProblemState, Any], tuple[ProblemState, Any]]:
    """``(state, batch) -> (state, None)``; the batch is not read."""
    del axis_name
    step, _, _ = self._step(hyper or {})

    def update(state, batch):
      del batch
      key = jax.random.fold_in(state.key, state.step)
      inner, _ = step.update(state.inner, (key, state.step))
      return state._replace(step=state.step + 1, inner=inner), None

    return update

  def make_record(self, hyper: Mapping[str, Any]) -> Callable[..., Any]:
    """``(state, metrics) -> {'losses': [K], 'params': pytree}``.

    Losses are those of the test batch, where there is one; large parameters
    are not recorded.
    """
    step, _, _ = self._step(hyper)

    def record(state, metrics):
      del metrics
      losses, params = step.read(state.inner)
      small = problems.is_small(params)
      return {'losses': losses, 'params': params if small else None}

    return record

  def read(self, state: ProblemState, hyper: Mapping[str, Any]) -> Any:
    """Losses ``[K]`` and parameters of a state."""
    step, _, _ = self._step(hyper)
    return step.read(state.inner)

  def _step(self, hyper) -> tuple[problems.Step, Any, Any]:
    """Init, update and read of a member, and its keys for start and steps."""
    key = jax.random.fold_in(jax.random.key(self.seed), hyper['seed'])
    data_key, start_key, test_key, step_key = jax.random.split(key, 4)
    method = self.make_method(hyper.get('preference'))
    if not isinstance(method, problems.Step):
      data = self.problem.data(data_key)
      test = self.problem.test(test_key, data)
      method = problems.make_step(
        self.problem, method, data, test, self.steps_per_epoch
      )
    return method, start_key, jax.random.fold_in(step_key, hyper['start'])


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
  experiment: ProblemExperiment, members: problems.Members
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
  way = steppers.Way('vmap', number, experiment.plan.steps)
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
    [loop.Progress() for _ in range(number)],
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
