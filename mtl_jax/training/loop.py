"""The training loop: steps, evaluations, checkpoints, and when to stop.

A run has P >= 1 members, which take the same step at the same time. What is
compiled, and for which devices, is the stepper's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import math
import signal
import time
from typing import Any, Protocol

import jax
import numpy as np

from mtl_jax.training import programs

Scalars = Mapping[str, float]
Series = Mapping[str, np.ndarray]  # {name: [P]}


class NonFiniteError(FloatingPointError):
  """A loss or an update is NaN or infinite; the message says which, when."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """When things happen; all numbers are steps.

  Attributes:
    steps: last step.
    evaluate_every: between evaluations on the validation split; 0 = never.
    checkpoint_every: between checkpoints; one more at every evaluation.
    log_every: between rows of training losses.
    probe_every: between measurements of the task gradients; 0 = never.
    patience: evaluations without a better score before stopping early; 0 =
      never.
    record_every: steps that a compiled program takes between two records.
    raises: a member that diverges ends the run with a `NonFiniteError`; else
      it is frozen, and the others go on.
  """

  steps: int
  evaluate_every: int
  checkpoint_every: int
  log_every: int = 100
  probe_every: int = 0
  patience: int = 0
  record_every: int = 1
  raises: bool = False

  @property
  def longest(self) -> int:
    """Steps between two events at most."""
    every = (self.log_every, self.evaluate_every, self.steps)
    return min(n for n in every if n)


@dataclasses.dataclass
class MemberProgress:
  """Progress of a member besides its state; stored in every checkpoint.

  Attributes:
    best_score: best score of the validation split so far.
    best_step: its step.
    best_of: ``{criterion: [score, step]}``, the same of further criteria.
    evaluations_since_best: for early stopping.
    finished: stopped early or diverged; it does not train any more.
    diverged_at: the step at which a loss or an update was not finite.
    diverged_in: what was not: a task's name, or 'update'.
    stopped_at: the step after which it did not change any more.
    window: sums of the losses since the last row of the record.
  """

  best_score: float | None = None
  best_step: int | None = None
  best_of: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
  evaluations_since_best: int = 0
  finished: bool = False
  diverged_at: int | None = None
  diverged_in: str = ''
  stopped_at: int | None = None
  window: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def status(self) -> str:
    """'finished', 'stopped early' or 'diverged'; 'running' before that."""
    if self.diverged_at is not None:
      return 'diverged'
    if self.finished:
      return 'stopped early'
    return 'finished' if self.stopped_at is not None else 'running'


class Stepper(Protocol):
  """The compiled side of a run.

  Attributes:
    longest: steps of one call at most.
  """

  longest: int

  def advance(
    self, members: programs.Members, start: int, number: int
  ) -> tuple[Any, Any]:
    """Takes ``number`` steps from step ``start``; donates the state.

    Returns:
      The state, and a pytree of records ``[P, R, ...]`` on the devices, one
      record per ``record_every`` steps, of which the first ``number /
      record_every`` count. ``losses`` ``[P, R, K]`` is one of its keys;
      ``counts`` ``[P, R, K]`` and ``update_norm`` ``[P, R]`` may be others.
    """
    ...

  def probe(self, members: programs.Members, start: int) -> Any:
    """Measures the task gradients of the step that comes."""
    ...

  def keep_better(self, better: np.ndarray, new: Any, old: Any) -> Any:
    """Pytrees ``[P, ...]``, each member's from ``new`` where ``better``."""
    ...

  def place(self, tree: Any) -> Any:
    """Puts arrays ``[P, ...]`` where the members are."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hooks:
  """Callbacks of the loop besides the steps.

  Attributes:
    evaluate: ``(params, model_state) -> [(scores, scalars)] * P``: scores by
      criterion, the first of which selects; higher is better.
    probe: ``measured -> series`` of what `Stepper.probe` has measured before a
      step; None = not measured.
    measure: ``opt_state -> series``: what the method measured in its last
      step; None if it does not.
    write: ``(kind, step, series)``: a row of the record.
    record: ``(step, records)``: records of the steps up to ``step``, on the
      host; None if nobody reads them.
    tick: ``(step, scalars)``: called after steps, with news or with ``{}``.
    save: ``(step, members, best, progress)``: a checkpoint.
    kept: ``() -> str``: names the last good checkpoint, for messages.
  """

  evaluate: Callable[[Any, Any], Sequence[tuple[Scalars, Scalars]]] | None
  write: Callable[[str, int, Series], None]
  tick: Callable[[int, Scalars], None]
  save: Callable[[int, programs.Members, Any, Sequence[MemberProgress]], None]
  probe: Callable[[Any], Series] | None = None
  measure: Callable[[Any], Series] | None = None
  record: Callable[[int, Any], None] | None = None
  kept: Callable[[], str] = lambda: 'none yet'


def fit(
  members: programs.Members,
  best: Mapping[str, Any],
  progress: Sequence[MemberProgress],
  step: int,
  plan: Plan,
  stepper: Stepper,
  hooks: Hooks,
  task_names: Sequence[str],
) -> tuple[programs.Members, Mapping[str, Any], str]:
  """Trains all members from a step to the end of the plan.

  Args:
    members: fresh or restored; donated.
    best: criterion -> ``{'params', 'model_state'}`` of each member's best
      evaluation by it, ``[P, ...]``; the first criterion selects.
    progress: of the P members, changed in place.
    step: steps taken so far.
    plan: when things happen.
    stepper: what takes the steps.
    hooks: what happens besides.
    task_names: K names, for the rows and for messages.

  Returns:
    Members, best, and why it ended: 'finished' or 'interrupted' (by SIGTERM or
    Ctrl-C, after a checkpoint).

  Raises:
    NonFiniteError: naming step and task, if the plan says so; the last good
      checkpoint is kept.
    CheckpointError: if a checkpoint could not be written.
  """
  losses = _Losses(task_names, progress, plan, hooks, step)
  probed = plan.probe_every if hooks.probe else 0
  measured = plan.probe_every if hooks.measure else 0
  with signals() as interrupted:
    while step < plan.steps and not all(m.finished for m in progress):
      event = next_event(step, plan, probed=probed, measured=measured)
      number = min(event - step, stepper.longest)
      if hooks.probe and _divides(probed, step):
        series = hooks.probe(stepper.probe(members, step))
        hooks.write('gradients', step, series)
      state, records = stepper.advance(members, step, number)
      members = members._replace(state=state)
      step += number
      losses.add(records, number)
      if hooks.measure and _divides(measured, step - 1):
        series = losses.of_active(hooks.measure(state.opt_state))
        hooks.write('gradients', step - 1, series)
      last = step == plan.steps
      due = _divides(plan.evaluate_every, step) or last
      stop = interrupted()  # asked once: what stops is also saved
      save = due or step % plan.checkpoint_every == 0 or stop
      log = step % plan.log_every == 0 or last
      if save or log:
        losses.check()  # nothing unchecked is ever saved
      if log:
        losses.write(step)
      else:
        hooks.tick(step, {})
      if due and hooks.evaluate:
        best = _evaluate(state, best, progress, step, plan, stepper, hooks)
        losses.restart_clock()
      if save or log:
        # After the evaluation: who has stopped keeps what is best, not this.
        active = np.array([not member.finished for member in progress])
        members = members._replace(active=stepper.place(active))
      if save:
        losses.store()
        hooks.save(step, members, best, progress)
      if stop:
        break
  over = step == plan.steps or all(m.finished for m in progress)
  for member in progress:
    if over and member.stopped_at is None:
      member.stopped_at = step
  return members, best, 'finished' if over else 'interrupted'


def next_event(
  step: int, plan: Plan, *, probed: int = 0, measured: int = 0
) -> int:
  """The next step after which something happens, however many run at once.

  Args:
    step: taken so far.
    plan: when things happen.
    probed: before every step that this divides, the gradients are measured.
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


