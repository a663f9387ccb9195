"""The training loop: steps, evaluations, checkpoints, and when to stop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import math
import signal
import time
from typing import Any

import jax
import numpy as np

from mtl_jax.training import checkpoints as checkpoints_lib, state as state_lib

Scalars = dict[str, float]


class NonFiniteError(FloatingPointError):
  """A loss or an update is NaN or infinite; the message says which, when."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """When things happen; all numbers are steps.

  Attributes:
    steps: last step.
    evaluate_every: between evaluations on the validation split.
    checkpoint_every: between checkpoints; one more at every evaluation.
    log_every: between rows of training losses.
    probe_every: between looks at the task gradients; 0 = never.
    patience: evaluations without a better score before stopping early; 0 =
      never.
  """

  steps: int
  evaluate_every: int
  checkpoint_every: int
  log_every: int = 100
  probe_every: int = 0
  patience: int = 0


@dataclasses.dataclass
class Progress:
  """Where a run stands besides its state; stored in every checkpoint.

  Attributes:
    best_score: of the validation split so far.
    best_step: its step.
    evaluations_since_best: for early stopping.
    finished: stopped early; nothing is left to do.
    window: sums of the losses since the last row of the record.
  """

  best_score: float | None = None
  best_step: int | None = None
  evaluations_since_best: int = 0
  finished: bool = False
  window: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tools:
  """What the loop uses, and does not know the inside of.

  Attributes:
    draw: ``number -> what the next steps read``, on the devices.
    step: compiled ``(state, drawn) -> (state, metrics)``; donates the state.
      Metrics are those of a step, or ``[S, ...]`` of several.
    evaluate: ``state -> (overall score, scalars)``; higher is better.
    probe: ``(state, drawn) -> scalars`` about the task gradients of the first
      of these steps.
    write: ``(kind, step, scalars)``: a row of the record.
    tick: ``(step, scalars)``: called after steps, with news or with ``{}``.
    latest: checkpoints to resume from.
    best: the best parameters by the overall score.
    info: what every checkpoint carries besides, JSON-like.
    longest: steps that ``step`` takes at once, at most.
    measure: ``opt_state -> scalars``: what the method itself measured in the
      last step, if it does.
  """

  draw: Callable[[int], Any]
  step: Callable[..., Any]
  evaluate: Callable[[state_lib.TrainState], tuple[float, Scalars]]
  probe: Callable[..., Scalars] | None
  write: Callable[[str, int, Scalars], None]
  tick: Callable[[int, Scalars], None]
  latest: checkpoints_lib.Checkpoints
  best: checkpoints_lib.Checkpoints
  info: Mapping[str, Any]
  longest: int = 1
  measure: Callable[[Any], Scalars] | None = None


def fit(
  state: state_lib.TrainState,
  batches: Iterator[Any],
  progress: Progress,
  plan: Plan,
  tools: Tools,
  task_names: Sequence[str],
) -> tuple[state_lib.TrainState, Progress, str]:
  """Trains from where the state stands to the end of the plan.

  Args:
    state: fresh or restored; it is donated.
    batches: what ``tools.draw`` draws from, at the same position, with grain's
      checkpoint protocol.
    progress: fresh or restored.
    plan: when things happen.
    tools: what happens.
    task_names: K names, for the rows and for messages.

  Returns:
    The state, the progress, and why it ended: 'finished', 'stopped early' or
    'interrupted' (by SIGTERM or Ctrl-C, after a checkpoint).

  Raises:
    NonFiniteError: naming step and task; the last good checkpoint is kept.
    CheckpointError: if a checkpoint could not be written.
  """
  step = int(state.step)
  record = _Record(task_names, tools, step, progress.window)
  probed = plan.probe_every if tools.probe else 0
  measured = plan.probe_every if tools.measure else 0
  with Signals() as interrupted:
    while step < plan.steps and not progress.finished:
      # The order is important: a checkpoint of step n holds the iterator
      # before batch n + 1 is drawn.
      event = next_event(step, plan, probed=probed, measured=measured)
      number = min(event - step, tools.longest)
      drawn = tools.draw(number)
      if tools.probe and probed and step % probed == 0:
        tools.write('gradients', step, tools.probe(state, drawn))
      state, metrics = tools.step(state, drawn)
      step += number
      record.add(metrics, number)
      if tools.measure and measured and (step - 1) % measured == 0:
        found = tools.measure(state.opt_state)
        tools.write('gradients', step - 1, found)
      last = step == plan.steps
      due = step % plan.evaluate_every == 0 or last
      stop = interrupted()  # asked once: what stops is also saved
      save = due or step % plan.checkpoint_every == 0 or stop
      if save or step % plan.log_every == 0:
        record.check()  # nothing unchecked is ever saved
      if step % plan.log_every == 0 or last:
        record.write(step)
      else:
        tools.tick(step, {})
      if due:
        _evaluate(state, step, progress, plan, tools)
        record.restart_clock()
      if save:
        progress.window = record.window()
        tools.latest.save(
          step,
          state,
          {'progress': dataclasses.asdict(progress), **tools.info},
          batches,
        )
      if stop:
        break
  tools.latest.wait()
  if step == plan.steps:
    return state, progress, 'finished'
  return (
    state,
    progress,
    ('stopped early' if progress.finished else 'interrupted'),
  )


def next_event(
  step: int, plan: Plan, *, probed: int = 0, measured: int = 0
) -> int:
  """The next step after which something happens, however many run at once.

  Args:
    step: taken so far.
    plan: when things happen.
    probed: before every step that this divides, the gradients are looked at.
    measured: after every such step, what the method measured; only the last
      of several steps is in the state.

  Example:
    >>> plan = Plan(steps=9, evaluate_every=9, checkpoint_every=9, log_every=4)
    >>> [next_event(step, plan, measured=5) for step in (0, 1, 4, 5, 8)]
    [1, 4, 6, 6, 9]
  """
  every = (plan.log_every, plan.evaluate_every, plan.checkpoint_every, probed)
  events = [(step // n + 1) * n for n in every if n]
  if measured:
    events.append(-(-step // measured) * measured + 1)
  return min(plan.steps, *events)


def _evaluate(state, step, progress, plan, tools) -> None:
  score, scalars = tools.evaluate(state)
  tools.write('validation', step, scalars)
  better = progress.best_score is None or score > progress.best_score
  if better and not math.isnan(score):
    progress.best_score, progress.best_step = score, step
    progress.evaluations_since_best = 0
    tools.best.save(
      step,
      {'params': state.params, 'model_state': state.model_state},
      {'progress': dataclasses.asdict(progress), **tools.info},
    )
    # Whole before the next checkpoint says that it is the best.
    tools.best.wait()
  else:
    progress.evaluations_since_best += 1
  if plan.patience and progress.evaluations_since_best >= plan.patience:
    progress.finished = True


class _Record:
  """Losses since the last row, kept on the device until they are needed.

  Fetching every step would make the host wait for the device. What is checked
  is kept as sums, which a checkpoint takes along: so a resumed run writes the
  rows of an unbroken one.
  """

  def __init__(self, task_names, tools, step, window):
    self._names = task_names
    self._tools = tools
    self._checked = step  # the last step that was
    self._pending = []
    k = len(task_names)
    self._sums = np.array(window.get('sums', [0.0] * k))
    self._counts = np.array(window.get('counts', [0.0] * k))
    self._norms = window.get('norms', 0.0)
    self._steps = window.get('steps', 0)
    self.restart_clock()

  def restart_clock(self):
    self._start, self._clocked = time.perf_counter(), 0

  def add(self, metrics, number) -> None:
    self._pending.append((metrics, number))
    self._clocked += number

  def check(self) -> None:
    """Fetches the pending steps and raises if one is not finite."""
    if not self._pending:
      return
    rows = [(jax.device_get(m), number) for m, number in self._pending]
    self._pending = []

    def joined(key, *shape):
      # Of several steps there is room for the most that there can be.
      parts = [m[key].reshape(-1, *shape)[:number] for m, number in rows]
      return np.concatenate(parts).astype(np.float64)

    losses = joined('losses', len(self._names))
    counts = joined('counts', len(self._names))
    norms = joined('update_norm')
    self._raise_if_bad(losses, norms)
    self._checked += len(norms)
    # One step after the other: the same sums wherever a run was cut.
    for loss, count, norm in zip(losses, counts, norms, strict=True):
      self._sums = self._sums + loss * count
      self._counts = self._counts + count
      self._norms += float(norm)
      self._steps += 1

  def window(self) -> dict[str, Any]:
    """The sums, as JSON keeps them exactly."""
    return {
      'sums': self._sums.tolist(),
      'counts': self._counts.tolist(),
      'norms': self._norms,
      'steps': self._steps,
    }

  def write(self, step: int) -> None:
    """Writes the means since the last row; a loss is a mean over labels."""
    self.check()
    scalars = {
      f'loss/{name}': float(total / count) if count else math.nan
      for name, total, count in zip(
        self._names, self._sums, self._counts, strict=True
      )
    }
    scalars['update_norm'] = self._norms / self._steps
    seconds = time.perf_counter() - self._start
    scalars['steps_per_second'] = self._clocked / max(seconds, 1e-9)
    self._tools.write('train', step, scalars)
    self._tools.tick(step, scalars)
    self._sums, self._counts = 0 * self._sums, 0 * self._counts
    self._norms, self._steps = 0.0, 0
    self.restart_clock()

  def _raise_if_bad(self, losses, norms) -> None:
    bad = ~np.isfinite(np.concatenate([losses, norms[:, None]], 1))
    if not bad.any():
      return
    row, column = np.argwhere(bad)[0]
    step = self._checked + int(row) + 1
    if column < len(self._names):
      found = (
        f'a loss of {losses[row, column]} for task {self._names[column]!r}'
      )
    else:
      found = 'a non-finite update from finite losses (of tasks ' + (
        ', '.join(map(repr, self._names)) + ')'
      )
    self._tools.latest.wait()
    steps = self._tools.latest.steps()
    kept = f'step {steps[-1]}' if steps else 'none yet'
    raise NonFiniteError(
      f'Expected finite losses, found {found} at step {step}; in a new '
      '--workdir, lower optimizer.learning_rate, set optimizer.clip_norm, or '
      f'mask labels that are missing (last good checkpoint: {kept}).'
    )


class Signals(contextlib.AbstractContextManager):
  """Notes SIGTERM and Ctrl-C instead of dying of them, so that a run can save.

  A second one ends the process in the usual way.
  """

  def __enter__(self):
    self._seen = False
    self._old = {}
    for number in (signal.SIGTERM, signal.SIGINT):
      with contextlib.suppress(ValueError):  # not in the main thread
        self._old[number] = signal.signal(number, self._note)
    return lambda: self._seen

  def _note(self, *unused_args):
    self._seen = True
    self._restore()

  def _restore(self):
    for number, handler in self._old.items():
      signal.signal(number, handler)

  def __exit__(self, *unused_exc):
    self._restore()
