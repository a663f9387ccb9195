"""The loop on the toy model: order, resume, stopping, and bad numbers."""

import dataclasses
import functools
import json
import math
import os
import signal

import jax
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import combinators
from mtl_jax.training import checkpoints, loop, programs, step

NAMES = ('a', 'b', 'c')


@functools.cache
def compiled(toy):
  """Steps and init of any number of members; compiled once for all runs."""
  model, tasks = toy.model(), toy.tasks()
  tx = optax.chain(combinators.pcgrad(), optax.adam(1e-2))
  take = step.make_train_step(model, tasks, tx)

  def one(member, shared):
    start, batch = shared
    new, metrics = take(member._replace(step=start), batch)
    metrics = jax.tree.map(lambda x: x[None], metrics)
    return new._replace(step=None), metrics

  def init(seed, _):
    made = step.init_state(model, tx, jax.random.key(seed), None)
    return made._replace(step=None)

  return (
    jax.jit(programs.spread(one, 'vmap'), donate_argnums=0),
    jax.jit(programs.spread(init, 'vmap')),
    jax.jit(programs.keep_better),
  )


class Stepper:
  """A step per call; what every member reads is a function of the step."""

  longest = 1

  def __init__(self, toy, poison):
    self.toy, self.poison, self.taken = toy, poison, 0
    self.take, self.make, self.pick = compiled(toy)
    self.before = lambda stepper: None
    self.spoil = lambda metrics: metrics

  def advance(self, some, start, number):
    assert number == 1
    self.before(self)
    batch = self.toy.batch(start)
    if start == self.poison:
      batch['b'][:] = np.inf
    state_after, metrics = self.take(some.state, (start, {'main': batch}))
    self.taken += 1
    return state_after, self.spoil(metrics)

  def keep_better(self, better, new, old):
    return self.pick(better, new, old)

  def place(self, tree):
    return jax.device_put(tree)


class Run:
  """A toy run in a directory; made anew for each process it stands for."""

  def __init__(
    self, toy, directory, scores=None, poison=None, seeds=(0,), **plan
  ):
    self.rows, self.seeds = [], seeds
    self.scores = scores or {}
    self.plan = loop.Plan(
      **dict(
        dict(
          steps=12, evaluate_every=4, checkpoint_every=3, log_every=2,
          raises=len(seeds) == 1,
        ),
        **plan,
      )
    )  # fmt: skip
    self.stepper = Stepper(toy, poison)
    self.latest = checkpoints.Checkpoints(directory / 'checkpoints')

  def go(self, die_at=None):
    stepper = self.stepper

    def dying(stepper):
      if die_at is not None and self.at + stepper.taken == die_at:
        raise KeyboardInterrupt

    if die_at is not None:
      stepper.before = dying

    def evaluate(params, model_state):
      now = self.at + stepper.taken
      score = self.scores.get(now, now)
      one = ({'overall': score, 'other': -score}, {'overall': score})
      return [one] * len(self.seeds)

    def save(at, some, best, progress):
      self.latest.save(
        at,
        {'state': some.state, 'best': best},
        {'members': [dataclasses.asdict(m) for m in progress]},
      )

    def kept():
      self.latest.wait()
      return f'step {self.latest.steps()[-1]}' if self.latest.steps() else ''

    fresh = stepper.make(np.array(self.seeds, np.uint32), None)
    start = {'params': fresh.params, 'model_state': fresh.model_state}
    everyone = np.ones(len(self.seeds), bool)
    copies = stepper.keep_better(everyone, start, start)
    best = {'overall': copies, 'other': copies}
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = checkpoints.abstract(
      {'state': fresh, 'best': best},
      device,
    )
    restored = self.latest.restore(shapes)
    progress = [loop.MemberProgress() for _ in self.seeds]
    if restored:
      fresh = restored.trees['state']
      best = {name: restored.trees['best'][name] for name in best}
      progress = [loop.MemberProgress(**m) for m in restored.info['members']]
    self.at = restored.step if restored else 0
    hooks = loop.Hooks(
      evaluate=evaluate,
      write=lambda kind, at, series: self.rows.append((kind, at, series)),
      tick=lambda at, scalars: None,
      save=save,
      kept=kept,
    )
    some = programs.Members(fresh, {}, stepper.place(everyone))
    some, best, why = loop.fit(
      some, best, progress, self.at, self.plan, stepper, hooks, NAMES
    )
    self.latest.wait()
    self.step = self.at + stepper.taken
    return some, best, progress, why


def values(some):
  own = some.state
  return jax.tree.leaves(
    jax.device_get(own._replace(key=jax.random.key_data(own.key)))
  )


@pytest.fixture(scope='module')
def unbroken(toy, tmp_path_factory):
  run = Run(toy, tmp_path_factory.mktemp('unbroken'))
  final, _, progress, why = run.go()
  assert why == 'finished' and run.step == 12
  return values(final), progress, run.rows


def timeless(rows, after=0):
  return [
    (kind, at, {k: x.tolist() for k, x in series.items() if 'second' not in k})
    for kind, at, series in rows
    if at > after
  ]


@pytest.mark.parametrize('die_at', sweeps.some([1, 5, 8, 11], 1, 8))
def test_resumed_equals_unbroken_bit_for_bit(toy, tmp_path, unbroken, die_at):
  dead = Run(toy, tmp_path)
  with pytest.raises(KeyboardInterrupt):
    dead.go(die_at=die_at)
  # A thread of a dead process would write no more; tests/test_launch.py kills
  # real ones inside a save.
  dead.latest.wait()
  again = Run(toy, tmp_path)
  final, _, progress, why = again.go()
  assert why == 'finished'
  # The newest whole checkpoint: every third step, and at evaluations.
  saves = [s for s in (0, 3, 4, 6, 8, 9) if s <= die_at]
  assert again.at in saves[-2:]
  for x, y in zip(values(final), unbroken[0], strict=True):
    np.testing.assert_array_equal(x, y)
  assert progress == unbroken[1]
  assert timeless(again.rows, again.at) == timeless(unbroken[2], again.at)


