"""ConsMTL against NumPy (complex steps, SciPy), and over devices."""

import engines
import feature_case
import jax
import numpy as np
import optax
import pytest
import scipy.optimize
import sweeps

from mtl_jax import models
from mtl_jax.contrib import cons_mtl as cons_mtl_lib
from mtl_jax.training import parallel

RATE = 0.1


def fair_weights(rows, alpha):
  """G w = w^(-1 / alpha), in log w, by SciPy."""
  gramian = rows @ rows.T

  def residual(x):
    w = np.exp(x)
    return np.log(np.maximum(gramian @ w, 1e-300)) + x / alpha

  start = np.log(1 / np.sqrt(np.diag(gramian)))
  found = scipy.optimize.root(residual, start, tol=1e-13)
  assert np.abs(residual(found.x)).max() < 1e-9
  return np.exp(found.x)


def inner_product(head, rotated, labels, delta):
  """<dL/dz, delta> as a function of the head, complex numbers welcome."""
  mask = ~np.isnan(labels)
  hidden = np.tanh(rotated @ head['u'])
  error = (hidden @ head['v'])[:, 0] - np.nan_to_num(labels)
  slope = 2 * np.where(mask, error, 0)[:, None] / mask.sum()
  back = (slope * head['v'][:, 0]) * (1 - hidden**2)
  return (back @ head['u'].T * delta).sum()


def complex_step(f, head):
  """The gradient of f, exact to rounding, without any differentiation."""
  found = {}
  for name, value in head.items():
    found[name] = np.zeros_like(value)
    for place in np.ndindex(value.shape):
      moved = {k: v.astype(complex) for k, v in head.items()}
      moved[name][place] += 1e-30j
      found[name][place] = f(moved).imag / 1e-30
  return found


def norm(tree):
  return np.sqrt(sum((x**2).sum() for x in tree.values()))


def follow(params, batch, lam, clip, exclude=(), alpha=2.0, mtllib=False):
  """One step of ConsMTL in NumPy; also how many heads were clipped."""
  oracle = feature_case.Oracle(params, batch)
  here = [n for n in oracle.names if oracle.present[n]]
  rows = []
  for n in here:
    only = {m: float(m == n) for m in oracle.names}
    rows.append(oracle.trunk(oracle.direction(only)).ravel())
  rows = np.stack(rows)
  w = fair_weights(rows, alpha)
  trunk = w @ rows
  if mtllib:
    trunk *= len(here)
    trunk *= min(1, 1 / np.linalg.norm(trunk))
  weights = dict.fromkeys(oracle.names, 0.0)
  weights.update(zip(here, w, strict=True))
  delta, clipped, heads = oracle.direction(weights), [], {}
  for n, head in params['heads'].items():
    heads[n] = {k: p - RATE * oracle.heads[n][k] for k, p in head.items()}
    if n not in here or n in exclude:
      continue
    stream = feature_case.STREAMS[n]
    extra = complex_step(
      lambda h, n=n, s=stream: (
        -lam * inner_product(h, oracle.z[s], batch[s][n], delta[s])
      ),
      head,
    )
    longest = clip * norm(oracle.heads[n])
    clipped.append(norm(extra) > longest)
    factor = min(1, longest / norm(extra))
    heads[n] = {k: p - RATE * factor * extra[k] for k, p in heads[n].items()}
  w = params['trunk']['w']
  trunk = w - RATE * trunk.reshape(w.shape)
  return {'trunk': {'w': trunk}, 'heads': heads}, clipped


BATCHES = [
  feature_case.make_batch(0),
  feature_case.make_batch(1, absent=('b',)),
  feature_case.make_batch(2),
]


@pytest.mark.parametrize(
  'options, clipped',
  [
    ({'lam': 1e-2}, False),
    ({'lam': 50.0, 'exclude': ('b',), 'preset': 'mtllib'}, True),
    ({'lam': 0.1, 'clip': 1e3, 'alpha': 1.5}, False),
  ],
)
def test_steps_are_those_of_numpy(options, clipped):
  with jax.enable_x64(True):
    builder = cons_mtl_lib.cons_mtl(**options, ridge=0.0)
    found = feature_case.run(builder, BATCHES)
    params = found[0][0]
    options = dict(options)
    mtllib = options.pop('preset', '') == 'mtllib'
    for batch, (after, _, _) in zip(BATCHES, found[1:], strict=True):
      params, seen = follow(
        params, batch, **{'clip': 0.1, **options}, mtllib=mtllib
      )
      assert all(seen) if clipped else not any(seen)
      feature_case.close(after, params, 1e-8)


