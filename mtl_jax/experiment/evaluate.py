"""``--mode=evaluate``: the table of a trained member again."""

import pathlib

from mtl_jax.experiment import (
  data_parallel,
  outcome as outcome_lib,
  rankings,
  restore,
  run,
)
from mtl_jax.training import parallel, programs


def evaluate(
  workdir: pathlib.Path | str,
  method: str | None = None,
  member: int | None = None,
) -> outcome_lib.Outcome:
  """Reprints the table of a member, computed from its best checkpoint."""
  opened = restore.open_member(workdir, method, member)
  stepper = data_parallel.DataParallel(opened.experiment, parallel.make_mesh())
  params = run.tested(opened.experiment, opened.params)
  state = {'params': params, 'model_state': opened.model_state}
  state = stepper.place(programs.as_members(state))
  (result,) = stepper.evaluate(state['params'], state['model_state'], 'test')
  outcome = outcome_lib.Outcome(
    workdir=opened.workdir.path,
    ended='evaluated',
    members=(
      outcome_lib.MemberOutcome(
        index=opened.place.index,
        seed=opened.place.seed,
        point=opened.place.point,
        status='evaluated',
        best_step=opened.step,
        metrics=result.metrics,
        overall=result.overall,
        undefined=tuple(result.undefined),
      ),
    ),
  )
  run.show_result(opened.experiment, outcome.members[0])
  if opened.experiment.log:
    rankings.show(opened.experiment.settings, opened.workdir)
  return outcome
