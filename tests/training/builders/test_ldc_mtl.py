"""LDC-MTL against NumPy, over devices, and with absent tasks."""

import feature_case
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax.contrib import ldc_mtl as ldc_mtl_lib
from mtl_jax.training import parallel

RATE, LAM = 0.1, 0.7


def make(**options):
  options = {
    'lam': LAM,
    'num_tasks': 3,
    'optimizer': optax.sgd(RATE),
    **options,
  }
  return ldc_mtl_lib.ldc_mtl(**options)


class Follower:
  """LDC-MTL in NumPy, with plain descent on everything."""

  def __init__(self, params, method, tau, steps_per_epoch):
    self.params, self.router = params, method.router
    self.tau, self.steps_per_epoch = tau, steps_per_epoch
    self.first, self.number = {}, 0

  def step(self, batch):
    oracle = feature_case.Oracle(self.params, batch)
    here = [n for n in oracle.names if oracle.present[n]]
    if self.tau == 'log' and self.number % self.steps_per_epoch == 0:
      self.first = {}
    self.number += 1
    for n in here:
      self.first.setdefault(n, oracle.losses[n])
    pooled = np.mean([z.mean(0) for z in oracle.z.values()], 0)
    columns = [oracle.names.index(n) for n in here]
    logits = (pooled @ self.router['kernel'] + self.router['bias'])[columns]
    sigma = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    losses = np.array([oracle.losses[n] for n in here])
    first = np.array([self.first[n] for n in here])
    if self.tau == 'log':
      ell, slope = np.log(losses / first), 1 / losses
    else:
      least = min(self.first.values())
      slope = least / first if self.tau == 'initial' else np.ones_like(first)
      ell = slope * losses
    # The derivative with respect to each term sigma_i ell_i, by hand.
    signs = np.sign(np.diff(sigma * ell))
    by_term = np.ones_like(sigma)
    by_term[1:] += LAM * signs
    by_term[:-1] -= LAM * signs
    by_sigma = by_term * ell
    by_logit = np.zeros(len(oracle.names))
    by_logit[columns] = sigma * (by_sigma - sigma @ by_sigma)
    weights = dict.fromkeys(oracle.names, 0.0)
    weights.update(zip(here, by_term * sigma * slope, strict=True))
    by_pooled = self.router['kernel'] @ by_logit
    direction = {
      s: d + by_pooled / len(d) / len(oracle.z)
      for s, d in oracle.direction(weights).items()
    }
    self.router = {
      'kernel': self.router['kernel'] - RATE * np.outer(pooled, by_logit),
      'bias': self.router['bias'] - RATE * by_logit,
    }
    self.params = {
      'trunk': {
        'w': self.params['trunk']['w'] - RATE * oracle.trunk(direction)
      },
      'heads': {
        n: {
          k: p - RATE * weights[n] * oracle.heads[n][k] for k, p in head.items()
        }
        for n, head in self.params['heads'].items()
      },
    }


BATCHES = [
  feature_case.make_batch(0),
  feature_case.make_batch(1, absent=('b',)),
  feature_case.make_batch(2, absent=('a',)),
  feature_case.make_batch(3),
]


@pytest.mark.parametrize('tau', ldc_mtl_lib.TAUS)
def test_steps_are_those_of_numpy(tau):
  with jax.enable_x64(True):
    found = feature_case.run(make(tau=tau), BATCHES, steps_per_epoch=3)
    follower = Follower(*found[0][:2], tau, 3)
    for batch, (params, method, _) in zip(BATCHES, found[1:], strict=True):
      follower.step(batch)
      feature_case.close(params, follower.params)
      feature_case.close(method.router, follower.router)
    assert np.ptp(method.router['bias']) > 1e-3


