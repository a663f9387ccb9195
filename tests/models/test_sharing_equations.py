"""PLE, cross-stitch, sluice and DSelect-k away from where they are simple.

By hand, in NumPy and float64.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sharing_by_hand import (
  TASKS,
  close,
  dense,
  doubles,
  expert_of,
  features_of,
  relu,
  softmax,
  started,
)

from mtl_jax import models
from mtl_jax.models.sharing import dselect


def weighed(weights, outputs):
  return sum(weights[:, e, None] * x for e, x in enumerate(outputs))


def test_ple_is_the_equation():
  """Two levels: gates of the second read what those of the first mixed."""
  model, params, state, batch = started(
    'ple', models.MLP(widths=(4,)), shared_experts=2, task_experts=1,
    level_widths=(5,),
  )  # fmt: skip
  found = features_of(model, params, state, batch)
  p, x = doubles(params), np.asarray(batch['inputs'], np.float64)

  def gate(own, read):
    return softmax(dense(own['Dense_0'], read))

  of_all = [expert_of(p['experts_0'], e)(x) for e in range(2)]
  own = {t: expert_of(p['task_experts_0'][t], 0)(x) for t in TASKS}
  below = {
    t: weighed(gate(p['gates_0'][t], x), [own[t], *of_all]) for t in TASKS
  }
  every = [*of_all, *own.values()]
  below_all = weighed(gate(p['shared_gate_0'], x), every)
  of_all = [expert_of(p['experts_1'], e)(below_all) for e in range(2)]
  for t in TASKS:
    own = expert_of(p['task_experts_1'][t], 0)(below[t])
    weights = gate(p['gates_1'][t], below[t])
    close(found[t], weighed(weights, [own, *of_all]))


def layer(p, i, task, x):
  return relu(dense(p[f'trunks_{i}'][task]['Dense_0'], x))


@pytest.mark.parametrize('per_unit', [False, True])
def test_cross_stitch_is_the_equation(per_unit):
  model, params, state, batch = started(
    'cross_stitch', models.MLP(widths=(5, 4)), per_layer=True,
    per_unit=per_unit,
  )  # fmt: skip
  found = features_of(model, params, state, batch)
  p, x = doubles(params), np.asarray(batch['inputs'], np.float64)
  x = dict.fromkeys(TASKS, x)
  for i in range(2):
    outputs = {t: layer(p, i, t, x[t]) for t in TASKS}
    # A row a[j], or a[j, f] of each unit.
    x = {
      t: sum(p[f'stitch_{i}'][t][j] * outputs[u] for j, u in enumerate(TASKS))
      for t in TASKS
    }
  for t in TASKS:
    close(found[t], x[t])


def test_sluice_is_the_equation():
  """Halves, mixtures, the choice of layers, and the penalty."""
  model, params, state, batch = started(
    'sluice', models.MLP(widths=(4, 4)), per_layer=True, orthogonality=0.3
  )
  found = features_of(model, params, state, batch)
  p, x = doubles(params), np.asarray(batch['inputs'], np.float64)
  x, seen = dict.fromkeys(TASKS, x), []
  for i in range(2):
    outputs = [layer(p, i, t, x[t]) for t in TASKS]
    halves = [half for o in outputs for half in (o[:, :2], o[:, 2:])]
    x = {
      t: np.hstack(
        [
          sum(p[f'mix_{i}'][t][g, h] * half for h, half in enumerate(halves))
          for g in range(2)
        ]
      )
      for t in TASKS
    }
    seen.append(x)
  for t in TASKS:
    own = sum(p['layers'][t][i] * seen[i][t] for i in range(2))
    close(found[t], own)
  total = 0.0
  for i in range(2):
    for t in TASKS:
      kernel = p[f'trunks_{i}'][t]['Dense_0']['kernel']
      total += ((kernel[:, :2].T @ kernel[:, 2:]) ** 2).sum()
  penalty = model.penalty(params, state, {'main': batch}, train=True, key=None)
  close(penalty, 0.3 * total)


def selected(codes, mixture, gamma, experts):
  """Weights ``[B, E]`` and penalty ``[B]`` of codes ``[B, k, m]``."""
  codes, weights = np.clip(codes, -gamma / 2, gamma / 2), 0.0
  steps = -2 / gamma**3 * codes**3 + 3 / (2 * gamma) * codes + 0.5
  penalty = np.zeros(len(codes))
  for s in range(codes.shape[1]):
    r = np.ones((len(codes), experts))
    for e in range(experts):
      for j in range(codes.shape[2]):
        step = steps[:, s, j]
        r[:, e] *= step if e >> j & 1 else 1 - step
    weights = weights + softmax(mixture)[:, s, None] * r
    with np.errstate(divide='ignore', invalid='ignore'):
      penalty -= np.where(r > 0, r * np.log(r), 0).sum(1)
    if experts & (experts - 1):
      penalty += 1 / r.sum(1)
  return weights, penalty


@pytest.mark.parametrize('experts', [3, 4])
@pytest.mark.parametrize('per_example', [False, True])
def test_dselect_is_the_equation(experts, per_example):
  """Also between the ends of the smooth step, and of every task."""
  gamma = 1.5
  model, params, state, batch = started(
    'dselect_k', models.MLP(widths=(4,)), experts=experts, gamma=gamma,
    per_example=per_example, entropy=0.3,
  )  # fmt: skip
  params = {**params, 'gates': jax.tree.map(lambda x: x / 3, params['gates'])}
  found = features_of(model, params, state, batch)
  p, x = doubles(params), np.asarray(batch['inputs'], np.float64)
  outputs = [expert_of(p['experts'], e)(x) for e in range(experts)]
  total, inside = 0.0, 0
  for t in TASKS:
    gate = p['gates'][t]
    if per_example:
      codes = dense(gate['codes'], x).reshape(len(x), 2, -1)
      mixture = dense(gate['mixture'], x)
    else:
      codes = np.tile(gate['codes'], (len(x), 1, 1))
      mixture = np.tile(gate['mixture'], (len(x), 1))
    weights, penalty = selected(codes, mixture, gamma, experts)
    close(found[t], weighed(weights, outputs))
    total += penalty.mean()
    inside += (np.abs(codes) < gamma / 2).mean() / len(TASKS)
  assert inside > 0.5  # where a ramp, or a step, would tell
  penalty = functools.partial(
    model.penalty, model_state=state, batch={'main': batch}, train=True,
    key=None,
  )  # fmt: skip
  close(penalty(params), 0.3 * total)


def test_dselect_comes_to_k_experts():
  """Trained to what lies between two of four outputs."""
  gate = dselect.DSelectGate(4, 2, 1.0, per_example=False)
  batch = {'inputs': jnp.ones((1, 1))}
  params = gate.init(jax.random.key(0), batch, train=False)['params']
  tx = optax.adam(0.05)

  def loss(params):
    found = gate.apply({'params': params}, batch, train=False)[0]
    outputs = jnp.array([0.0, 3.0, 2.0, 0.5])
    return (found[:4] @ outputs - 2.5) ** 2 + 0.1 * found[4]

  @jax.jit
  def train(params):
    def step(carry, _):
      params, state = carry
      updates, state = tx.update(jax.grad(loss)(params), state)
      return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), None, 500)[0][0]

  weights = np.asarray(
    gate.apply({'params': train(params)}, batch, train=False)
  )
  weights = weights[0, :4]
  assert 1 <= np.count_nonzero(weights) <= 2
  close(weights.sum(), 1.0)