def _divides(every, step) -> bool:
  return bool(every) and step % every == 0


def _evaluate(state, best, progress, step, plan, stepper, hooks):
  """Best parameters after an evaluation; progress is brought up to date."""
  results = hooks.evaluate(state.params, state.model_state)
  better = {name: np.zeros(len(progress), bool) for name in best}
  main = next(iter(best))
  for i, (member, (scores, _)) in enumerate(
    zip(progress, results, strict=True)
  ):
    if member.finished:
      continue
    for name in best:
      before = member.best_of.get(name, [None])[0]
      if name == main:
        before = member.best_score
      score = scores[name]
      better[name][i] = not math.isnan(score) and (
        before is None or score > before
      )
      if better[name][i] and name != main:
        member.best_of[name] = [score, step]
    if better[main][i]:
      member.best_score, member.best_step = scores[main], step
      member.evaluations_since_best = 0
    else:
      member.evaluations_since_best += 1
    if plan.patience and member.evaluations_since_best >= plan.patience:
      member.finished, member.stopped_at = True, step
  names = results[0][1]
  hooks.write(
    'validation',
    step,
    {
      name: np.array([scalars.get(name, math.nan) for _, scalars in results])
      for name in names
    },
  )
  new = {'params': state.params, 'model_state': state.model_state}
  return {
    name: stepper.keep_better(better[name], new, old)
    if better[name].any()
    else old
    for name, old in best.items()
  }


