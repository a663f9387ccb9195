"""Methods of losses, Jacobians and parts agree with TorchJD and LibMTL.

In float64, over steps with a state; what is random is patched in.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference_case as case

from mtl_jax import combinators

K = case.LARGEST
REGRESSION = ['regression'] * K


@pytest.fixture(autouse=True)
def library_draws(monkeypatch):
  case.patch_draws(monkeypatch)


def preference(k):
  return tuple(case.padded(case.INPUTS[f'preference_{k}'], K))


def leaks(k):
  return tuple(case.padded(np.linspace(0, 1, k), K))


# Made after the draws are patched in.
TORCHJD_CASES = {
  'weighted_sum': combinators.weighted_sum,
  'weighted_sum_mean': lambda k: combinators.weighted_sum([1 / k] * K),
  'weighted_sum_constant': lambda k: combinators.weighted_sum(preference(k)),
  'geometric_mean': lambda: combinators.geometric_mean(epsilon=0.0),
  'stch': lambda: combinators.stch(mu=0.1),
  'stch_preference': lambda k: combinators.stch(
    preference(k), mu=0.1, ideal=0.1
  ),
  'cosmos': lambda k: combinators.cosmos(preference(k), penalty=2.0),
  'pbi': lambda k: combinators.pbi(preference(k)),
  'pbi_ideal': lambda k: combinators.pbi(preference(k), theta=0.5, ideal=0.1),
  'dwa': lambda: combinators.dwa(K),
  'famo': lambda: combinators.famo(K, minimum=0.1),
  'imtl_l': lambda: combinators.imtl_l(K),
  'uncertainty': lambda: combinators.uncertainty(REGRESSION),
  'rlw': combinators.rlw,
  'rlw_of_losses': combinators.rlw,
  'graddrop': combinators.graddrop,
  'graddrop_leak': lambda k: combinators.graddrop(leaks(k)),
  'trimmed_mean_0': lambda: combinators.trimmed_mean(0),
  'trimmed_mean_1': combinators.trimmed_mean,
  'excess_mtl': lambda: combinators.excess_mtl(K, step_size=0.1),
  'modo': lambda: combinators.modo(K, gamma=0.1),
  'sdmgrad': lambda: combinators.sdmgrad(K, steps=5),
}
LIBMTL_CASES = {
  'weighted_sum': combinators.weighted_sum,
  'geometric_mean': lambda: combinators.geometric_mean(epsilon=0.0),
  'dwa': lambda: combinators.dwa(K),
  'famo': lambda: combinators.famo(K),
  'uncertainty': lambda: combinators.uncertainty(REGRESSION, init=-0.5),
  'imtl_l_then_g': lambda: optax.chain(
    combinators.scale_by(combinators.imtl_l(K)),
    combinators.imtl_g(preset='libmtl'),
  ),
  'rlw': combinators.rlw,
  'log_stch': lambda: combinators.log_stch(K, mu=0.5, warmup_epochs=1),
  'db_mtl': lambda: combinators.db_mtl(K),
  'db_mtl_decay': lambda: combinators.db_mtl(K, beta_power=0.5),
  'excess_mtl': lambda: combinators.excess_mtl(K, step_size=0.1),
  'moco': lambda: combinators.moco(
    K, ridge=0.1, projection='softmax', normalize=True
  ),
  'modo': lambda: combinators.modo(K, gamma=0.1),
  'sdmgrad': lambda: combinators.sdmgrad(K, steps=5),
}
TOLERANCES = {
  # It adds 1e-7 to the first risk of a task.
  ('torchjd', 'excess_mtl'): 1e-7,
  # It adds 1e-12 below its root.
  ('torchjd', 'pbi'): 1e-10,
  ('torchjd', 'pbi_ideal'): 1e-10,
  # Its inner steps make much of a rounding error.
  ('torchjd', 'sdmgrad'): 1e-9,
  ('libmtl', 'sdmgrad'): 1e-9,
}


def with_large_parts(monkeypatch):
  """SDMGrad ran on gradients 1e4 times as large: see reference_problems."""
  for k in case.SIZES:
    large = 1e4 * case.INPUTS[f'parts_{k}']
    monkeypatch.setitem(case.INPUTS, f'parts_{k}', large)


def compare(library, name, make, monkeypatch):
  if name == 'sdmgrad':
    with_large_parts(monkeypatch)
  stored = case.TORCHJD if library == 'torchjd' else case.LIBMTL
  sizes = [k for k in case.SIZES if f'{name}_{k}' in stored]
  by_size = make.__code__.co_varnames[:1] == ('k',)
  for k, (found, _) in case.run(make if by_size else make(), sizes).items():
    if (library, name) == ('torchjd', 'excess_mtl'):
      found = found / k  # Its weights sum to 1.
    gap = case.gaps(found, stored[f'{name}_{k}']).max()
    assert gap < TOLERANCES.get((library, name), 1e-12), (k, gap)


@pytest.mark.parametrize('name', TORCHJD_CASES)
def test_torchjd(name, monkeypatch):
  compare('torchjd', name, TORCHJD_CASES[name], monkeypatch)


@pytest.mark.parametrize('name', LIBMTL_CASES)
def test_libmtl(name, monkeypatch):
  compare('libmtl', name, LIBMTL_CASES[name], monkeypatch)


@pytest.mark.parametrize('leak', [0.0, 0.3])
def test_graddrop_of_libmtl_is_at_the_features(leak):
  """The parameters are the features, so that the cut is seen as it is."""
  tx = combinators.graddrop(leak, at='features')

  @jax.jit
  def step(values, cotangents, present, uniform):
    case.DRAWS['uniform'] = uniform
    gradients = combinators.task_gradients(
      lambda p, z: jnp.einsum('kbd,bd->k', cotangents, z),
      values,
      present=present,
      features=lambda p: p,
    )
    return tx.update(gradients, tx.init(values), key=jax.random.key(0))[0]

  uniform = case.INPUTS[f'uniform_{K}']
  name = 'graddrop_leak' if leak else 'graddrop'
  with jax.enable_x64(True):
    for k in case.SIZES:
      values, expected = (
        case.INPUTS[f'features_{k}'],
        case.LIBMTL[f'{name}_{k}'],
      )
      cotangents = case.INPUTS[f'cotangents_{k}']
      present, shape = np.arange(K) < k, cotangents.shape[2:]
      for t in range(case.STEPS):
        rows = case.padded(cotangents[t], K, *shape)
        found = step(values[t], rows, present, uniform[t, : shape[-1]])
        # It adds 1e-7 to the size of a coordinate: no sign changes here.
        np.testing.assert_allclose(found, expected[t], rtol=1e-12, atol=1e-14)


def remembering():
  """An optimizer that makes no step, and whose state is the last slope."""
  return optax.GradientTransformation(
    jnp.zeros_like, lambda slope, state, params: (jnp.zeros_like(slope), slope)
  )


def test_gradnorm_of_libmtl_has_the_same_slope():
  """Its weights are ``K softmax(theta)``: by the chain rule from ours."""
  tx = combinators.gradnorm(K, initial='epoch', optimizer=remembering())
  look = lambda state: state.optimizer
  for k, (found, slopes) in case.run(tx, look=look).items():
    gap = case.gaps(found, case.LIBMTL[f'gradnorm_{k}']).max()
    assert gap < 1e-12
    for t, epoch in enumerate(case.EPOCHS):
      slope = np.asarray(slopes[t])[:k]
      of_theta = slope - slope.mean()  # At equal weights, which are 1.
      expected = case.LIBMTL[f'gradnorm_slopes_{k}'][t]
      assert np.any(expected) == (epoch > 0)
      if epoch > 0:
        np.testing.assert_allclose(of_theta, expected, atol=1e-12)
