"""A run that goes on from its checkpoint, maybe with another length."""

from collections.abc import Sequence
from typing import Any

from mtl_jax.training import checkpoints, loop


def take(
  restored: Any,
  experiment: Any,
  latest: checkpoints.Checkpoints,
  number: int,
) -> list[loop.MemberProgress]:
  """Progress of members, as the plan of now has it, and lines on what differs.

  Args:
    restored: the newest of the checkpoints.
    experiment: a `build.Experiment`.
    latest: the checkpoints.
    number: how many of the members count.

  Raises:
    ValueError: if the run was trained for longer.
  """
  steps = experiment.plan.steps
  if restored.step > steps:
    raise ValueError(
      f'Expected training for {restored.step} steps or more, for which '
      f'{latest.directory.parent} has a checkpoint, found {steps}; set '
      'training.steps, or choose another --workdir.'
    )
  progress = [loop.MemberProgress(**m) for m in restored.info['members']]
  apply_patience(progress[:number], restored.step, experiment.plan)
  _say_schedule(restored, experiment)
  return progress


def apply_patience(
  progress: Sequence[loop.MemberProgress], step: int, plan: loop.Plan
) -> None:
  """Resumes or stops members whose patience has changed, and says so.

  A member that is alone in its program goes on from where it stopped early, or
  stops. Of several, some have trained on when one stopped: it cannot follow.

  Args:
    progress: as restored, without what fills a program up; changed in place.
    step: of the checkpoint.
    plan: with the patience of now.
  """
  ended = [
    bool(plan.patience) and m.evaluations_since_best >= plan.patience
    for m in progress
  ]
  early = [
    i
    for i, m in enumerate(progress)
    if m.finished and m.diverged_at is None and not ended[i]
  ]
  said = f'training.patience is {plan.patience}'
  if len(progress) > 1:
    if early:
      print(
        f'{len(early)} of {len(progress)} members stopped early by another '
        f'patience and stay so, though {said}; choose another --workdir to '
        'train all of them by it.',
        flush=True,
      )
    return
  (member,) = progress
  without = f'{member.evaluations_since_best} without a better score'
  if early:
    member.finished, member.stopped_at = False, None
    print(f'Goes on: {said} evaluations, {without}.', flush=True)
  elif ended[0] and not member.finished and step < plan.steps:
    member.finished, member.stopped_at = True, step
    print(f'Stopped early: {said} evaluations, {without}.', flush=True)


def _say_schedule(restored, experiment) -> None:
  """Prints a line where the schedule was of another number of steps."""
  name, steps = experiment.settings.optimizer.schedule, experiment.plan.steps
  before = restored.info.get('steps', steps)
  if before != steps and name != 'constant':
    print(
      f'The learning rate jumps at step {restored.step}: schedule {name!r} is '
      f'now of {steps} steps, and was of {before}; an unbroken run of either '
      'length ends with another model.',
      flush=True,
    )
