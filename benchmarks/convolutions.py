"""ResNet and MTAN by each form of their convolutions, on the CPU.

  python benchmarks/convolutions.py

Milliseconds of a training step of two tasks on images of 32 x 32 x 3, by XLA's
own convolutions and as products of patches (``conv='product'``), timed in turn;
the least of ten. Alone, and as one program for two seeds (vmap), per seed. Four
minutes.
"""

import itertools

import combinators_jax
import jax
import numpy as np
import optax
import serving

from mtl_jax import memory, models, tasks as tasks_lib
from mtl_jax.training import step as step_lib

BATCH, EDGE, SEEDS = 64, 32, 2
FORMS = ('xla', 'product')


def main():
  """Prints the table."""
  memory.keep_memory()
  print('| network | method | seeds | xla | product | xla / product |')
  print('|---|---|---|---|---|---|')
  cases = itertools.product(('hard', 'mtan'), ('plain', 'pcgrad'), (1, SEEDS))
  if jax.__version_info__ < (0, 12):  # XLA crashes in the last.
    cases = list(cases)[:-1]
  for sharing, method, seeds in cases:
    timers = {}
    for conv in FORMS:
      call = _step(sharing, method, seeds, conv)
      timers[conv] = lambda call=call: serving.turn(call)
    times = serving.interleaved(timers, 20, 10)
    xla, product = (times[conv] / seeds for conv in FORMS)
    name = 'ResNet' if sharing == 'hard' else 'MTAN over ResNet'
    print(
      f'| {name} | {method} | {seeds} | {xla:.1f} | {product:.1f} '
      f'| {xla / product:.2f} |',
      flush=True,
    )


def _step(sharing, method, seeds, conv):
  """A call that takes one more step."""
  tasks = [tasks_lib.binary(name) for name in ('a', 'b')]
  model = models.build_model(
    models.SHARING[sharing](),
    models.ResNet(inputs='inputs', conv=conv),
    {task.name: models.LinearHead(1) for task in tasks},
  )
  rng = np.random.default_rng(0)
  images = rng.normal(size=(BATCH, EDGE, EDGE, 3)).astype(np.float32)
  labels = {t.name: rng.integers(0, 2, BATCH) for t in tasks}
  batch = jax.device_put({'main': {'inputs': images, **labels}})
  tx = optax.chain(combinators_jax.STEPS[method](), optax.adam(1e-3))

  def init(seed):
    return step_lib.init_state(model, tx, jax.random.key(seed), batch)

  step = step_lib.make_train_step(model, tasks, tx)
  if seeds > 1:
    state = [jax.vmap(init)(np.arange(seeds))]
    step = jax.vmap(step, (0, None))
  else:
    state = [init(0)]
  step = jax.jit(step, donate_argnums=0)

  def call():
    state[0], _ = step(state[0], batch)
    jax.block_until_ready(state[0].params)

  call()
  return call


if __name__ == '__main__':
  main()