class _Losses:
  """Losses since the last row, kept on the device until they are needed.

  Fetching every step would make the host wait for the device. What is checked
  is kept as sums, which a checkpoint takes along: so a resumed run writes the
  rows of an unbroken one.
  """

  def __init__(self, task_names, progress, plan, hooks, step):
    self._names = task_names
    self._progress = progress
    self._plan = plan
    self._hooks = hooks
    self._checked = step  # the last step that was
    self._pending = []
    none = np.zeros(len(task_names))
    empty = {'sums': none, 'counts': none, 'norms': 0.0, 'steps': 0}
    self._window = {
      name: np.array([member.window.get(name, zero) for member in progress])
      for name, zero in empty.items()
    }
    self.restart_clock()

  def restart_clock(self):
    self._start, self._clocked = time.perf_counter(), 0

  def add(self, records, number) -> None:
    self._pending.append((records, number))
    self._clocked += number

  def check(self) -> None:
    """Fetches the pending records, and finds who diverged."""
    for records, number in self._pending:
      self._take(jax.device_get(records), number)
    self._pending = []

  def _take(self, records, number) -> None:
    every = self._plan.record_every
    size = number // every
    # Arrays of several steps are as long as the most that there can be.
    records = jax.tree.map(lambda x: x[:, :size], records)
    losses = np.asarray(records['losses'], np.float64)  # [P, R, K]
    counts = records.get('counts', np.ones_like(losses)).astype(np.float64)
    norms = records.get('update_norm', np.zeros(losses.shape[:2]))
    norms = norms.astype(np.float64)
    for i, member in enumerate(self._progress):
      if member.finished:
        continue
      self._judge(member, losses[i], norms[i])
      # One step after the other: the same sums wherever a run was cut.
      window = self._window
      for loss, count, norm in zip(losses[i], counts[i], norms[i], strict=True):
        window['sums'][i] += loss * count
        window['counts'][i] += count
        window['norms'][i] += norm
      window['steps'][i] += size
    self._checked += number
    if self._hooks.record:
      self._hooks.record(self._checked, records)

  def _judge(self, member, losses, norms) -> None:
    bad = ~np.isfinite(np.concatenate([losses, norms[:, None]], 1))
    if not bad.any():
      return
    row, column = np.argwhere(bad)[0]
    member.finished = True
    step = self._checked + (int(row) + 1) * self._plan.record_every
    member.diverged_at = member.stopped_at = step
    member.diverged_in = (*self._names, 'update')[column]
    if not self._plan.raises:
      return
    if column < len(self._names):
      what = f'a loss of {losses[row, column]} for task {self._names[column]!r}'
    else:
      what = 'a non-finite update from finite losses (of tasks ' + (
        ', '.join(map(repr, self._names)) + ')'
      )
    raise NonFiniteError(
      f'Expected finite losses, found {what} at step {step}; in a new '
      '--workdir, lower optimizer.learning_rate, set optimizer.clip_norm, or '
      'mask labels that are missing (last good checkpoint: '
      f'{self._hooks.kept()}).'
    )

  def of_active(self, series: Series) -> Series:
    """The series with NaN for members that have stopped."""
    active = np.array([not member.finished for member in self._progress])
    return {name: np.where(active, x, math.nan) for name, x in series.items()}

  def store(self) -> None:
    """Puts the sums into the members' progress, as JSON keeps them exactly."""
    for i, member in enumerate(self._progress):
      member.window = {name: x[i].tolist() for name, x in self._window.items()}

  def write(self, step: int) -> None:
    """Writes the means since the last row; a loss is a mean over labels."""
    with np.errstate(divide='ignore', invalid='ignore'):
      means = self._window['sums'] / self._window['counts']
      norms = self._window['norms'] / self._window['steps']
    row = {f'loss/{n}': means[:, k] for k, n in enumerate(self._names)}
    seconds = time.perf_counter() - self._start
    speed = self._clocked / max(seconds, 1e-9)
    row = {
      **self.of_active({**row, 'update_norm': norms}),
      'steps_per_second': np.full(len(norms), speed),
    }
    self._hooks.write('train', step, row)
    if len(norms) == 1:
      news = {name: float(x[0]) for name, x in row.items()}
    else:
      news = {'active': float(np.sum([not m.finished for m in self._progress]))}
    self._hooks.tick(step, news)
    for sums in self._window.values():
      sums[...] = 0
    self.restart_clock()


@contextlib.contextmanager
def signals() -> Iterator[Callable[[], bool]]:
  """Notes SIGTERM and Ctrl-C instead of dying of them, so that a run can save.

  A second one ends the process in the usual way. Gives a function that tells
  whether there was one.
  """
  seen, old = [], {}

  def restore():
    for number, handler in old.items():
      signal.signal(number, handler)

  def note(*unused_args):
    seen.append(True)
    restore()

  for number in (signal.SIGTERM, signal.SIGINT):
    with contextlib.suppress(ValueError):  # not in the main thread
      old[number] = signal.signal(number, note)
  try:
    yield lambda: bool(seen)
  finally:
    restore()
