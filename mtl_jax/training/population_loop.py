"""The training loop of a population: as `loop.fit`, for all members at once."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Any

import jax
import numpy as np

from mtl_jax.training import (
  checkpoints as checkpoints_lib,
  loop,
  population,
)


@dataclasses.dataclass
class Member(loop.Progress):
  """Where a member stands.

  Attributes:
    diverged_at: the step at which a loss or an update was not finite.
    diverged_in: what was not: a task's name, or 'update'.
    stopped_at: the step after which it did not change any more.
  """

  diverged_at: int | None = None
  diverged_in: str = ''
  stopped_at: int | None = None

  @property
  def active(self) -> bool:
    """Whether it still trains."""
    return not self.finished

  @property
  def ended(self) -> str:
    """'finished', 'stopped early' or 'diverged'; 'running' before that."""
    if self.diverged_at is not None:
      return 'diverged'
    if self.finished:
      return 'stopped early'
    return 'finished' if self.stopped_at is not None else 'running'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tools:
  """What the loop uses, and does not know the inside of.

  Attributes:
    advance: ``(members, start, number) -> (state, metrics [P, number, ...])``.
    longest: steps that ``advance`` takes at most.
    evaluate: ``(params, model_state) -> [(score, scalars)] * P``.
    keep_better: compiled `population.keep_better`.
    write: ``(kind, step, {series: [P]})``: rows of the record.
    tick: ``(step, scalars)``.
    latest: checkpoints to resume from; the best parameters are in them.
    info: what every checkpoint carries besides, JSON-like.
    measure: ``opt_state -> {series: [P]}``: what the method itself measured
      in the last step, if it does.
  """

  advance: Callable[..., Any]
  longest: int
  evaluate: Callable[[Any, Any], Sequence[tuple[float, loop.Scalars]]]
  keep_better: Callable[[Any, Any, Any], Any]
  write: Callable[[str, int, Mapping[str, np.ndarray]], None]
  tick: Callable[[int, loop.Scalars], None]
  latest: checkpoints_lib.Checkpoints
  info: Mapping[str, Any]
  measure: Callable[[Any], Mapping[str, np.ndarray]] | None = None


def fit(
  members: population.Members,
  best: Any,
  progress: Sequence[Member],
  step: int,
  plan: loop.Plan,
  tools: Tools,
  task_names: Sequence[str],
) -> tuple[population.Members, Any, str]:
  """Trains all members from a step to the end of the plan.

  A member that diverges, or has stopped early, is frozen; the others go on.

  Args:
    members: fresh or restored; donated.
    best: parameters and model state of each member's best evaluation,
      ``[P, ...]``.
    progress: P of them, changed in place.
    step: taken so far.
    plan: when things happen.
    tools: what happens.
    task_names: K names.

  Returns:
    Members, best, and 'finished' or 'interrupted'.

  Raises:
    CheckpointError: if a checkpoint could not be written.
  """
  record = _Record(task_names, progress)
  with loop.Signals() as interrupted:
    while step < plan.steps and any(m.active for m in progress):
      # A measured step ends its chunk, for only the last one is in the state.
      measured = plan.probe_every if tools.measure else 0
      event = loop.next_event(step, plan, measured=measured)
      number = min(event - step, tools.longest)
      state, metrics = tools.advance(members, step, number)
      record.add(jax.device_get(metrics), step)
      step += number
      if measured and (step - 1) % measured == 0:
        _measure(state, progress, step, tools)
      due = step % plan.evaluate_every == 0 or step == plan.steps
      stop = interrupted()
      if step % plan.log_every == 0 or step == plan.steps:
        tools.write('train', step, record.row())
      members = members._replace(state=state)
      if due:
        best = _evaluate(members.state, best, progress, step, plan, tools)
      # After the evaluation: who has stopped keeps what is best, not this.
      members = members._replace(active=_active(members, progress))
      tools.tick(step, record.brief())
      if due or step % plan.checkpoint_every == 0 or stop:
        _save(members, best, progress, step, tools)
      if stop:
        break
  tools.latest.wait()
  over = step == plan.steps or not any(m.active for m in progress)
  if over:
    for member in progress:
      if member.stopped_at is None:
        member.stopped_at = step
  return members, best, 'finished' if over else 'interrupted'


def _measure(state, progress, step, tools) -> None:
  """A row of the step before, as a run alone has it; NaN for who stopped."""
  active = np.array([member.active for member in progress])
  values = tools.measure(state.opt_state)
  row = {key: np.where(active, x, math.nan) for key, x in values.items()}
  tools.write('gradients', step - 1, row)


def _active(members, progress):
  active = np.array([m.active for m in progress])
  return jax.device_put(active, members.active.sharding)


def _evaluate(state, best, progress, step, plan, tools):
  found = tools.evaluate(state.params, state.model_state)
  better = np.zeros(len(progress), bool)
  for i, (member, (score, _)) in enumerate(zip(progress, found, strict=True)):
    if not member.active:
      continue
    if not math.isnan(score) and (
      member.best_score is None or score > member.best_score
    ):
      member.best_score, member.best_step = score, step
      member.evaluations_since_best = 0
      better[i] = True
    else:
      member.evaluations_since_best += 1
    if plan.patience and member.evaluations_since_best >= plan.patience:
      member.finished, member.stopped_at = True, step
  tools.write(
    'validation',
    step,
    {
      key: np.array([scalars.get(key, math.nan) for _, scalars in found])
      for key in found[0][1]
    },
  )
  return tools.keep_better(better, (state.params, state.model_state), best)


def _save(members, best, progress, step, tools) -> None:
  tools.latest.save(
    step,
    {'state': members.state, 'best': best},
    {
      'members': [dataclasses.asdict(member) for member in progress],
      **tools.info,
    },
  )


class _Record:
  """Losses of all members since the last row; finds who diverges.

  The sums of each member lie in its progress, which a checkpoint takes along.
  """

  def __init__(self, task_names, progress):
    self._names = task_names
    self._progress = progress

  def add(self, metrics, step) -> None:
    """Takes the metrics ``[P, S, ...]`` of the steps after ``step``."""
    losses = np.asarray(metrics['losses'], np.float64)
    counts = np.asarray(metrics['counts'], np.float64)
    norms = np.asarray(metrics['update_norm'], np.float64)
    for i, member in enumerate(self._progress):
      if not member.active:
        continue
      self._look(member, losses[i], norms[i], step)
      window = member.window or {
        'sums': [0.0] * len(self._names),
        'counts': [0.0] * len(self._names),
        'norms': 0.0,
        'steps': 0,
      }
      sums, seen = np.array(window['sums']), np.array(window['counts'])
      for loss, count in zip(losses[i], counts[i], strict=True):
        sums, seen = sums + loss * count, seen + count
      member.window = {
        'sums': sums.tolist(),
        'counts': seen.tolist(),
        'norms': window['norms'] + float(np.sum(norms[i])),
        'steps': window['steps'] + len(losses[i]),
      }

  def _look(self, member, losses, norms, step) -> None:
    bad = ~np.isfinite(np.concatenate([losses, norms[:, None]], 1))
    if not bad.any():
      return
    row, column = np.argwhere(bad)[0]
    member.finished = True
    member.diverged_at = member.stopped_at = step + int(row) + 1
    member.diverged_in = (*self._names, 'update')[column]

  def row(self) -> dict[str, np.ndarray]:
    """Means since the last row, ``{series: [P]}``; NaN for who has stopped."""
    rows = [self._means(member) for member in self._progress]
    for member in self._progress:
      member.window = {}
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}

  def _means(self, member):
    keys = [f'loss/{name}' for name in self._names]
    window = member.window
    if not window or not member.active:
      return dict.fromkeys([*keys, 'update_norm'], math.nan)
    means = {
      key: total / count if count else math.nan
      for key, total, count in zip(
        keys, window['sums'], window['counts'], strict=True
      )
    }
    return means | {'update_norm': window['norms'] / window['steps']}

  def brief(self) -> loop.Scalars:
    """What the progress bar shows."""
    return {'active': float(sum(member.active for member in self._progress))}