def test_sigterm_saves_and_returns(toy, tmp_path, unbroken):
  run = Run(toy, tmp_path)

  def interrupting(stepper):
    if stepper.taken == 6:
      os.kill(os.getpid(), signal.SIGTERM)

  run.stepper.before = interrupting
  _, _, _, why = run.go()
  assert why == 'interrupted' and run.step == 7
  again = Run(toy, tmp_path)
  final, _, _, why = again.go()
  assert again.at == 7 and why == 'finished'
  for x, y in zip(values(final), unbroken[0], strict=True):
    np.testing.assert_array_equal(x, y)


def test_a_signal_at_any_moment_of_a_step_saves(toy, tmp_path):
  run = Run(toy, tmp_path)

  class Rows(list):
    def append(self, row):
      super().append(row)
      if row[:2] == ('train', 10):  # after the step decided whether to save
        os.kill(os.getpid(), signal.SIGTERM)

  run.rows = Rows()
  _, _, _, why = run.go()
  assert why == 'interrupted'
  assert run.latest.steps()[-1] == run.step


def test_best_parameters_and_early_stopping(toy, tmp_path):
  scores = {2: 0.5, 4: 0.7, 6: 0.6, 8: 0.7, 10: 0.9}
  run = Run(toy, tmp_path, scores, evaluate_every=2, patience=2)
  _, best, (progress,), why = run.go()
  assert why == 'finished' and progress.status == 'stopped early'
  assert run.step == 8 and progress.stopped_at == 8
  assert (progress.best_step, progress.best_score) == (4, 0.7)
  shorter = Run(toy, tmp_path / 'four', scores, steps=4)
  some, _, _, _ = shorter.go()
  jax.tree.map(
    np.testing.assert_array_equal, best['overall']['params'], some.state.params
  )
  # The same by another criterion, which does not stop the run.
  assert progress.best_of == {'other': [-0.5, 2]}
  # A finished run does nothing more.
  again = Run(toy, tmp_path, scores, evaluate_every=2, patience=2)
  again.go()
  assert again.step == 8 and not again.rows


def test_a_score_that_is_nan_is_never_the_best(toy, tmp_path):
  scores = {4: math.nan, 8: 0.1, 12: math.nan}
  _, _, (progress,), _ = Run(toy, tmp_path, scores).go()
  assert (progress.best_step, progress.best_score) == (8, 0.1)


def test_infinite_loss_names_step_and_task_and_keeps_checkpoints(toy, tmp_path):
  run = Run(toy, tmp_path, poison=7)
  with pytest.raises(loop.NonFiniteError) as error:
    run.go()
  assert "a loss of inf for task 'b' at step 8" in str(error.value)
  assert 'last good checkpoint: step 6' in str(error.value)
  assert run.latest.steps()[-1] == 6


def test_an_infinite_update_stops_before_it_is_saved(toy, tmp_path):
  run = Run(toy, tmp_path)

  def spoil(metrics):
    if run.stepper.taken == 8:
      return metrics | {'update_norm': metrics['update_norm'] * np.inf}
    return metrics

  run.stepper.spoil = spoil
  with pytest.raises(loop.NonFiniteError, match='non-finite update .* step 8'):
    run.go()
  assert run.latest.steps()[-1] == 6


def test_of_several_members_who_diverges_is_frozen(toy, tmp_path):
  run = Run(toy, tmp_path, seeds=(0, 1))

  def spoil(metrics):
    if run.stepper.taken != 7:
      return metrics
    bad = np.array([[1.0], [np.inf]])
    return metrics | {'losses': metrics['losses'] * bad[..., None]}

  run.stepper.spoil = spoil
  some, _, (first, second), why = run.go()
  assert why == 'finished' and first.status == 'finished'
  assert (second.status, second.diverged_at) == ('diverged', 7)
  assert second.diverged_in == 'a' and second.best_step == 4
  assert some.active.tolist() == [True, False]
  last = {kind: series for kind, _, series in run.rows if kind == 'train'}
  assert np.isnan(last['train']['loss/a']).tolist() == [False, True]


def test_a_member_has_the_rows_of_the_run_alone(toy, tmp_path, unbroken):
  run = Run(toy, tmp_path, seeds=(0, 1))
  run.go()
  for both, alone in zip(
    timeless(run.rows), timeless(unbroken[2]), strict=True
  ):
    assert both[:2] == alone[:2]
    for name, series in both[2].items():
      assert series[0] == pytest.approx(alone[2][name][0], rel=1e-6), name


def test_rows_are_means_over_labels(toy, tmp_path):
  run = Run(toy, tmp_path, steps=4)
  run.go()
  single = Run(toy, tmp_path / 'single', steps=4, log_every=1)
  single.go()
  labels = [np.sum(toy.batch(i)['a'] >= 0) for i in range(2)]
  losses = [row[2]['loss/a'] for row in single.rows if row[0] == 'train'][:2]
  expected = np.dot(labels, losses) / np.sum(labels)
  np.testing.assert_allclose(run.rows[0][2]['loss/a'], expected, rtol=1e-12)


def test_progress_survives_json():
  progress = loop.MemberProgress(best_score=0.5, best_step=3)
  again = loop.MemberProgress(
    **json.loads(json.dumps(dataclasses.asdict(progress)))
  )
  assert again == progress
