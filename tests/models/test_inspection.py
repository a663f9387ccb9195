"""What models show of their experts is what their features are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharing_cases as cases
import sweeps

from mtl_jax import models

HEADS = {'a': models.LinearHead(1), 'b': models.LinearHead(2)}
MIXED = {
  'branching': {},
  'omoe': {},
  'mmoe': {},
  'cgc': {},
  'ple': {},
  'dselect_k': {},
  'stem': {},
  'home': {'categories': {'one': ['a'], 'two': ['b']}},
  'snr': {'connections': 'aver'},
}
LAST = dict.fromkeys(['branching', 'ple', 'home', 'snr'], 'level 2')


def make(name, **options):
  model = models.build_model(
    models.SHARING[name](**options), models.MLP(widths=(5,)), HEADS
  )
  rng = np.random.default_rng(1)
  batch = {'inputs': rng.normal(size=(6, 3)).astype(np.float32)}
  # Away from gates that weigh all alike.
  params, state = cases.drawn(model, batch)
  return model, jax.tree.map(lambda x: 3 * x, params), state, batch


@pytest.mark.parametrize('name', sweeps.some(MIXED, 'mmoe', 'ple', 'stem'))
def test_features_are_the_weighted_sum_of_what_is_shown(name):
  model, params, state, batch = make(name, **MIXED[name])
  assert model.inspect is not None

  @jax.jit
  def run(*args):
    features, _ = model.features(*args, stream='main', train=False)
    return model.inspect(*args, stream='main'), features

  found, features = run(params, state, batch)
  level = LAST.get(name, 'level 1')
  for task in HEADS:
    shown = found['weights'][level]
    weights = shown['all tasks' if name == 'omoe' else task]
    expected = sum(
      np.asarray(w, np.float64)[:, None]
      * np.asarray(found['experts'][level][expert], np.float64)
      for expert, w in weights.items()
    )
    actual = features if name == 'omoe' else features[task]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize('name', ['ple', 'home'])
def test_the_first_level_feeds_the_second(name):
  """Its weights sum to one, or to one and the self-gate's."""
  model, params, state, batch = make(name, **MIXED[name])
  found = model.inspect(params, state, batch, stream='main')
  for weights in found['weights']['level 1'].values():
    total = sum(np.asarray(w, np.float64) for w in weights.values())
    if name == 'ple':
      np.testing.assert_allclose(total, 1, rtol=1e-5)
    else:
      assert (total > 1).all() and (total <= 3 + 1e-5).all()


@pytest.mark.parametrize('name', sorted(set(models.SHARING) - set(MIXED)))
def test_models_without_experts_show_nothing(name):
  options = {'groups': {'groups': [['a'], ['b']]}}.get(name, {})
  trunk = models.MLP(widths=(5,))
  assert (
    models.build_model(models.SHARING[name](**options), trunk, HEADS).inspect
    is None
  )


def test_streams_show_their_own_tasks():
  model = models.build_model(
    models.SHARING['mmoe'](),
    models.MLP(widths=(5,)),
    HEADS,
    streams={'a': 'left', 'b': 'right'},
  )
  batch = {'inputs': jnp.ones((2, 3))}
  params, state = model.init(jax.random.key(0), {'left': batch, 'right': batch})
  found = model.inspect(params, state, batch, stream='right')
  assert list(found['weights']['level 1']) == ['b']


@pytest.mark.parametrize(
  'name', sweeps.some(sorted(set(MIXED) - {'dselect_k'}), 'mmoe', 'ple')
)
def test_training_does_not_trace_what_is_shown(name):
  """It has as many equations with ten experts as with three."""

  def lines(number):
    option = {
      'cgc': 'task_experts', 'ple': 'task_experts', 'stem': 'task_experts',
      'home': 'task_experts',
    }.get(name, 'experts')  # fmt: skip
    model, params, state, batch = make(name, **{option: number})
    traced = jax.make_jaxpr(
      lambda p: model.features(p, state, batch, stream='main', train=False)[0]
    )(params)
    return str(traced).count(' = ')  # equations

  assert lines(10) == lines(3)
