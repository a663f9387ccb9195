"""The loop on the toy model: order, resume, stopping, and bad numbers."""

import dataclasses
import functools
import json
import math
import os
import signal

import grain
import jax
import numpy as np
import optax
import pytest

from mtl_jax import combinators
from mtl_jax.training import checkpoints, loop, parallel, state, step

NAMES = ('a', 'b', 'c')


@functools.cache
def compiled(toy):
  """Mesh, step and init; compiled once for all runs."""
  model, tasks = toy.model(), toy.tasks()
  tx = optax.chain(combinators.pcgrad(), optax.adam(1e-2))
  mesh = parallel.make_mesh(jax.devices()[:1])
  train = parallel.parallelize(
    lambda axis: step.make_train_step(model, tasks, tx, axis_name=axis), mesh
  )
  init = parallel.replicate(
    lambda: state.init_state(model, tx, jax.random.key(0), None), mesh
  )
  return mesh, train, init


class Run:
  """One toy run in a directory; made anew for each process it stands for."""

  def __init__(self, toy, directory, scores=None, poison=None, **plan):
    self.rows = []
    self.scores = scores or {}
    self.plan = loop.Plan(
      **dict(
        dict(steps=12, evaluate_every=4, checkpoint_every=3, log_every=2),
        **plan,
      )
    )
    self.mesh, self.compiled, self.init = compiled(toy)
    self.latest = checkpoints.Checkpoints(directory / 'checkpoints')
    self.best = checkpoints.Checkpoints(directory / 'best')

    def batch(i):
      found = toy.batch(int(i))
      if poison is not None and i == poison:
        found['b'][:] = np.inf
      return {'main': found}

    self.batches = iter(
      grain.MapDataset.range(1000).seed(0).map(batch).to_iter_dataset()
    )

  def go(self, die_at=None):
    def run_step(*args):
      found = self.compiled(*args)
      self.taken += 1
      if die_at is not None and self.taken == die_at:
        raise KeyboardInterrupt
      return found

    def evaluate(current):
      score = self.scores.get(int(current.step), int(current.step))
      return score, {'overall': score}

    tools = loop.Tools(
      step=run_step,
      draw=lambda number: parallel.shard_batch(next(self.batches), self.mesh),
      evaluate=evaluate,
      probe=None,
      write=lambda kind, step, scalars: self.rows.append((kind, step, scalars)),
      tick=lambda step, scalars: None,
      latest=self.latest,
      best=self.best,
      info={'note': 1},
    )
    start = jax.eval_shape(self.init)
    replicated = jax.sharding.NamedSharding(
      self.mesh, jax.sharding.PartitionSpec()
    )
    found = self.latest.restore(
      checkpoints.abstract(start, replicated), self.batches
    )
    self.resumed_from = found.step if found else 0
    current = found.state if found else self.init()
    progress = (
      loop.Progress(**found.info['progress']) if found else (loop.Progress())
    )
    self.taken = self.resumed_from
    return loop.fit(current, self.batches, progress, self.plan, tools, NAMES)


def values(current):
  return jax.tree.leaves(
    jax.device_get(current._replace(key=jax.random.key_data(current.key)))
  )


@pytest.fixture(scope='module')
def unbroken(toy, tmp_path_factory):
  run = Run(toy, tmp_path_factory.mktemp('unbroken'))
  final, progress, why = run.go()
  assert why == 'finished' and int(final.step) == 12
  return values(final), progress, run.rows


@pytest.mark.parametrize('die_at', [1, 5, 8, 11])
def test_resumed_equals_unbroken_bit_for_bit(toy, tmp_path, unbroken, die_at):
  dead = Run(toy, tmp_path)
  with pytest.raises(KeyboardInterrupt):
    dead.go(die_at=die_at)
  # A thread of a dead process would write no more; tests/test_launch.py kills
  # real ones inside a save.
  dead.latest.wait()
  again = Run(toy, tmp_path)
  final, progress, why = again.go()
  assert why == 'finished'
  # The newest whole checkpoint: every third step, and at evaluations.
  saves = [s for s in (0, 3, 4, 6, 8, 9) if s < die_at]
  assert again.resumed_from in saves[-2:]
  for x, y in zip(values(final), unbroken[0], strict=True):
    np.testing.assert_array_equal(x, y)
  assert progress == unbroken[1]
  timeless = lambda rows: [
    (kind, at, {k: v for k, v in scalars.items() if 'second' not in k})
    for kind, at, scalars in rows
    if at > again.resumed_from
  ]
  assert timeless(again.rows) == timeless(unbroken[2])


def test_sigterm_saves_and_returns(toy, tmp_path, unbroken):
  run = Run(toy, tmp_path)
  original = run.compiled

  def interrupting(*args):
    if run.taken == 6:
      os.kill(os.getpid(), signal.SIGTERM)
    return original(*args)

  run.compiled = interrupting
  final, _, why = run.go()
  assert why == 'interrupted' and int(final.step) == 7
  again = Run(toy, tmp_path)
  final, _, why = again.go()
  assert again.resumed_from == 7 and why == 'finished'
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
  final, _, why = run.go()
  assert why == 'interrupted'
  assert run.latest.steps()[-1] == int(final.step)


def test_what_was_written_after_the_restored_step_is_dropped(toy, tmp_path):
  run = Run(toy, tmp_path)
  run.go()
  assert run.best.steps() == [8, 12]
  run.best.drop_after(9)
  assert run.best.steps() == [8]


def test_best_checkpoint_and_early_stopping(toy, tmp_path):
  scores = {2: 0.5, 4: 0.7, 6: 0.6, 8: 0.7, 10: 0.9}
  run = Run(toy, tmp_path, scores, evaluate_every=2, patience=2)
  final, progress, why = run.go()
  assert why == 'stopped early' and int(final.step) == 8
  assert (progress.best_step, progress.best_score) == (4, 0.7)
  assert run.best.steps()[-1] == 4
  # A finished run does nothing more.
  again = Run(toy, tmp_path, scores, evaluate_every=2, patience=2)
  final, _, why = again.go()
  assert why == 'stopped early' and int(final.step) == 8 and not again.rows


def test_a_score_that_is_nan_is_never_the_best(toy, tmp_path):
  scores = {4: math.nan, 8: 0.1, 12: math.nan}
  _, progress, _ = Run(toy, tmp_path, scores).go()
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
  original = run.compiled

  def overflowing(*args):
    state_after, metrics = original(*args)
    if run.taken == 7:
      metrics = metrics | {'update_norm': metrics['update_norm'] * np.inf}
    return state_after, metrics

  run.compiled = overflowing
  with pytest.raises(loop.NonFiniteError, match='non-finite update .* step 8'):
    run.go()
  assert run.latest.steps()[-1] == 6


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
  progress = loop.Progress(best_score=0.5, best_step=3)
  again = loop.Progress(**json.loads(json.dumps(dataclasses.asdict(progress))))
  assert again == progress
