"""The part of `benchmarks/combinators.py` that runs mtl_jax.

  python benchmarks/combinators_jax.py FOLDER

Reads ``problems.npz`` and ``plan.json`` there, and writes ``jax.npz`` (the
weights) and ``jax.json`` (milliseconds).
"""

import json
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import combinators, models, tasks as tasks_lib
from mtl_jax.training import state as state_lib, step as step_lib

# The problems as TorchJD poses them.
SOLVERS = {
  'aligned_mtl': combinators.aligned_mtl_weights(preset='torchjd'),
  'cagrad': combinators.cagrad_weights(preset='torchjd'),
  'dualproj': combinators.dualproj_weights(preset='torchjd'),
  'fairgrad': combinators.fairgrad_weights(2.0, preset='torchjd'),
  'imtl_g': combinators.imtl_g_weights(preset='torchjd'),
  'mgda': combinators.mgda_weights(preset='torchjd'),
  'nash_mtl': combinators.nash_mtl_weights(preset='torchjd'),
  'pcgrad': combinators.pcgrad_weights(),
  'upgrad': combinators.upgrad_weights(preset='torchjd'),
}
STEPS = {
  'plain': combinators.weighted_sum,
  'mgda': combinators.mgda,
  'nash_mtl': lambda: combinators.nash_mtl(preset='torchjd'),
  'pcgrad': combinators.pcgrad,
  'upgrad': lambda: combinators.upgrad(preset='torchjd'),
}


def solver(weighting):
  """``(gramian, key) -> weights``, compiled."""

  @jax.jit
  def solve(gramian, key):
    num = gramian.shape[0]
    gradients = combinators.gradients_from_jacobian(
      jnp.zeros((num, 1)), jnp.ones(num)
    ).with_gramian(gramian)
    return weighting.weights(
      gradients, weighting.init(None), key=key, step=0, epoch=0
    )[0]

  return solve


def milliseconds(call, repeats):
  """The times of a call, after one that is not counted."""
  jax.block_until_ready(call())
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(call())
    times.append(1e3 * (time.perf_counter() - start))
  return times


def solve_all(problems, plan):
  """Weights ``{name: [problems, K]}`` and milliseconds ``{name: median}``."""
  weights, times = {}, {}
  key = jax.random.key(0)
  for num in plan['solve_sizes']:
    for name in plan['solvers']:
      solve, found, spent = solver(SOLVERS[name]), [], []
      for gramian in problems[f'gramian_{num}']:
        gramian = jnp.asarray(gramian)
        spent += milliseconds(
          lambda solve=solve, g=gramian: solve(g, key), plan['repeats']
        )
        found.append(np.asarray(solve(gramian, key)))
      weights[f'{name}_{num}'] = np.array(found)
      times[f'{name}_{num}'] = float(np.median(spent))
  return weights, times


def step_once(name, num, problems, widths):
  """A call that takes one more training step, of all K tasks."""
  labels = problems['labels'][:, :num]
  tasks = [tasks_lib.binary(f't{i}') for i in range(num)]
  heads = {task.name: models.LinearHead(1) for task in tasks}
  model = models.hard_sharing(models.MLP(widths=tuple(widths)), heads)
  tx = optax.chain(STEPS[name](), optax.adam(1e-3))
  batch = {'inputs': problems['inputs']}
  batch |= {task.name: labels[:, i] for i, task in enumerate(tasks)}
  batch = jax.device_put({'main': batch})
  state = [state_lib.init_state(model, tx, jax.random.key(0), batch)]
  step = jax.jit(step_lib.make_train_step(model, tasks, tx), donate_argnums=0)

  def call():
    state[0], metrics = step(state[0], batch)
    return state[0].params, metrics

  return call


def main(folder):
  """Runs the plan."""
  plan = json.loads((folder / 'plan.json').read_text())
  problems = dict(np.load(folder / 'problems.npz'))
  weights, solved = solve_all(problems, plan)
  stepped = {}
  for num in plan['step_sizes']:
    for name in plan['steps']:
      call = step_once(name, num, problems, plan['widths'])
      stepped[f'{name}_{num}'] = float(
        np.median(milliseconds(call, plan['repeats']))
      )
  np.savez(folder / 'jax.npz', **weights)
  versions = f'jax {jax.__version__}, {jax.device_count()} {jax.devices()[0]}'
  (folder / 'jax.json').write_text(
    json.dumps({'mtl_jax': {'solve': solved, 'step': stepped, 'is': versions}})
  )


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))