def test_lambda_of_zero_is_fairgrad_and_plain_heads():
  with jax.enable_x64(True):
    found = feature_case.run(cons_mtl_lib.cons_mtl(0.0, ridge=0.0), BATCHES[:1])
    oracle = feature_case.Oracle(found[0][0], BATCHES[0])
    for n, head in found[0][0]['heads'].items():
      expected = {k: p - RATE * oracle.heads[n][k] for k, p in head.items()}
      feature_case.close(found[1][0]['heads'][n], expected)


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
      cons_mtl_lib.cons_mtl(0.3),
      batches,
      mode=mode,
      devices=devices,
      tx=optax.adam(1e-2),
      model=toy.model(),
      tasks=toy.tasks(('main', 'other', 'main')),
    )[-1]


@pytest.mark.slow
@pytest.mark.parametrize('mode', sweeps.some(parallel.MODES, 'shard_map'))
def test_modes_agree_with_one_device(toy, on_one_device, mode):
  feature_case.close(run_toy(toy, mode, 4), on_one_device)


def test_an_absent_task_has_no_influence():
  with jax.enable_x64(True):
    batches = [feature_case.make_batch(i, absent=('b',)) for i in range(3)]
    builder = cons_mtl_lib.cons_mtl(0.3)
    every = feature_case.run(builder, batches)
    some = feature_case.run(builder, batches, names=('a', 'c'))
    feature_case.close(every[-1][0]['trunk'], some[-1][0]['trunk'])
    for name in ('a', 'c'):
      feature_case.close(
        every[-1][0]['heads'][name], some[-1][0]['heads'][name]
      )
    feature_case.close(every[-1][0]['heads']['b'], every[0][0]['heads']['b'])


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['jit', 'shard_map'])
def test_the_extra_gradient_sees_the_dropout_of_the_step(mode):
  # Else its bound would be that of other gradients.
  with jax.enable_x64(True):
    heads = {n: models.MLPHead(1, widths=(6,), dropout=0.5) for n in ('a', 'b')}
    model = models.build_model(
      models.hard_sharing(), models.MLP(widths=(4,)), heads
    )
    main = feature_case.make_batch(0)['main']
    batch = {'main': {**main, 'inputs': main['x']}}
    (before, plain), (_, bound) = (
      [
        row[0]['heads']
        for row in feature_case.run(
          cons_mtl_lib.cons_mtl(lam),
          [batch],
          mode=mode,
          devices=4,
          model=model,
          tasks=feature_case.make_tasks(('a', 'b')),
        )
      ]
      for lam in (0.0, 1e9)
    )
    for n in ('a', 'b'):
      own = jax.tree.leaves(jax.tree.map(np.subtract, before[n], plain[n]))
      extra = jax.tree.leaves(jax.tree.map(np.subtract, plain[n], bound[n]))
      lengths = [np.sqrt(sum((x**2).sum() for x in t)) for t in (own, extra)]
      np.testing.assert_allclose(lengths[1], 0.1 * lengths[0], 1e-4)


@pytest.mark.slow
def test_only_heads_get_the_extra_gradient(toy):
  # Head b reads a shared parameter, and the gate stands before the features.
  with jax.enable_x64(True):
    batch = {'main': toy.batch(0, 12, np.float64)}
    plain, extra = (
      feature_case.run(
        cons_mtl_lib.cons_mtl(lam),
        [batch],
        model=toy.model(),
        tasks=toy.tasks(),
      )[1][0]
      for lam in (0.0, 0.3)
    )
    feature_case.close(plain['trunk'], extra['trunk'])
    feature_case.close(plain['gate'], extra['gate'])
    for n in ('a', 'b', 'c'):
      assert np.abs(plain['heads'][n] - extra['heads'][n]).max() > 1e-4


def test_what_is_frozen_in_a_head_stays():
  with jax.enable_x64(True):
    found = feature_case.run(
      cons_mtl_lib.cons_mtl(0.3),
      BATCHES[:1],
      frozen=lambda path: path == 'heads/a/u',
    )
    before, after = (row[0]['heads'] for row in found)
    feature_case.close(before['a']['u'], after['a']['u'])
    assert np.abs(before['a']['v'] - after['a']['v']).max() > 1e-4


def test_bad_options_are_named(toy):
  with pytest.raises(ValueError, match='lam in .0, inf., found -1'):
    cons_mtl_lib.cons_mtl(-1)
  with pytest.raises(ValueError, match='alpha in .1, inf., found 0.5'):
    cons_mtl_lib.cons_mtl(alpha=0.5)
  with pytest.raises(ValueError, match="'mtllib'., found 'official'; choose"):
    cons_mtl_lib.cons_mtl(preset='official')
  parts = {'model': toy.model(), 'tasks': toy.tasks(), 'tx': optax.sgd(0.1)}
  with pytest.raises(ValueError, match="among a, b, c, found 'd'; rename"):
    cons_mtl_lib.cons_mtl(exclude=['d']).make_step(engines.step_parts(**parts))
  with pytest.raises(ValueError, match='found 2 microbatches; set training.a'):
    cons_mtl_lib.cons_mtl().make_step(engines.step_parts(**parts, accumulate=2))