def test_rows_and_streams_without_examples_do_not_count():
  # Padded rows, and a stream that was not drawn.
  with jax.enable_x64(True):
    whole = feature_case.make_batch(0, absent=('c',))
    padded = {s: dict(arrays) for s, arrays in whole.items()}
    padded['main'] = {
      k: np.concatenate([x, 9 * np.ones_like(x)])
      for k, x in padded['main'].items()
    }
    padded['main']['example_mask'] = np.repeat([1.0, 0.0], 8)
    padded['other']['example_mask'] = np.zeros(4)
    builder = make(num_tasks=2, tau='one')

    # The router of three tasks was drawn with another shape.
    def zero(state):
      method = state.opt_state['method']
      router = jax.tree.map(jnp.zeros_like, method.router)
      method = method._replace(router=router)
      return state._replace(opt_state={**state.opt_state, 'method': method})

    alone = feature_case.run(
      builder, [{'main': whole['main']}], names=('a', 'b'), change=zero
    )[-1]
    found = feature_case.run(make(tau='one'), [padded], change=zero)[-1]
    feature_case.close(alone[0]['trunk'], found[0]['trunk'])
    feature_case.close(alone[0]['heads']['a'], found[0]['heads']['a'])
    kernel = found[1].router['kernel']
    feature_case.close(alone[1].router['kernel'], kernel[:, :2])
    assert np.abs(kernel[:, :2]).min() > 0 and not kernel[:, 2].any()


@pytest.fixture(scope='module')
def on_one_device(toy):
  return run_toy(toy, 'jit', 1)


def run_toy(toy, mode, devices):
  with jax.enable_x64(True):
    batches = [
      {
        'main': toy.batch(i, 16, np.float64),
        'other': toy.batch(100 + i, 8, np.float64),
      }
      for i in range(4)
    ]
    batches[1]['main']['a'][:] = -1
    return feature_case.run(
      make(),
      batches,
      mode=mode,
      devices=devices,
      tx=optax.adam(1e-2),
      model=toy.model(),
      tasks=toy.tasks(('main', 'other', 'main')),
    )[-1]


@pytest.mark.parametrize('mode', sweeps.some(parallel.MODES, 'shard_map'))
def test_modes_agree_with_one_device(toy, on_one_device, mode):
  feature_case.close(run_toy(toy, mode, 4), on_one_device)


@pytest.mark.slow
def test_an_absent_task_has_no_influence():
  with jax.enable_x64(True):
    batches = [feature_case.make_batch(i, absent=('b',)) for i in range(3)]
    kernel = np.random.default_rng(0).normal(size=(feature_case.WIDTH, 3))

    def run(columns, names):
      def change(state):
        method = state.opt_state['method']
        router = {**method.router, 'kernel': jnp.asarray(kernel[:, columns])}
        method = method._replace(router=router)
        return state._replace(opt_state={**state.opt_state, 'method': method})

      builder = make(num_tasks=len(names))
      return feature_case.run(builder, batches, names=names, change=change)

    every = run([0, 1, 2], ('a', 'b', 'c'))
    some = run([0, 2], ('a', 'c'))
    feature_case.close(every[-1][0]['trunk'], some[-1][0]['trunk'])
    router = every[-1][1].router
    feature_case.close(
      router['kernel'][:, [0, 2]], some[-1][1].router['kernel']
    )
    feature_case.close(router['kernel'][:, 1], kernel[:, 1])
    feature_case.close(every[-1][0]['heads']['b'], every[0][0]['heads']['b'])


def test_bad_options_are_named():
  with pytest.raises(ValueError, match='lam in .0, inf., found -1'):
    make(lam=-1)
  with pytest.raises(ValueError, match="tau to be one of .*'first'; choose"):
    make(tau='first')
  with pytest.raises(ValueError, match='found 2 microbatches; set training.a'):
    feature_case.run(make(), BATCHES[:1], accumulate=2)
  with pytest.raises(ValueError, match='2 tasks for ldc_mtl, found 3; build'):
    feature_case.run(make(num_tasks=2), BATCHES[:1])
