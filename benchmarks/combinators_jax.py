"""The part of `benchmarks/combinators.py` that runs mtl_jax.

  python benchmarks/combinators_jax.py FOLDER [split]

Reads ``problems.npz`` and ``plan.json`` there, and answers what it is asked
(`serving.serve`). With 'split' each core is a device, and has a part of the
batch of a step (``shard_map``).
"""

import functools
import json
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import serving
import workloads

import mtl_jax
from mtl_jax import combinators, memory, models, tasks as tasks_lib
from mtl_jax.training import engine as engine_lib, parallel, step as step_lib

# The problems as TorchJD poses them.
SOLVERS = {
  'aligned_mtl': combinators.aligned_mtl(preset='torchjd'),
  'cagrad': combinators.cagrad(preset='torchjd'),
  'dualproj': combinators.dualproj(preset='torchjd'),
  'fairgrad': combinators.fairgrad(2.0, preset='torchjd'),
  'imtl_g': combinators.imtl_g(preset='torchjd'),
  'mgda': combinators.mgda(preset='torchjd'),
  'nash_mtl': combinators.nash_mtl(preset='torchjd'),
  'pcgrad': combinators.pcgrad(),
  'upgrad': combinators.upgrad(preset='torchjd'),
}
STEPS = {
  'plain': combinators.weighted_sum,
  'mgda': combinators.mgda,
  'nash_mtl': lambda: combinators.nash_mtl(preset='torchjd'),
  'pcgrad': combinators.pcgrad,
  'upgrad': lambda: combinators.upgrad(preset='torchjd'),
}


def solver(method):
  """``(gramian, key) -> weights``, compiled."""
  weighting = combinators.weighting_of(method)

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


@functools.cache
def compiled(name):
  """A solver, compiled once a size."""
  return solver(SOLVERS[name])


def solve_call(case, problems):
  """A call that gives the weights of one problem."""
  gramian = jnp.asarray(problems[f'gramian_{case["num"]}'][case['problem']])
  solve, key = compiled(case['name']), jax.random.key(0)
  # To a list: what the other libraries give, and it waits for the result.
  return lambda: np.asarray(solve(gramian, key)).tolist()


def trunk_of(spec):
  """The shared network."""
  if spec['kind'] in ('mlp', 'mmoe'):
    return models.MLP(widths=tuple(spec['widths']))
  if spec['kind'] == 'lstm':
    return models.LSTM(features=spec['features'])
  if spec['kind'] == 'lenet':
    return models.LeNet(inputs='inputs')
  if spec['kind'] == 'transformer':
    return models.Transformer(
      features=spec['features'],
      num_layers=spec['layers'],
      num_heads=spec['heads'],
      hidden=spec['hidden'],
      positions='learned',
      max_length=spec['length'],
    )
  return models.CNNText(
    vocab_size=spec['vocabulary'],
    embed_dim=spec['width'],
    filters=spec['filters'],
    inputs='inputs',
  )


def workload(spec, num):
  """Model, K binary tasks, and a batch on the device."""
  inputs, labels = workloads.arrays(spec, num)
  tasks = [tasks_lib.binary(f't{i}') for i in range(num)]
  heads = {task.name: models.LinearHead(1) for task in tasks}
  sharing = models.hard_sharing()
  if spec['kind'] == 'mmoe':
    sharing = models.SHARING['mmoe'](experts=spec['experts'])
  model = models.build_model(sharing, trunk_of(spec), heads)
  batch = {'inputs': inputs}
  batch |= {task.name: labels[:, i] for i, task in enumerate(tasks)}
  return model, tasks, jax.device_put({'main': batch})


def step_call(spec, num, name, gramian='auto', chunk=0, split=False):
  """A call that takes one more training step, of all K tasks.

  It gives the losses, and how many seconds the step took to trace and compile.
  """
  model, tasks, batch = workload(spec, num)
  tx = optax.chain(STEPS[name](), optax.adam(1e-3))

  def make_step(axis_name=None):
    return step_lib.make_train_step(
      model, tasks, tx, gramian=gramian, chunk=chunk, axis_name=axis_name
    )

  def init():
    return step_lib.init_state(model, tx, jax.random.key(0), batch)

  if not split:
    state = [init()]
    step = jax.jit(make_step(), donate_argnums=0)
  else:
    mesh = parallel.make_mesh()
    state = [parallel.replicate(init, mesh)()]
    batch = parallel.shard_batch(batch, mesh)
    step = parallel.parallelize(make_step, mesh, 'shard_map')
  begin = time.perf_counter()
  step = step.lower(state[0], batch).compile()
  compile_s = time.perf_counter() - begin

  def call():
    state[0], metrics = step(state[0], batch)
    jax.block_until_ready((state[0].params, metrics))
    return {'losses': metrics['losses'].tolist(), 'compile_s': compile_s}

  return call


def planned(spec, num):
  """Way that 'auto' picks, as a call."""
  model, tasks, batch = workload(spec, num)
  params, state = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
  engine = engine_lib.Engine(model, tasks, gramian='auto')
  plan = engine.plan(params, state, batch)
  return lambda: [plan.gramian, plan.chunk, str(plan)]


def main(folder, *options):
  """Answers until there are no more questions."""
  memory.keep_memory()
  split = 'split' in options
  if split:
    mtl_jax.use_all_cores()
  plan = json.loads((folder / 'plan.json').read_text())
  problems = dict(np.load(folder / 'problems.npz'))

  def make(case):
    if case['part'] == 'solve':
      return solve_call(case, problems)
    spec = plan['workloads'][case['workload']]
    if case['part'] == 'plan':
      return planned(spec, case['num'])
    ways = {key: case[key] for key in ('gramian', 'chunk') if key in case}
    return step_call(spec, case['num'], case['name'], split=split, **ways)

  version = f'jax {jax.__version__}, {jax.device_count()} {jax.devices()[0]}'
  serving.serve(make, version, plan['limit'])


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
