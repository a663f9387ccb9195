"""All runs of a method as one program: equal to each run alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import combinators, problems
from mtl_jax.experiment import methods, problem as problem_lib
from mtl_jax.training import engine as engine_lib, step as step_lib

MEMBERS = problems.make_members(2, 3)


def make_run(problem, make, *, steps, record_every):
  """``members -> path``, through the program that runs of models use too."""

  def method(preference):
    made = make(preference)
    if isinstance(made, methods.MethodParts):
      return made
    return methods.MethodParts(step_lib.from_chain(made), optax.identity())

  experiment = problem_lib.ProblemExperiment(
    problem, method, problem_lib.make_plan(steps, record_every)
  )
  return lambda members: problem_lib.train(experiment, members)[0]


def balanced(preference):
  del preference
  return optax.chain(combinators.imtl_g(), optax.adam(1e-2))


def random(preference):
  del preference
  return optax.chain(combinators.rlw(), optax.adam(1e-2))


def pick(members, index):
  return jax.tree.map(lambda x: x[index : index + 1], members)


@pytest.mark.parametrize('make', sweeps.some([balanced, random], random))
def test_a_member_is_the_same_run_alone(make):
  problem = problems.two_valleys(noise=0.1)
  run = make_run(problem, make, steps=20, record_every=5)
  together = run(MEMBERS)
  for index in (0, 4):
    alone = run(pick(MEMBERS, index))
    np.testing.assert_allclose(
      together.params[index], alone.params[0], rtol=1e-4, atol=1e-5
    )
  # Seeds and starts draw apart.
  assert not np.allclose(together.params[0, -1], together.params[3, -1])


def test_a_run_is_a_loop_over_its_steps():
  # Adam on the sum of the losses, by hand and in float64.
  problem = problems.vlmop1(size=3)
  steps, rate = 12, 0.05
  run = make_run(
    problem,
    lambda _: optax.chain(combinators.weighted_sum(), optax.adam(rate)),
    steps=steps,
    record_every=4,
  )
  path = run(problems.make_members(1, 1))
  x = np.asarray(path.params[0, 0], np.float64)
  a = 1 / np.sqrt(3)
  first, second = np.zeros(3), np.zeros(3)
  expected = [x.copy()]
  for t in range(1, steps + 1):
    slope = (x - a) / 2 + (x + a) / 2
    first = 0.9 * first + 0.1 * slope
    second = 0.999 * second + 0.001 * slope**2
    x -= rate * first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    if t % 4 == 0:
      expected.append(x.copy())
  np.testing.assert_allclose(path.params[0], expected, atol=1e-5)
  losses = [
    [((x - a) ** 2).sum() / 4, ((x + a) ** 2).sum() / 4] for x in expected
  ]
  np.testing.assert_allclose(path.losses[0], losses, atol=1e-5)


def test_records_begin_where_the_starts_are():
  problem = problems.two_valleys()
  run = make_run(problem, balanced, steps=4, record_every=2)
  path = run(problems.make_members(1, 3))
  assert path.losses.shape == (3, 3, 2) and path.params.shape == (3, 3, 2)
  np.testing.assert_allclose(
    path.params[:, 0], [[-8.5, 7.5], [-8.5, -5], [9, 9]]
  )


def test_a_preference_is_its_members_own():
  problem = problems.vlmop1(size=2)
  chosen = problems.even_preferences(3)
  run = make_run(
    problem,
    lambda p: optax.chain(combinators.stch(p, mu=0.1), optax.adam(1e-2)),
    steps=10,
    record_every=10,
  )
  path = run(problems.make_members(1, 1, chosen))
  for row, preference in enumerate(chosen.tolist()):
    method = combinators.stch(preference, mu=0.1)
    alone = make_run(
      problem,
      lambda _, method=method: optax.chain(method, optax.adam(1e-2)),
      steps=10,
      record_every=10,
    )(problems.make_members(1, 1))
    np.testing.assert_allclose(path.params[row], alone.params[0], atol=1e-6)


def test_bounds_hold():
  problem = problems.zdt(number=1, size=3)
  run = make_run(
    problem,
    lambda _: optax.chain(combinators.weighted_sum(), optax.sgd(1.0)),
    steps=10,
    record_every=1,
  )
  x = run(problems.make_members(1, 1)).params[0]
  assert (x[:, 0] >= 1e-6).all() and (x[:, 1:] == 0).any()
  assert (x >= 0).all() and (x <= 1).all()


@pytest.mark.slow
def test_noise_has_its_size_and_samples_differ():
  problem = problems.two_valleys(noise=0.5, starts=((0.0, -8.0),))
  rows = []

  def spy(jacobian, present):
    rows.append(jacobian)
    return jacobian[0]

  # The first gradient, over many seeds, by way of plain descent.
  run = make_run(
    problem,
    lambda _: optax.chain(combinators.from_jacobian(spy), optax.sgd(1.0)),
    steps=1,
    record_every=1,
  )
  path = run(problems.make_members(400, 1))
  assert rows
  taken = path.params[:, 0] - path.params[:, 1]
  slope = jax.jacrev(lambda x: problem.losses(x, None))(jnp.array([0.0, -8.0]))
  np.testing.assert_allclose(taken.mean(0), slope[0], atol=0.1)
  np.testing.assert_allclose(taken.std(0), 0.5, atol=0.06)


@pytest.mark.slow
@pytest.mark.parametrize('noise', sweeps.some([0.0, 0.1], 0.1))
def test_methods_that_ask_for_parts_run(noise):
  run = make_run(
    problems.two_valleys(noise=noise),
    lambda _: optax.chain(combinators.modo(2), optax.adam(1e-2)),
    steps=4,
    record_every=2,
  )
  assert np.isfinite(run(problems.make_members(1, 3)).losses).all()


def test_famo_learns_from_the_losses_after_the_step():
  # One task falls, the other rises: its weight must come to differ.
  problem = problems.two_valleys()
  states = []
  famo = combinators.famo(2, minimum=(-21.0, -21.0))

  def watched(updates, state, params=None, **extra):
    states.append(state)
    return famo.update(updates, state, params, **extra)

  run = make_run(
    problem,
    lambda _: optax.chain(
      optax.GradientTransformationExtraArgs(famo.init, watched),
      optax.adam(1e-2),
    ),
    steps=40,
    record_every=40,
  )
  path = run(problems.make_members(1, 3))
  assert states and np.isfinite(path.losses).all()
  equal = make_run(
    problem,
    lambda _: optax.chain(
      # Without the second look its weights stay z / D, never learned.
      combinators.from_losses(
        lambda losses, present: (1 / (losses + 21)) / jnp.sum(1 / (losses + 21))
      ),
      optax.adam(1e-2),
    ),
    steps=40,
    record_every=40,
  )(problems.make_members(1, 3))
  assert np.abs(path.params - equal.params).max() > 1e-3


@pytest.mark.slow
def test_heads_are_not_shared():
  problem = problems.scaled_regressions(
    inputs=4, outputs=2, width=3, depth=1, examples=(30, 10),
    batch_size=8,
  )  # fmt: skip
  run = make_run(
    problem,
    lambda _: optax.chain(combinators.pcgrad(), optax.sgd(1e-3)),
    steps=4,
    record_every=2,
  )
  path = run(problems.make_members(2, 1))
  # Few parameters: their path is kept. Heads get the gradient of their own
  # task, whatever is projected at the trunk.
  before, after = (path.params['heads']['bias'][:, t] for t in (0, 1))
  assert path.losses.shape == (2, 3, 2) and before.shape == (2, 2, 2)
  assert (before != after).all()


def test_of_many_parameters_the_last_are_kept():
  problem = problems.linear_regressions(tasks=20, inputs=4, examples=10)
  run = make_run(
    problem,
    lambda _: optax.chain(combinators.weighted_sum(), optax.sgd(1e-3)),
    steps=4,
    record_every=2,
  )
  path = run(problems.make_members(2, 1))
  assert path.losses.shape == (2, 3, 20)
  assert path.params['kernel'].shape == (2, 1, 4, 20)


@pytest.mark.parametrize('steps, every', [(0, 1), (10, 3), (10, 0)])
def test_bad_numbers_of_steps_are_told(steps, every):
  with pytest.raises(ValueError, match='steps that record_every divides'):
    make_run(problems.two_valleys(), balanced, steps=steps, record_every=every)


def end(last, params=None, first=None):
  shape = (1, 1, len(last), 2)
  last = np.reshape(np.asarray(last, float), shape)
  first = np.ones(shape) if first is None else np.reshape(first, shape)
  return problems.End(first, last, params)


def test_measures_of_known_ends():
  problem = problems.two_valleys()
  middle = np.reshape([0.0, -8.3551], (1, 1, 1, 2))
  found = end([[-15.0916, -15.0916]], middle)
  measure = {
    name: problems.MEASURES[name](problem, found)[0, 0, 0]
    for name in problems.applicable(problem)
  }
  assert abs(measure['optimum_gap']) < 1e-3 and measure['distance'] < 1e-3
  assert abs(measure['tilt']) < 1e-6
  assert abs(measure['mean_loss'] + 15.0916) < 1e-6
  away = end([[-0.4, -19.99]], middle + np.array([0.0, 3.0]))
  assert abs(problems.MEASURES['distance'](problem, away)[0, 0, 0] - 3) < 1e-3
  assert problems.MEASURES['tilt'](problem, away)[0, 0, 0] > 0.99


def test_relative_losses():
  problem = problems.linear_regressions(tasks=2)
  found = end([[1.0, 4.0]], first=[[2.0, 4.0]])
  assert problems.MEASURES['relative_loss'](problem, found) == 1.5
  assert problems.MEASURES['worst_relative_loss'](problem, found) == 1.0
  assert problems.task_loss('task 1')(problem, found) == 0.5


def test_measures_say_what_they_need():
  problem = problems.linear_regressions(tasks=2)
  for name in ('distance', 'optimum_gap', 'tilt'):
    with pytest.raises(ValueError, match='is known'):
      problems.MEASURES[name](problem, end([[1.0, 1.0]]))


@pytest.mark.slow
def test_a_step_builder_on_a_problem_is_the_combinator_of_its_name():
  # The plain sum as a step of its own, and as a combinator.
  def make_step(parts):
    def step(state, batch):
      key, _ = step_lib.keys_of(state)
      gradients, model_state = parts.engine(
        state.params, state.model_state, batch, key=key
      )
      return parts.finish(
        state,
        gradients.combine(jnp.ones(2)),
        gradients=gradients,
        model_state=model_state,
        method=(),
      )

    return step

  problem = problems.two_waves(width=3)
  members = problems.make_members(2, 1)
  tx = optax.sgd(1e-2)
  builder = step_lib.StepBuilder(make_step)
  paths = [
    make_run(problem, make, steps=6, record_every=2)(members)
    for make in (
      lambda _: methods.MethodParts(builder, tx),
      lambda _: optax.chain(combinators.weighted_sum(), tx),
    )
  ]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *paths
  )
  assert (paths[0].losses[:, -1] != paths[0].losses[:, 0]).all()


def test_a_step_builder_needs_a_cut():
  with pytest.raises(ValueError, match=r'study\.absent'):
    problem_lib.check_method(
      problems.two_valleys(), step_lib.StepBuilder(lambda parts: None)
    )


def test_a_method_at_the_features_needs_a_problem_without_noise():
  quiet = problems.two_waves(width=3)
  noisy = dataclasses.replace(quiet, noise=0.1)
  builder = step_lib.StepBuilder(lambda parts: None)
  problem_lib.check_method(quiet, builder)
  with pytest.raises(ValueError, match=r'no noise, .* study\.absent'):
    problem_lib.check_method(noisy, builder)
  params = quiet.start(jax.random.key(0), 0)
  still, moved = (gradients_of(problem, params) for problem in (quiet, noisy))
  assert still.feature_gramian().shape == (2, 2)
  still_rows = still.jacobian()
  gaps = jax.tree.map(jnp.subtract, moved.jacobian(), still_rows)
  assert all(np.all(gap != 0) for gap in jax.tree.leaves(gaps))
  for at in ('features', 'feature_gramian'):
    with pytest.raises(ValueError, match=r'found noise 0\.1; .*study\.absent'):
      getattr(moved, at)()


def gradients_of(problem, params, noise_key=0):
  model = problem_lib.make_model(problem, params, None)
  engine = problem_lib.make_engine(problem, model)
  assert type(engine) is engine_lib.Engine
  key = jax.random.key(noise_key)
  return engine(params, {}, problem_lib.BATCH, key=key)[0]


def test_a_problem_has_the_engine_of_networks():
  x = jnp.array([1.0, -2.0])

  def everything(problem):
    gradients = gradients_of(problem, x)
    first, second = gradients.split(2)
    return {
      'losses': gradients.losses,
      'rows': gradients.jacobian(),
      'direction': gradients.combine(jnp.array([1.0, 3.0])),
      'parts': (first.jacobian(), second.jacobian()),
    }

  still, noisy = jax.jit(
    lambda: [everything(problems.two_valleys(noise=s)) for s in (0.0, 0.1)]
  )()
  losses = lambda x: problems.two_valleys().losses(x, None)
  slope = jax.jacrev(losses)(x)
  np.testing.assert_allclose(still['losses'], losses(x), rtol=1e-6)
  np.testing.assert_allclose(noisy['losses'], losses(x), rtol=1e-6)
  for rows in (still['rows'], *still['parts']):
    np.testing.assert_allclose(rows, slope, rtol=1e-6)
  direction = slope[0] + 3 * slope[1]
  np.testing.assert_allclose(still['direction'], direction, rtol=1e-6)
  samples = [noisy['rows'], *noisy['parts']]
  for one in samples:
    gap = np.abs(one - slope)
    assert (gap > 0).all() and gap.max() < 0.5
  assert not np.allclose(samples[1], samples[2])


@pytest.mark.parametrize('at', ['features', 'feature_gramian'])
def test_losses_are_no_features(at):
  with pytest.raises(ValueError, match='features and heads, .*, found none'):
    getattr(gradients_of(problems.two_valleys(), jnp.ones(2)), at)()


def test_a_problem_whose_tasks_share_nothing_is_refused():
  problem = dataclasses.replace(
    problems.two_valleys(), shared=lambda path: False
  )
  run = make_run(problem, balanced, steps=2, record_every=2)
  with pytest.raises(ValueError, match='shared= of a problem .* found none'):
    run(problems.make_members(1, 1))
